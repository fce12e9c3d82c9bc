package launcher

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A root that rests has its volumes for who opened it, and for nobody else.
func TestOpenWithVolumes(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test mounts file systems: it needs root")
	}
	dir, host := t.TempDir(), t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	write := func(name, text string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(dir, "etc/passwd"), "the server's")
	write(filepath.Join(host, "data/in"), "data")
	write(filepath.Join(host, "inner/in"), "inner")
	write(filepath.Join(host, "constant/in"), "constant")
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "srv"), 0o755), os.Symlink("../../../../../../etc/passwd", filepath.Join(host, "data/out")), os.Symlink("/srv", filepath.Join(dir, "link"))); err != nil {
		t.Fatal(err)
	}
	volumes := []Volume{
		{Host: filepath.Join(host, "inner"), Guest: "/srv/data/inner"}, // before what it lies in
		{Host: filepath.Join(host, "data"), Guest: "/link/data"},
		{Host: filepath.Join(host, "constant"), Guest: "/constant", ReadOnly: true},
		{Host: filepath.Join(host, "constant/in"), Guest: "/etc/one"},
		{Host: filepath.Join(host, "gone"), Guest: "/gone"},
	}
	root, err := openWithVolumes(dir, volumes)
	if err != nil {
		t.Fatal(err)
	}
	if len(root.missing) != 1 || root.missing[0].Guest != "/gone" {
		t.Errorf("missing: %v", root.missing)
	}
	for name, want := range map[string]string{
		"/srv/data/in": "data", "/srv/data/inner/in": "inner", "/constant/in": "constant", "/etc/one": "constant", "/srv/data/out": "the server's",
	} {
		if got, err := root.ReadFile(name); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if f, err := root.Touch("/srv/data/new", 0o600); err != nil {
		t.Error(err)
	} else if err := f.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(host, "data/new")); err != nil {
		t.Error(err)
	}
	if _, err := root.Touch("/constant/new", 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("a volume that is read-only: %v", err)
	}
	// Whoever removes the root removes nothing of the volumes.
	if err := os.RemoveAll(filepath.Join(dir, "srv")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(host, "data/in")); err != nil {
		t.Error(err)
	}
	if err := root.Close(); err != nil {
		t.Error(err)
	}
	if err := unix.Unmount(dir, 0); err != nil {
		t.Errorf("unmount the root: %v", err)
	}
	if _, err := openWithVolumes(dir, volumes); err == nil {
		t.Error("opened what is no mount")
	}
}
