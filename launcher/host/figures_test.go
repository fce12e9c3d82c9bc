package host

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestFiguresOfThisHost(t *testing.T) {
	f, err := ReadFigures(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if f.CPUs < 1 || f.Memory < 64<<20 || f.MemoryFree > f.Memory || f.Disk < f.DiskFree || f.Disk == 0 || !strings.Contains(f.Uptime, "load average: ") {
		t.Errorf("figures %+v", f)
	}
	if _, err := ReadFigures(t.Context(), "/nosuch"); err == nil {
		t.Error("no error for a directory that is not there")
	}
}

func TestUptimeLine(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for up, want := range map[string]string{
		"59.9 1\n":     "up 0 min,",
		"3661.00 1\n":  "up  1:01,",
		"86400.0 1\n":  "up 1 day, 0 min,",
		"180000.0 1\n": "up 2 days,  2:00,",
	} {
		line := uptimeLine(now, up, "0.10 0.20 0.30 1/2 3\n")
		if !strings.HasPrefix(line, " 03:04:05 "+want) || !strings.HasSuffix(line, "load average: 0.10, 0.20, 0.30") {
			t.Errorf("%q: %q", up, line)
		}
	}
}

func TestReadCPU(t *testing.T) {
	c := readCPU(map[string]string{"model name": "M", "vendor_id": "V", "flags": "sse aes", "cpu cores": "4", "siblings": "8"}, 16)
	if c.Topology != (CPUTopology{Cells: 1, Sockets: 2, Cores: 4, Threads: 2}) || !slices.Equal(c.Features, []string{"aes", "sse"}) {
		t.Errorf("%+v", c)
	}
	if c := readCPU(nil, 3); c.Topology != (CPUTopology{Cells: 1, Sockets: 3, Cores: 1, Threads: 1}) {
		t.Errorf("knowing nothing: %+v", c)
	}
}
