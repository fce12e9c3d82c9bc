//go:build guest

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// dockerd, in a server without a network, has the images of a preloaded disk as if it had
// pulled them, and runs them.
func TestPreload(t *testing.T) {
	t.Parallel()
	image := filepath.Join(imageDir, "docker")
	if _, err := os.Stat(image); err != nil {
		t.Fatalf("SLIPWAY_TEST_IMAGES, %v: run this test with `make test`", err)
	}
	s := newState(t)
	set := filepath.Join(t.TempDir(), "set.qcow2")
	s.run("image", "preload", "busybox:1="+busybox, "oci:"+filepath.Join(imageDir, "hello"), "-o", set).ok()
	s.run("boot", "-d", "--name", "dock", "--vcpus", "2", "--memory", "1G", "--disk", "2G", "--network", "none", "--preload", set, "oci:"+image).ok()
	docker := func(args ...string) *result {
		return s.run(append([]string{"server", "exec", "dock", "docker"}, args...)...)
	}
	eventually(t, systemTime, func() error {
		return lacks(docker("images", "--format", "{{.Repository}}:{{.Tag}}").stdout, "busybox:1\n", "hello:latest\n")
	})
	docker("run", "--rm", "--network", "none", "busybox:1", "echo", "from a container").ok().says("from a container\n")
	// Both lie on the disk alone: what dockerd has written besides is small.
	used := s.run("server", "exec", "dock", "du", "-sxm", "/var/lib/docker/overlay2").ok().stdout
	if mb, _, _ := strings.Cut(used, "\t"); mb != "1" {
		t.Errorf("dockerd's layers take %q", used)
	}
}
