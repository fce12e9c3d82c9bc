package nova

import (
	"testing"
	"time"

	"github.com/slipway-vm/slipway/launcher"
)

// A deleted server is counted until its end.
func TestUsageOfDeleted(t *testing.T) {
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := launcher.Server{VMState: launcher.VMDeleted, Created: began, Terminated: began.Add(3 * time.Hour)}
	for name, c := range map[string]struct {
		start, stop time.Duration
		hours       decimal
	}{
		"all of it": {0, 24 * time.Hour, 3}, "its end": {2 * time.Hour, 24 * time.Hour, 1},
		"its beginning": {-time.Hour, time.Hour, 1}, "afterwards": {4 * time.Hour, 5 * time.Hour, 0},
	} {
		u := period{began.Add(c.start), began.Add(c.stop)}.of(s)
		if u.Hours != c.hours || u.State != "terminated" || u.Ended == nil || u.Uptime != 3*60*60 {
			t.Errorf("%s: %+v, want %v hours", name, u, c.hours)
		}
	}
}

func TestUsageHasDeletedServers(t *testing.T) {
	f := newFleet(t)
	id := f.make("web", "")
	path := "/v2.1/os-simple-tenant-usage/" + project + "?start=2020-01-01T00:00:00"
	for range 2 {
		usage := f.do(member(project), "2.1", "GET", path, "", 200)["tenant_usage"].(map[string]any)
		if list, _ := usage["server_usages"].([]any); len(list) != 1 {
			t.Errorf("servers in the usage: %v", usage)
		}
		if err := f.m.Delete(t.Context(), id); err != nil && f.m.Deleted() == nil {
			t.Fatal(err)
		}
	}
}
