package nova

import (
	"testing"
	"time"

	"github.com/slipway-vm/slipway/launcher"
)

// A server that ends at once is seen active for a while, and can be stopped and
// deleted like one that is.
func TestShortLivedServer(t *testing.T) {
	f := newFleet(t)
	srv, err := f.m.CreateFor(t.Context(), launcher.NewServer{
		Spec:    launcher.Spec{Name: "brief", Image: string(f.image), Command: []string{"/run", "ends"}},
		Project: project, User: "user",
	})
	if err != nil {
		t.Fatal(err)
	}
	f.until(srv.ID, "SHUTOFF")
	look := func() (status, state any) {
		s := f.do(reader(project), "2.1", "GET", "/v2.1/servers/"+srv.ID, "", 200)["server"].(map[string]any)
		return s["status"], s["OS-EXT-STS:power_state"]
	}
	if status, power := look(); status != "ACTIVE" || power != float64(launcher.PowerShutdown) {
		t.Errorf("just ended: %v, power state %v", status, power)
	}
	for status, want := range map[string]int{"ACTIVE": 1, "SHUTOFF": 0} {
		if v := f.do(reader(project), "2.1", "GET", "/v2.1/servers?status="+status, "", 200); len(v["servers"].([]any)) != want {
			t.Errorf("listed as %s: %v", status, v)
		}
	}
	f.do(member(project), "2.1", "POST", "/v2.1/servers/"+srv.ID+"/action", `{"os-stop":null}`, 202)
	if status, _ := look(); status != "SHUTOFF" {
		t.Errorf("after a stop: %v", status)
	}
	f.do(member(project), "2.1", "POST", "/v2.1/servers/"+srv.ID+"/action", `{"os-stop":null}`, 409)
}

func TestShown(t *testing.T) {
	now := time.Now()
	ended := launcher.Server{VMState: launcher.VMStopped, Launched: now, Exit: &launcher.Exit{}}
	for name, c := range map[string]struct {
		change func(*launcher.Server)
		want   string
	}{
		"just ended":     {func(*launcher.Server) {}, "ACTIVE"},
		"a while later":  {func(s *launcher.Server) { s.Launched = now.Add(-settleTime) }, "SHUTOFF"},
		"stopped":        {func(s *launcher.Server) { s.Exit = &launcher.Exit{Asked: true} }, "SHUTOFF"},
		"never launched": {func(s *launcher.Server) { s.Launched, s.VMState = time.Time{}, launcher.VMError }, "ERROR"},
		"starting again": {func(s *launcher.Server) { s.TaskState, s.Exit = launcher.TaskPoweringOn, nil }, "SHUTOFF"},
		"resized":        {func(s *launcher.Server) { s.VMState = launcher.VMResized }, "VERIFY_RESIZE"},
	} {
		s := ended
		c.change(&s)
		if s = shown(s); s.Status() != c.want {
			t.Errorf("%s: shown as %s", name, s.Status())
		}
	}
}
