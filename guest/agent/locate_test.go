package agent

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestPlain(t *testing.T) {
	mounts := []string{"/", "/proc", "/dev", "/dev/pts", "/etc/hosts", "/data"}
	for where, want := range map[string]bool{
		"/": false, "/etc": false, "/etc/hosts": false, "/etc/passwd": true, "/dev/pts/0": false,
		"/data": false, "/data/x": false, "/database": true, "/usr/lib": true, "/process": true,
	} {
		if got := plain(where, mounts); got != want {
			t.Errorf("%s: %v", where, got)
		}
	}
	if !plain("/", []string{"/"}) {
		t.Error("a root alone is not plain")
	}
}

func TestLocate(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "file"), nil, 0o600), os.Symlink("file", filepath.Join(dir, "link"))); err != nil {
		t.Fatal(err)
	}
	port := newSimPort(1)
	_, control := serve(t, port)
	control.root = dir
	c, ctx := connect(t, port), testContext(t)
	file, err1 := c.Locate(ctx, "/file", false)
	followed, err2 := c.Locate(ctx, "/link", true)
	link, err3 := c.Locate(ctx, "/link", false)
	if err := errors.Join(err1, err2, err3); err != nil || !file.Plain || followed != file || link.Inode == file.Inode {
		t.Errorf("%+v %+v %+v, %v", file, followed, link, err)
	}
	if _, err := c.Locate(ctx, "/nothing", false); !errors.Is(err, ErrNotFound) {
		t.Errorf("nothing: %v", err)
	}
}
