//go:build guest

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-vm/slipway/cmd/internal/traces"
)

// somebody is an ordinary user with a home: nobody, who may do nothing here.
func somebody(t *testing.T) *state {
	t.Helper()
	if err := os.Chmod(scratch, 0o711); err != nil {
		t.Fatal(err)
	}
	home := newDir(t)
	s := &state{t: t, dir: filepath.Join(home, ".local/state/slipway")}
	s.under = []string{"setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"}
	for _, e := range environ("") {
		if !strings.HasPrefix(e, "SLIPWAY_") && !strings.HasPrefix(e, "HOME=") && !strings.HasPrefix(e, "XDG_") {
			s.env = append(s.env, e)
		}
	}
	s.env = append(s.env, "HOME="+home)
	// What lies below another's home he cannot read.
	for from, to := range map[string]string{
		filepath.Join(prepared, "kernels"):   filepath.Join(s.dir, "kernels"),
		bin:                                  filepath.Join(home, "bin"),
		filepath.Join(imageDir, "busybox"):   filepath.Join(home, "busybox"),
		filepath.Join(prepared, "host.json"): filepath.Join(s.dir, "host.json"),
	} {
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("cp", "-rL", from, to).CombinedOutput(); err != nil {
			t.Fatalf("copy %s: %v\n%s", from, err, out)
		}
	}
	if out, err := exec.Command("chown", "-R", "nobody:nogroup", home).CombinedOutput(); err != nil {
		t.Fatalf("chown: %v\n%s", err, out)
	}
	s.program = filepath.Join(home, "bin/slipway")
	t.Cleanup(s.end)
	return s
}

// An ordinary user boots, works in and stops a server: as himself, on disks, with
// nothing mounted, below his home.
func TestRootless(t *testing.T) {
	s := somebody(t)
	image := "oci:" + filepath.Join(s.dir, "../../../busybox")
	doctor := s.run("host", "doctor", "-f", "value").ok()
	if !strings.Contains(doctor.stdout, "privileges limited") || !strings.Contains(doctor.stdout, "uses: root mode ok block") {
		t.Errorf("the doctor says:\n%s", doctor.stdout)
	}
	s.run("boot", "--root", "virtiofs", image, "true").exits(125).complains("root mode virtiofs needs root", "--root block")
	s.run("boot", "-v", "/tmp:/mnt", image, "true").exits(125).complains("volumes need root")
	s.run("boot", "-p", "8080:80", image, "true").exits(125).complains("published ports need root")
	s.run("boot", "-d", "--name", "mine", image, "sh", "-c", "echo up; echo kept >/kept; exec sleep 1000").ok()
	s.run("server", "exec", "mine", "sh", "-c", "id -u; until test -s /kept; do sleep 0.1; done; cat /kept").ok().says("0\nkept\n")
	var qemus int
	for pid, args := range traces.Processes() {
		if !slices.ContainsFunc(args, func(a string) bool { return strings.Contains(a, s.dir) }) {
			continue
		}
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if !bytes.Contains(status, []byte("\nUid:\t65534\t65534\t65534\t65534\n")) {
			t.Errorf("process %d (%s) is not nobody's:\n%s", pid, args[0], status)
		}
		if strings.Contains(args[0], "qemu-system") {
			qemus++
		}
	}
	if qemus != 1 {
		t.Errorf("%d QEMUs run", qemus)
	}
	s.run("server", "set", "--root", "9p", "mine").exits(1).complains("needs root")
	s.run("server", "stop", "-t", "1s", "mine").ok()
	s.run("server", "start", "mine").ok()
	s.run("server", "exec", "mine", "cat", "/kept").ok().says("kept\n")
}
