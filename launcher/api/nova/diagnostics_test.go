package nova

import (
	"testing"
	"time"

	"github.com/slipway-vm/slipway/guest/agent"
	"github.com/slipway-vm/slipway/launcher"
)

func TestDiagnostics(t *testing.T) {
	stats := &launcher.Stats{
		Stats: agent.Stats{
			At: 90 * time.Second, CPU: 2 * time.Second, CPUs: 1, MemoryTotal: 256 << 20, MemoryAvailable: 200 << 20,
			Links: []agent.LinkStats{{Name: "eth0", RxBytes: 1, RxPackets: 2, TxBytes: 3, TxPackets: 4}},
		},
		Host: &launcher.HostUsage{Memory: 100 << 20, Read: 5, Written: 6},
	}
	srv := &launcher.Server{Power: launcher.PowerRunning, Accel: "tcg"}
	golden(t, "diagnostics-2.1", libvirtDiagnostics(stats))
	golden(t, "diagnostics-2.48", viewDiagnostics(srv, stats))
}

// A server that does not run has nothing to tell.
func TestDiagnosticsOfStopped(t *testing.T) {
	f := newFleet(t)
	id := f.make("web", "")
	f.do(member(project), "", "POST", "/v2.1/servers/"+id+"/action", `{"os-stop":null}`, 202)
	f.until(id, "SHUTOFF")
	v := f.do(admin(project), "", "GET", "/v2.1/servers/"+id+"/diagnostics", "", 409)
	want := "Cannot 'get_diagnostics' instance " + id + " while it is in vm_state stopped"
	if got := v["conflictingRequest"].(map[string]any)["message"]; got != want {
		t.Errorf("message %q, want %q", got, want)
	}
}
