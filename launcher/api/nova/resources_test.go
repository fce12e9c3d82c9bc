package nova

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/compute"
	"github.com/slipway-vm/slipway/launcher/host"
	"github.com/slipway-vm/slipway/launcher/launchertest"
	"github.com/slipway-vm/slipway/rootfs"
)

var update = flag.Bool("update", false, "write the golden files")

// cloud is the API on a store of its own, with a stopped server in the project.
func cloud(t *testing.T) http.Handler {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "sln") //nolint:usetesting // t.TempDir is too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	created := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	records := &launchertest.Store{}
	if err := records.Save(t.Context(), &launcher.Server{
		ID: "11111111-2222-4333-8444-555555555555", Name: "web", Project: project, User: "user-of-" + project,
		VMState: launcher.VMStopped, Created: created, Updated: created,
		Flavor: launcher.Flavor{Name: "m1.tiny", VCPUs: 2, Memory: 512 << 20, Disk: 1 << 30},
	}); err != nil {
		t.Fatal(err)
	}
	roots, err := rootfs.Open(t.Context(), rootfs.Config{Dir: dir + "/rootfs"})
	if err != nil {
		t.Fatal(err)
	}
	m, err := launcher.New(t.Context(), launcher.Config{
		Dir: dir + "/servers", Roots: roots, Store: records, Hypervisor: &launchertest.Hypervisor{},
		Kernels: launchertest.Kernels{}, Host: launchertest.Host{}, DomainPrefix: "test-",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(m.Close(), roots.Close()); err != nil {
			t.Error(err)
		}
	})
	ticks := created
	c, err := compute.Open(t.Context(), compute.Config{
		Store: &launchertest.Records{}, Host: "host", DefaultFlavor: "m1.tiny", Servers: m.Each,
		Flavors: []launcher.Flavor{
			{Name: "m1.tiny", VCPUs: 1, Memory: 512 << 20, Disk: 1 << 30}, {Name: "m1.small", VCPUs: 1, Memory: 2 << 30, Disk: 20 << 30},
		},
		Now: func() time.Time { ticks = ticks.Add(time.Second); return ticks },
	})
	if err != nil {
		t.Fatal(err)
	}
	return New(Config{
		Manager: m, Compute: c, Host: "host",
		Figures: func(context.Context) (Figures, error) {
			return Figures{Address: "192.0.2.1", Version: 7002000, Figures: host.Figures{
				CPUs: 8, Memory: 16 << 30, MemoryFree: 8 << 30, Disk: 100 << 30, DiskFree: 50 << 30, Uptime: " 03:04:05 up  1:00,  0 users,  load average: 0.00, 0.00, 0.00",
				CPU: host.CPU{Arch: "x86_64", Model: "Model", Vendor: "Vendor", Features: []string{"aes"}, Topology: host.CPUTopology{Cells: 1, Sockets: 1, Cores: 4, Threads: 2}},
			}}, nil
		},
		ProjectExists: func(_ context.Context, id string) (bool, error) { return id == project || id == other, nil },
	})
}

// volatile is what differs from run to run.
var volatile = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[45][0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}|"(updated_at|start|stop)": "20[^"]*"|"hours": [0-9.e+]+|"total_[a-z_]+": [0-9.e+]+|"uptime": [0-9]+|-----BEGIN[^"]*|ssh-rsa [^"]*Nova|([0-9a-f]{2}:){15}[0-9a-f]{2}`)

// transcript makes requests, and writes them with their answers. A line of the
// script is a caller, a microversion, a method, a path and perhaps a body. $1 is the
// first UUID that any answer gave, $2 the second.
func transcript(t *testing.T, h http.Handler, script string) string {
	t.Helper()
	callers := map[string]*openstack.Caller{
		"admin":    {UserID: "root", ProjectID: project, Roles: []string{openstack.Admin}},
		"member":   member(project),
		"stranger": member(other),
		"reader":   {UserID: "user-of-" + project, ProjectID: project, Roles: []string{openstack.Reader}},
		"nobody":   {UserID: "nobody"},
	}
	var out strings.Builder
	var ids []string
	for line := range strings.SplitSeq(strings.TrimSpace(script), "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			fmt.Fprintf(&out, "%s\n", line)
			continue
		}
		words := append(strings.SplitN(line, " ", 5), "")
		path, body := words[3], words[4]
		for i, id := range ids {
			path = strings.ReplaceAll(path, fmt.Sprintf("$%d", i+1), id)
		}
		w := call(t, h, callers[words[0]], words[1], words[2], "/v2.1"+path, body)
		answer := w.Body.Bytes()
		var pretty bytes.Buffer
		if json.Indent(&pretty, answer, "", "  ") == nil {
			answer = pretty.Bytes()
		}
		masked := volatile.ReplaceAllStringFunc(string(answer), func(s string) string {
			if name, _, ok := strings.Cut(s, ": "); ok && name[0] == '"' {
				return name + ": *"
			}
			if len(s) != 36 {
				return "*"
			}
			for i, id := range ids {
				if id == s {
					return fmt.Sprintf("$%d", i+1)
				}
			}
			ids = append(ids, s)
			return fmt.Sprintf("$%d", len(ids))
		})
		fmt.Fprintf(&out, "%s\n%d %s\n\n", line, w.Code, masked)
	}
	return out.String()
}

// TestResources holds scripts of requests against recorded answers.
func TestResources(t *testing.T) {
	scripts, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range scripts {
		name, ok := strings.CutSuffix(file.Name(), ".script")
		if !ok {
			continue
		}
		t.Run(name, func(t *testing.T) {
			script, err := os.ReadFile("testdata/" + name + ".script")
			if err != nil {
				t.Fatal(err)
			}
			got := transcript(t, cloud(t), string(script))
			golden := "testdata/" + name + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("answers differ from %s; -update writes them:\n%s", golden, difference(string(want), got))
			}
		})
	}
}

// difference shows the first line that differs, and what leads to it.
func difference(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			from := max(0, i-20)
			return strings.Join(a[from:i], "\n") + "\n- " + a[i] + "\n+ " + b[i]
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(b), len(a))
}
