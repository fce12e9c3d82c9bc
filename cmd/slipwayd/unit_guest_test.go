//go:build guest

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// inUnit is run beside the service: %s is the image.
const inUnit = `
is() { # PROPERTY VALUE: within a minute
	for ((n = 0; n < 600; n++)); do
		[[ $(systemctl show slipwayd -p "$1" --value) = "$2" ]] && return
		sleep 0.1
	done
	systemctl status slipwayd --no-pager
	return 1
}
export SLIPWAY_STATE_DIR=/var/lib/slipway
is SubState running
grep -q '^NoNewPrivs:.1$' "/proc/$(systemctl show slipwayd -p MainPID --value)/status"
slipway kernel import /mnt/minimal
slipway boot --detach --name web --network none %[1]s
slipway boot --detach --name disk --root block --network none %[1]s

# The watchdog is fed, and only as long as the service lives.
fed=$(systemctl show slipwayd -p WatchdogTimestampMonotonic --value)
sleep 8
is NRestarts 0
((fed < $(systemctl show slipwayd -p WatchdogTimestampMonotonic --value)))
systemctl kill --signal KILL --kill-whom main slipwayd
is NRestarts 1
is SubState running
kill -STOP "$(systemctl show slipwayd -p MainPID --value)"
is NRestarts 2
is SubState running
systemctl restart slipwayd
is SubState running

# Servers have seen nothing of it.
[[ $(slipway server list -f value -c Status | sort | uniq -c | xargs) = '2 ACTIVE' ]]
slipway server exec web cat /proc/uptime
slipway server stop web
slipway server start web
slipway server delete web disk
systemctl stop slipwayd
is ActiveState inactive
is Result success
echo all well
`

// TestUnit has systemd start the service by the unit in etc: it becomes ready, boots
// servers within its sandbox, and is started again when it dies or hangs.
func TestUnit(t *testing.T) {
	dir := newStateDir(t)
	image := newImage(t, numbering)
	script, err := filepath.Abs("testdata/unit.sh")
	if err != nil {
		t.Fatal(err)
	}
	copied := exec.Command("cp", "-r", os.Getenv("SLIPWAY_TEST_BIN"), filepath.Join(dir, "bin"))
	if out, err := copied.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", copied, err, out)
	}
	for from, to := range map[string]string{
		strings.TrimPrefix(image, "oci:"): "image", os.Getenv("SLIPWAY_TEST_KERNEL"): "minimal", "../../etc/systemd/slipwayd.service": "slipwayd.service",
	} {
		if out, err := exec.Command("cp", "-r", from, filepath.Join(dir, to)).CombinedOutput(); err != nil {
			t.Fatalf("copy %s: %v\n%s", from, err, out)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "inside"), fmt.Appendf(nil, inUnit, "oci:/mnt/image"), 0o600); err != nil {
		t.Fatal(err)
	}
	group := newControlGroup(t)
	cmd := exec.CommandContext(t.Context(), "unshare", "--pid", "--fork", "--kill-child", "--mount", "--uts", "--ipc", "--cgroup", "--propagation", "private", "bash", script, dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd())}
	out, err := cmd.CombinedOutput()
	inside, _ := os.ReadFile(filepath.Join(dir, "inside.log"))
	if err != nil || !strings.HasSuffix(string(inside), "\nall well\n") {
		log, _ := os.ReadFile(filepath.Join(dir, "slipwayd.log"))
		t.Errorf("%v\nsystemd wrote:\n%s\nthe test:\n%s\nslipwayd:\n%s", err, out, inside, log)
	}
}

// newControlGroup makes a control group of version 2, wherever that is mounted.
func newControlGroup(t *testing.T) *os.File {
	t.Helper()
	top, err := exec.Command("findmnt", "--types", "cgroup2", "--noheadings", "--first-only", "--output", "TARGET").Output()
	if err != nil {
		t.Fatalf("no control groups of version 2: %v", err)
	}
	dir := filepath.Join(strings.TrimSpace(string(top)), "slipway-unit-test")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	group, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = group.Close()
		// systemd's own groups are in it, and empty.
		if out, err := exec.Command("find", dir, "-depth", "-type", "d", "-delete").CombinedOutput(); err != nil {
			t.Errorf("remove control groups: %v\n%s", err, out)
		}
	})
	return group
}
