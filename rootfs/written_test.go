package rootfs_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"
)

// An image with a layer made of what a server has written shows what the server
// sees, and nothing of overlayfs's own is in the layer.
func TestWrittenLayer(t *testing.T) {
	img := Simple(t, []Entry{
		Dir("./", 0o755), Dir("etc", 0o755), File("etc/kept", "kept"), File("etc/gone", "gone"), File("etc/changed", "before"),
		Dir("opaque", 0o755), File("opaque/below", "below"), Dir("gone", 0o755), File("gone/x", "x"),
		File("a", "linked"), Dir("meta", 0o755), File("meta/in", "in"), Symlink("ln", "a"),
	})
	s := open(t, t.TempDir())
	o := clone(t, s, unpack(t, s, img))
	root := mount(t, o)
	script := `cd "$1" && rm etc/gone && echo after >etc/changed && rm -r gone opaque && mkdir opaque && echo new >opaque/new
		ln a b && echo much >>a && ln b c && ln -s nowhere broken && mkfifo fifo && mknod dev b 7 3 && mknod null c 1 3
		chmod 4711 etc/kept && chown 12:34 etc/kept && setfattr -n user.x -v y etc/kept && setfattr -n trusted.z -v w meta && chmod 700 meta
		cp /bin/true tool && setcap cap_net_raw+ep tool && touch -d 2001-02-03T04:05:06.123456789Z tool . && mkdir -p "deep/$(printf 'new\nline')/er" && rm ln && mkdir ln && echo x >ln/x`
	if out, err := exec.Command("sh", "-ec", script, "sh", root).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	w, err := o.Written(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// What is written from now on is not in it.
	want := archive(t, root)
	if err := os.WriteFile(filepath.Join(root, "late"), []byte("late"), 0o600); err != nil {
		t.Fatal(err)
	}
	var layer bytes.Buffer
	if err := w.WriteLayer(t.Context(), &layer); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	checkWords(t, layer.Bytes())
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	if img, err = mutate.AppendLayers(img, l); err != nil {
		t.Fatal(err)
	}
	again := mount(t, clone(t, s, unpack(t, s, img)))
	if got := archive(t, again); !bytes.Equal(got, want) {
		t.Errorf("the trees differ:\n%s\nwant\n%s", listing(t, got), listing(t, want))
	}
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		left, err := exec.Command("losetup", "--list", "--noheadings", "--output", "BACK-FILE").Output()
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(left), "/written-") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("a loop device of the copy is left:\n%s", left)
		}
	}
}

// checkWords finds a layer's deletions in it, and nothing that only overlayfs reads.
func checkWords(t *testing.T, layer []byte) {
	t.Helper()
	found := map[string]bool{}
	for r := tar.NewReader(bytes.NewReader(layer)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		found[h.Name] = true
		if h.Typeflag == tar.TypeChar && h.Devmajor == 0 {
			t.Errorf("%s is overlayfs's whiteout", h.Name)
		}
		for x := range h.PAXRecords {
			if strings.Contains(x, "overlay") {
				t.Errorf("%s has %s", h.Name, x)
			}
		}
	}
	for _, name := range []string{"etc/.wh.gone", ".wh.gone", "opaque/.wh..wh..opq", "opaque/new"} {
		if !found[name] {
			t.Errorf("the layer has no %s", name)
		}
	}
	if found["late"] || found["etc/below"] {
		t.Errorf("it has what was not written: %v", found)
	}
}

// A name that would mean something else in a layer is refused, and an overlay that
// nothing was written to gives an empty layer.
func TestWrittenLayerLimits(t *testing.T) {
	s := open(t, t.TempDir())
	o := clone(t, s, unpack(t, s, Simple(t, []Entry{File("a", "a")})))
	write := func() (*bytes.Buffer, error) {
		w, err := o.Written(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		var layer bytes.Buffer
		return &layer, w.WriteLayer(t.Context(), &layer)
	}
	layer, err := write()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tar.NewReader(layer).Next(); !errors.Is(err, io.EOF) {
		t.Errorf("an overlay that never was mounted: %v", err)
	}
	root := mount(t, o)
	if err := os.WriteFile(filepath.Join(root, ".wh.a"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := write(); err == nil || !strings.Contains(err.Error(), `".wh.a"`) {
		t.Errorf("error %v", err)
	}
	if err := unix.Unlink(filepath.Join(root, ".wh.a")); err != nil {
		t.Fatal(err)
	}
	if _, err := write(); err != nil {
		t.Error(err)
	}
}
