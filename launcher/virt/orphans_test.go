package virt

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// TestHoldLock is no test: it is the process that holds a pid file in the tests.
func TestHoldLock(t *testing.T) {
	path := os.Getenv("TEST_HOLD_LOCK")
	if path == "" {
		return
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Len: 1}); err != nil {
		t.Fatal(err)
	}
	_, _ = os.Stdout.WriteString("held\n")
	_, _ = os.Stdin.Read(make([]byte, 1))
}

// holdLock has a process hold a pid file until it is killed.
func holdLock(t *testing.T, path string) (ended <-chan error) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestHoldLock$")
	cmd.Env = append(os.Environ(), "TEST_HOLD_LOCK="+path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close() })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
		t.Fatal(line, err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	return done
}

func TestClearOrphans(t *testing.T) {
	root := t.TempDir()
	const (
		unborn = "t-11111111-2222-4333-8444-555555555555" // QEMU was about to be started
		runs   = "t-66666666-2222-4333-8444-555555555555"
		unsaid = "t-77777777-2222-4333-8444-555555555555" // no record yet
	)
	keep := []string{
		"lib/qemu/domain-4-" + runs[:20], "run/qemu/4-" + runs[:20] + "-fs0-fs.pid",
		"run/qemu/driver.pid", "run/qemu/" + runs + ".pid", "run/qemu/" + runs + ".xml",
	}
	files := map[string]string{
		"run/qemu/" + unborn + ".xml":                  "<!-- w -->\n<domstatus state='paused' reason='starting up' pid='0'>\n</domstatus>",
		"run/qemu/" + runs + ".xml":                    "<domstatus state='running' reason='booted' pid='17'>\n<x pid='0'/></domstatus>",
		"run/qemu/3-" + unborn[:20] + "-fs0-fs.pid":    "1",
		"run/qemu/" + unborn + ".pid":                  "1",
		"run/qemu/4-" + runs[:20] + "-fs0-fs.pid":      "1",
		"run/qemu/" + runs + ".pid":                    "1",
		"run/qemu/5-" + unsaid[:20] + "-fs0-fs.pid":    "1",
		"run/qemu/" + unsaid + ".xml.new":              "<domst",
		"run/qemu/" + runs + ".xml.new":                "<domst",
		"run/qemu/driver.pid":                          "1",
		"lib/qemu/domain-3-" + unborn[:20] + "/socket": "",
		"lib/qemu/domain-4-" + runs[:20] + "/socket":   "",
		"lib/qemu/domain-5-" + unsaid[:20] + "/socket": "",
		"lib/qemu/qmp-Xq3f2a/qmp.pid":                  "1",
	}
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ours := holdLock(t, filepath.Join(root, "run/qemu/5-"+unsaid[:20]+"-fs0-fs.pid"))
	others := holdLock(t, filepath.Join(root, "run/qemu/"+runs+".pid"))
	if err := clearOrphans(root); err != nil {
		t.Fatal(err)
	}
	if err := <-ours; err == nil {
		t.Error("the holder of an orphan's file was not killed")
	}
	select {
	case err := <-others:
		t.Errorf("the holder of a running domain's file ended: %v", err)
	default:
	}
	left, err := filepath.Glob(filepath.Join(root, "*/qemu/*"))
	for i := range left {
		left[i], _ = filepath.Rel(root, left[i])
	}
	if slices.Sort(left); err != nil || !slices.Equal(left, keep) {
		t.Errorf("left %q, %v, want %q", left, err, keep)
	}
}
