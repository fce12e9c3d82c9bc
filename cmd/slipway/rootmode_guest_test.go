//go:build guest

package main

import (
	"archive/tar"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/slipway-vm/slipway/rootfs/rootfstest"
)

// rootProbe builds the program that the images of these tests hold.
func rootProbe(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "probe")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", file, "./testdata/rootprobe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build rootprobe: %v: %s", err, out)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// layoutOf writes an image whose entrypoint is /probe as an OCI layout.
func layoutOf(t *testing.T, img v1.Image) (ref string) {
	t.Helper()
	img, err := mutate.Config(img, v1.Config{Entrypoint: []string{"/probe"}})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "image")
	p, err := layout.Write(dir, empty.Index)
	if err == nil {
		err = p.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "latest"}))
	}
	if err != nil {
		t.Fatal(err)
	}
	return "oci:" + dir
}

// oddImage has in its layers what a root mode could lose; rootprobe looks for it.
func oddImage(t *testing.T, probe string) string {
	program := func(name string) rootfstest.Entry {
		return rootfstest.Entry{Header: tar.Header{Name: name, Mode: 0o755}, Body: probe}
	}
	file := func(name string, change func(*tar.Header)) rootfstest.Entry {
		e := rootfstest.File(name, "lower")
		e.Format = tar.FormatPAX
		change(&e.Header)
		return e
	}
	root := rootfstest.Dir("./", 0o751)
	root.Uid = 7
	const capability = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	lower := []rootfstest.Entry{
		root, program("probe"), rootfstest.Dir("image/", 0o755),
		rootfstest.File("image/file", "lower"), rootfstest.Link("image/link", "image/file"),
		rootfstest.PAX(program("image/capable"), map[string]string{"SCHILY.xattr.security.capability": capability}),
		rootfstest.PAX(rootfstest.File("image/attributes", "long"), map[string]string{"SCHILY.xattr.user.comment": "a value\x00of bytes"}),
		file("image/old", func(h *tar.Header) { h.ModTime = time.Date(1960, 1, 2, 3, 4, 5, 123456789, time.UTC) }),
		file("image/far", func(h *tar.Header) { h.ModTime = time.Date(2100, 1, 2, 3, 4, 5, 987654321, time.UTC) }),
		{Header: tar.Header{Name: "image/null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3}},
		file("image/owned", func(h *tar.Header) { h.Uid, h.Gid, h.Mode = 3000000, 70001, 0o6755 }),
		rootfstest.File("image/names/\n", ""), rootfstest.File("image/names/\"q\"", ""),
		rootfstest.File("image/names/\xff", ""), rootfstest.File("image/names/a\\b", ""),
		rootfstest.File("image/opaque/lower", ""), rootfstest.File("image/deleted", ""),
		rootfstest.File("image/gone", ""), rootfstest.File("image/remade/lower", ""),
	}
	upper := []rootfstest.Entry{
		rootfstest.File("image/.wh.deleted", ""), rootfstest.File("image/opaque/.wh..wh..opq", ""), rootfstest.File("image/opaque/new", ""),
	}
	return layoutOf(t, rootfstest.Simple(t, lower, upper))
}

// A server that is stopped and started in one root mode after the other finds
// everything as it was, whichever mode it was first in.
func TestRootModesShareADisk(t *testing.T) {
	ref := oddImage(t, rootProbe(t))
	for _, order := range [][]string{{"virtiofs", "block", "9p", "block"}, {"block", "virtiofs"}, {"9p", "block", "9p"}} {
		t.Run(strings.Join(order, "-"), func(t *testing.T) {
			t.Parallel()
			s := newState(t)
			s.run("boot", "--name", "one", "--root", order[0], ref).ok().says("root: ok\n")
			for _, mode := range order[1:] {
				s.run("server", "set", "--root", mode, "one").ok()
				s.run("server", "show", "-f", "value", "-c", "root_mode", "one").ok().says(mode + "\n")
				s.run("server", "start", "--attach", "one").ok().says("root: ok\n")
			}
		})
	}
}

func TestRootModeRefused(t *testing.T) {
	s := newState(t)
	s.run("boot", "--root", "nfs", busybox).exits(125).complains(`root mode "nfs"`, "virtiofs, 9p, block")
	s.run("boot", "--detach", "--name", "one", busybox, "sleep", "1000").ok()
	s.run("server", "set", "--root", "block", "one").exits(1).complains("active")
	s.run("server", "set", "--root", "nfs", "one").exits(1).complains(`root mode "nfs"`)
	s.run("server", "set", "one").exits(1).complains("--root")
	s.run("server", "set", "--root", "block", "two").exits(1).complains("two")
	list := s.run("host", "root-modes", "-f", "value", "-c", "Root Mode").ok()
	list.says(strings.Join(rootModes, "\n") + "\n")
}

// With its root on disks a server has nothing mounted on the host, and its QEMU's
// violent end costs nothing that was synced.
func TestBlockRootSurvivesQEMU(t *testing.T) {
	t.Parallel()
	s := newState(t)
	ref := layoutOf(t, rootfstest.Simple(t, []rootfstest.Entry{{Header: tar.Header{Name: "probe", Mode: 0o755}, Body: rootProbe(t)}}))
	id := strings.TrimSpace(s.run("boot", "--detach", "--root", "block", "--name", "one", ref, "hang").ok().stdout)
	s.start("server", "logs", "--follow", "one").expect("root: synced\n")
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), id) {
		t.Errorf("%v, mounted:\n%s", err, mounts)
	}
	if err := syscall.Kill(qemuOf(t, id), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.run("server", "wait", "one")
	for _, mode := range []string{"block", "virtiofs"} {
		s.run("server", "set", "--root", mode, "one").ok()
		began := time.Now().Format(time.RFC3339Nano)
		s.run("server", "start", "one").ok()
		// Each life writes the file anew, and says so.
		s.start("server", "logs", "--follow", "--since", began, "one").expect("root: synced\n")
		dir := t.TempDir()
		s.run("server", "cp", "one:/sure", dir).ok()
		if b, err := os.ReadFile(filepath.Join(dir, "sure")); err != nil || string(b) != "synced" {
			t.Errorf("%s: %q, %v", mode, b, err)
		}
		s.run("server", "stop", "--timeout", "0s", "one").ok()
	}
}

// qemuOf finds a server's QEMU by the identifier on its command line.
func qemuOf(t *testing.T, id string) int {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range lines {
		b, _ := os.ReadFile(name)
		if program, _, _ := strings.Cut(string(b), "\x00"); strings.Contains(program, "qemu-system") && strings.Contains(string(b), id) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			return pid
		}
	}
	t.Fatalf("no QEMU of %s", id)
	return 0
}

// An image may have as many layers as overlayfs takes, in a guest as on the host.
func TestManyLayersOnDisks(t *testing.T) {
	t.Parallel()
	s := newState(t)
	const n = 500
	layers := [][]rootfstest.Entry{{{Header: tar.Header{Name: "bin/probe", Mode: 0o755}, Body: rootProbe(t)}}}
	for i := 1; i < n; i++ {
		layers = append(layers, []rootfstest.Entry{rootfstest.File("n", fmt.Sprint(i)), rootfstest.File(fmt.Sprintf("own/%d", i), fmt.Sprint(i))})
	}
	ref := layoutOf(t, rootfstest.Simple(t, layers...))
	s.run("boot", "--rm", "--root", "block", "--entrypoint", "/bin/probe", ref, "layers", fmt.Sprint(n-1)).ok().says("root: ok\n")
}
