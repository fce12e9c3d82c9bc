//go:build guest

package main

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// rootModes are all the ways in which a root reaches its guest.
var rootModes = []string{"virtiofs", "9p", "block"}

// A server's root is its own: it keeps what is written through a stop and a
// start, up to its limit, and neither the base nor another server sees any of it.
func TestRoot(t *testing.T) {
	for _, mode := range rootModes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newState(t)
			s.run("image", "pull", "--quiet", busybox).ok()
			before := digests(t, filepath.Join(s.dir, "rootfs", "layers"))

			// It writes over the base, deletes from it, fills its disk, and goes on.
			const first = `echo mine >/etc/passwd; rm /bin/loop; mkdir /etc/mine
				dd if=/dev/zero of=/full bs=1M count=200 2>&1 | grep -o "No space left on device"
				rm /full; echo kept >/kept; cat /kept; exec sleep 1000`
			const script = `if [ -e /kept ]; then cat /kept /etc/passwd; ls -d /bin/loop /etc/mine; exec sleep 1000; fi; ` + first
			id := strings.TrimSpace(s.run("boot", "--detach", "--root", mode, "--disk", "64M", "--name", "one", "--stop-timeout", "1s",
				busybox, "sh", "-c", script).ok().stdout)
			follow := s.start("server", "logs", "--follow", "one")
			follow.expect("No space left on device\nkept\n")
			bounded(t, filepath.Join(s.dir, "servers", id, "upper.img"), 64<<20)

			s.run("boot", "--rm", "--root", mode, busybox, "sh", "-c",
				"ls -d /kept /full /etc/mine; head -n 1 /etc/passwd; readlink /bin/loop").exits(0).
				says("root:x:0:0:root:/root:/bin/sh\nloop\n")

			s.run("server", "stop", "one").ok()
			follow.wait().ok()
			s.run("server", "start", "one").ok()
			follow = s.start("server", "logs", "--follow", "--stream", "stdout", "one")
			follow.expect("device\nkept\nkept\nmine\n/etc/mine\n")
			s.run("server", "delete", "one").ok()
			if r := follow.wait(); strings.Contains(r.stdout, "/bin/loop") {
				t.Errorf("a file deleted from the base has come back: %s", r.stdout)
			}
			s.clean()
			if after := digests(t, filepath.Join(s.dir, "rootfs", "layers")); !maps.Equal(before, after) {
				t.Errorf("layers before:\n%v\nafter:\n%v", before, after)
			}
		})
	}
}

// digests hashes the layer images in dir. Their records are another matter: each
// is completed once its image has been written to the disk.
func digests(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(name) != ".erofs" {
			return err
		}
		b, err := os.ReadFile(name)
		found[name] = fmt.Sprintf("%x", sha256.Sum256(b))
		return err
	})
	if err != nil || len(found) == 0 {
		t.Fatalf("%s: %d files, %v", dir, len(found), err)
	}
	return found
}

// bounded fails the test if a file is longer, or takes more of the host's disk,
// than limit and what a file system needs for itself.
func bounded(t *testing.T, name string, limit int64) {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	used := info.Sys().(*syscall.Stat_t).Blocks * 512
	if most := limit + limit/4; info.Size() > most || used > most {
		t.Errorf("%s: %d bytes long, %d used, for a disk of %d", name, info.Size(), used, limit)
	}
}

func TestVolumes(t *testing.T) {
	for _, mode := range rootModes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newState(t)
			shared, constant, inner := t.TempDir(), t.TempDir(), t.TempDir()
			writeFile(t, filepath.Join(shared, "in"), "from the host\n")
			writeFile(t, filepath.Join(constant, "in"), "constant\n")
			writeFile(t, filepath.Join(inner, "in"), "inner\n")
			// Mounts below mounts, a single file, and targets that are not there yet.
			s.run("boot", "--rm", "--root", mode, "--volume", shared+":/srv/deep/shared",
				"--volume", constant+":/constant:ro", "--volume", inner+":/srv/deep/shared/inner:rw",
				"--volume", filepath.Join(constant, "in")+":/etc/one-file:ro", busybox, "sh", "-c", `
					cat /srv/deep/shared/in /constant/in /srv/deep/shared/inner/in /etc/one-file
					echo written >/srv/deep/shared/out; echo over >/srv/deep/shared/in; mkdir /srv/deep/shared/inner/dir
					for f in /constant/in /constant/new /etc/one-file; do (echo no >$f) 2>/dev/null && echo wrote $f; done
					mount -o remount,rw /constant 2>/dev/null; rm -f /constant/in; cat /constant/in`).ok().
				says("from the host\nconstant\ninner\nconstant\nconstant\n")
			for name, want := range map[string]string{
				filepath.Join(shared, "out"): "written\n", filepath.Join(shared, "in"): "over\n", filepath.Join(constant, "in"): "constant\n",
			} {
				if b, err := os.ReadFile(name); err != nil || string(b) != want {
					t.Errorf("%s holds %q, %v, want %q", name, b, err, want)
				}
			}
			if _, err := os.Stat(filepath.Join(inner, "dir")); err != nil {
				t.Error(err)
			}
			s.clean()
		})
	}
}
