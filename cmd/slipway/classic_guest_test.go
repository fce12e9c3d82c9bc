//go:build guest

package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestClassic boots a Debian cloud image, whose own cloud-init runs a container
// image's entrypoint in its root.
func TestClassic(t *testing.T) {
	t.Parallel()
	base := filepath.Join(imageDir, "cloud.qcow2")
	before, err := os.Stat(base)
	if err != nil {
		t.Fatalf("SLIPWAY_TEST_IMAGES, %v: run this test with `make test`", err)
	}
	s := newState(t)
	s.run("boot", "--base-vm-image", base, "--root", "block", busybox, "true").exits(125).complains("--root virtiofs or 9p")
	s.run("boot", "--base-vm-image", "/nowhere", busybox, "true").exits(125).complains("no such file")

	file := userData(t, "#cloud-config\nwrite_files: [{path: /etc/told, content: the base was told}]\nruncmd: [cat /etc/told >/dev/console]\n")
	s.patience = 12 * time.Minute
	c := s.start("boot", "--name", "classic", "--base-vm-image", base, "--user-data", file, "--memory", "1G", busybox,
		"sh", "-c", `echo "inside: $(cat /proc/1/comm) of $(ls /bin/not-executable /etc/debian_version 2>&1)"; while [ ! -e /go ]; do sleep 1; done; exit 7`)
	c.expect("inside: ")
	// It is a server like any other, and the entrypoint sees nothing of the base.
	s.run("server", "exec", "classic", "sh", "-c", "cat /etc/told; head -n 1 /etc/passwd").ok().says("root:x:0:0:root:/root:/bin/sh\n")
	eventually(t, s.patience, func() error {
		if console := s.run("server", "logs", "--console", "classic").stdout; !strings.Contains(console, "the base was told") {
			return errors.New("the base's cloud-init has not done what it was told:\n" + tail(console))
		}
		return nil
	})
	s.run("server", "exec", "classic", "sh", "-c", "touch /go").ok()
	r := c.wait().exits(7)
	const inside = "inside: sh of ls: /etc/debian_version: No such file or directory\n/bin/not-executable"
	if got := strings.TrimSpace(r.stdout); got != inside {
		t.Errorf("stdout %q, want %q", got, inside)
	}
	console := s.run("server", "logs", "--console", "classic").ok().stdout
	for _, want := range []string{"Linux version", "Cloud-init v.", "inside: sh of"} {
		if !strings.Contains(console, want) {
			t.Errorf("no %q on the console:\n%s", want, tail(console))
		}
	}
	// What the base's system has written went to a clone.
	if after, err := os.Stat(base); err != nil || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("the base VM image has changed: %v, err %v", after, err)
	}
}
