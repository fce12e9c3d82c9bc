package images_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"github.com/slipway-vm/slipway/images"
	"github.com/slipway-vm/slipway/images/content/crashtest"
)

// victimVariable names the directory that a victim works in.
const victimVariable = "IMAGES_TEST_VICTIM"

func TestMain(m *testing.M) {
	crashtest.Private()
	if dir := os.Getenv(victimVariable); dir != "" {
		victim(dir)
	}
	os.Exit(m.Run())
}

// victim saves and deletes images until it is killed.
func victim(dir string) {
	ctx := context.Background()
	fmt.Println("ready")
	for n := 0; ; n++ {
		err := func() error {
			s, err := images.Open(images.Config{Dir: filepath.Join(dir, "images")})
			if err != nil {
				return err
			}
			for _, tag := range []string{"a", "b", "a"} {
				i, err := s.Resolve(ctx, "oci:"+dir+"/layout:"+tag, platform)
				if err != nil {
					return err
				}
				if _, err := s.Save(ctx, i); err != nil {
					return err
				}
				i.Close()
			}
			_, err = s.Delete(ctx, "oci:"+dir+"/layout:"+string("ab"[n%2]))
			return err
		}()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// What a power failure leaves of a record, or of a blob, is as good as no image.
func TestPowerFailure(t *testing.T) {
	f := serve(t)
	ref := f.host + "/a:b"
	push(t, ref, runnable(t, 1))
	for _, kind := range []string{"records/*", "blobs/sha256/*"} {
		for _, left := range []string{"", "\x00\x00\x00\x00", `{"reference":"` + f.host} {
			dir := t.TempDir()
			s := open(t, func(c *images.Config) { c.Dir = dir })
			if _, err := s.Save(t.Context(), resolve(t, s, ref, platform)); err != nil {
				t.Fatal(err)
			}
			files, err := filepath.Glob(filepath.Join(dir, kind))
			if err != nil || len(files) == 0 {
				t.Fatal(files, err)
			}
			for _, name := range files {
				if err := errors.Join(os.Remove(name), os.WriteFile(name, []byte(left), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			s = open(t, func(c *images.Config) { c.Dir = dir })
			if all, err := s.List(t.Context()); err != nil || len(all) != 0 {
				t.Errorf("%s of %q: list %v, %v", kind, left, all, err)
			}
			i := resolve(t, s, ref, platform)
			if i.Local {
				t.Errorf("%s of %q: mistaken for an image", kind, left)
			}
			if _, err := s.Save(t.Context(), i); err != nil {
				t.Fatal(err)
			}
			if i := resolve(t, s, ref, platform); !i.Local {
				t.Errorf("%s of %q: not remembered anew", kind, left)
			}
		}
	}
}

// A process killed at any moment leaves a store whose images are all whole.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	source(t, dir)
	for range 15 {
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), victimVariable+"="+dir)
		c.Stderr = os.Stderr
		start(t, c)
		time.Sleep(time.Duration(rand.IntN(40)) * time.Millisecond)
		crashtest.End(t, c)
		check(t, dir)
	}
}

// So does a power failure at any moment, of what was not on the disk yet.
func TestPowerFailureAnytime(t *testing.T) {
	disk := crashtest.New(t)
	source(t, disk.Dir)
	if err := exec.Command("sync", "--file-system", disk.Dir).Run(); err != nil {
		t.Fatal(err)
	}
	for range 15 {
		c := crashtest.Elsewhere(t, victimVariable+"="+disk.Dir)
		start(t, c)
		time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond)
		disk.Fail(t, c)
		disk.Recover(t)
		check(t, disk.Dir)
	}
}

// An image that is nowhere else outlives a power failure from when it is said to be
// there.
func TestPowerFailureAfterCommit(t *testing.T) {
	f := serve(t)
	ref := f.host + "/base:1"
	push(t, ref, runnable(t, 1))
	disk := crashtest.New(t)
	on := func(c *images.Config) { c.Dir = filepath.Join(disk.Dir, "images") }
	s := open(t, on)
	if _, err := s.Commit(t.Context(), resolve(t, s, ref, platform), "made", "", oneFile("one")); err != nil {
		t.Fatal(err)
	}
	disk.Fail(t)
	disk.Recover(t)
	if err := drain(resolve(t, open(t, on), "made", images.ResolveOptions{Pull: images.PullNever})); err != nil {
		t.Error(err)
	}
}

// source makes the layout in dir that victims have their images from.
func source(t *testing.T, dir string) {
	t.Helper()
	path, err := layout.Write(filepath.Join(dir, "layout"), empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	for _, tag := range []string{"a", "b"} {
		if err := path.AppendImage(runnable(t, 1), layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": tag})); err != nil {
			t.Fatal(err)
		}
	}
}

// start starts a victim and waits until it begins.
func start(t *testing.T, c *exec.Cmd) {
	t.Helper()
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
}

// check looks at all that a victim has left.
func check(t *testing.T, dir string) {
	t.Helper()
	s, err := images.Open(images.Config{Dir: filepath.Join(dir, "images")})
	if err != nil {
		t.Fatal(err)
	}
	all, err := s.List(t.Context())
	if err != nil || len(all) > 2 {
		t.Fatalf("%d images, %v", len(all), err)
	}
	for _, r := range all {
		if i := resolve(t, s, r.Reference, platform); !i.Local || i.Digest != r.Digest {
			t.Errorf("%s is listed, but not here", r.Reference)
		}
	}
	for _, tmp := range []string{"tmp", "blobs/tmp"} {
		if left, err := os.ReadDir(filepath.Join(dir, "images", tmp)); err != nil || len(left) != 0 {
			t.Errorf("left %v (%v)", left, err)
		}
	}
}
