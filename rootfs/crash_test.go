package rootfs_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/images/content/crashtest"
	"github.com/slipway-vm/slipway/rootfs"
)

// victimVariable names the directory that a victim works in.
const victimVariable = "ROOTFS_TEST_VICTIM"

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "these tests mount file systems: they need root")
		os.Exit(1)
	}
	crashtest.Private()
	if dir := os.Getenv(victimVariable); dir != "" {
		victim(dir)
	}
	os.Exit(m.Run())
}

// crashImages are the same in every process.
func crashImages(t testing.TB) []v1.Image {
	var layers []v1.Layer
	for i := range 6 {
		var entries []Entry
		for f := range 60 {
			entries = append(entries, File(fmt.Sprintf("%d/%d", i, f), strings.Repeat(fmt.Sprint(i, f), 100*f)))
		}
		layers = append(layers, Gzip(t, Tar(t, entries...)))
	}
	return []v1.Image{Image(t, layers[:3]...), Image(t, layers[2:]...)}
}

// victim does everything a store can do until it is killed.
func victim(dir string) {
	t := &testing.B{}
	ctx := context.Background()
	imgs := crashImages(t)
	fail := func(err error) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("ready")
	for n := 0; ; n++ {
		begun := time.Now()
		s, err := rootfs.Open(ctx, rootfs.Config{Dir: filepath.Join(dir, "rootfs")})
		if err != nil {
			fail(err)
		}
		base, err := s.Unpack(ctx, imgs[n%2], rootfs.UnpackOptions{})
		if err != nil {
			fail(err)
		}
		server := filepath.Join(dir, "servers", fmt.Sprint(os.Getpid(), n))
		if err := os.MkdirAll(server, 0o755); err != nil {
			fail(err)
		}
		o, err := s.Create(ctx, server, base, rootfs.MinUpper)
		if err != nil {
			fail(err)
		}
		for range 2 {
			if err := o.Mount(ctx, filepath.Join(server, "root")); err != nil {
				fail(err)
			}
			if err := o.Unmount(ctx); err != nil {
				fail(err)
			}
		}
		if _, err := s.Prune(ctx, nil); err != nil {
			fail(err)
		}
		if err := s.Close(); err != nil {
			fail(err)
		}
		fmt.Println(time.Since(begun))
	}
}

const crashes = 12

// moment is anywhere in each twelfth of what a victim does.
func moment(round int, whole time.Duration) time.Duration {
	return (whole*time.Duration(round) + time.Duration(rand.Int64N(int64(whole)))) / crashes
}

// A process killed at any moment leaves nothing that is mistaken for good.
func TestKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	t.Cleanup(func() { unmountBelow(t, dir) })
	imgs := crashImages(t)
	want := layerImages(t, imgs)
	whole := lifetime(t)
	for round := range crashes {
		c, _ := start(t, victimOf(dir))
		time.Sleep(moment(round, whole))
		crashtest.End(t, c)
		checkStore(t, dir, imgs[round%2], want)
	}
}

// So does a power failure at any moment, of what was not on the disk yet.
func TestPowerFailureAnytime(t *testing.T) {
	t.Parallel()
	imgs := crashImages(t)
	want := layerImages(t, imgs)
	whole := lifetime(t)
	disk := crashtest.New(t)
	for round := range crashes {
		c, _ := start(t, crashtest.Elsewhere(t, victimVariable+"="+disk.Dir))
		time.Sleep(moment(round, whole))
		disk.Fail(t, c)
		disk.Recover(t)
		checkStore(t, disk.Dir, imgs[round%2], want)
	}
}

// layerImages are what the images' layer images should be.
func layerImages(t *testing.T, imgs []v1.Image) map[v1.Hash]string {
	t.Helper()
	s := open(t, t.TempDir())
	want := map[v1.Hash]string{}
	for _, img := range imgs {
		b := unpack(t, s, img)
		for i, image := range b.Images() {
			want[b.DiffIDs[i]] = read(t, image)
		}
	}
	return want
}

// checkStore looks at all that a victim has left, removes its servers, and boots
// one more.
func checkStore(t *testing.T, dir string, img v1.Image, want map[v1.Hash]string) {
	t.Helper()
	// A child that the victim was just about to start has its files open until it
	// executes mkfs.
	for limit := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		s := open(t, filepath.Join(dir, "rootfs"))
		if err := s.Close(); err != nil { // it seals what the victim did not
			t.Fatal(err)
		}
		left, err := os.ReadDir(filepath.Join(dir, "rootfs", "tmp"))
		if err == nil && len(left) == 0 {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("%s holds %v (%v)", filepath.Join(dir, "rootfs", "tmp"), left, err)
		}
	}
	s := open(t, filepath.Join(dir, "rootfs"))
	layers, err := s.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		if got := read(t, dir, "rootfs", "layers", "sha256-"+l.DiffID.Hex+".erofs"); got != want[l.DiffID] {
			t.Errorf("layer image %s differs", l.DiffID)
		}
		if err := s.Verify(t.Context(), l.DiffID); err != nil {
			t.Error(err)
		}
	}
	servers, err := filepath.Glob(filepath.Join(dir, "servers", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, server := range servers {
		o, err := s.Overlay(server)
		switch {
		case errors.Is(err, rootfs.ErrNotFound):
			// Not created, or its base has been pruned: nothing can be mounted
			// of the one, and everything is made again for the other.
		case err != nil:
			t.Error(err)
		default:
			if err := errors.Join(o.Mount(t.Context(), filepath.Join(server, "root")), o.Unmount(t.Context())); err != nil {
				t.Error(err)
			}
		}
		unmountBelow(t, server)
		if err := os.RemoveAll(server); err != nil {
			t.Fatal(err)
		}
	}
	o, err := s.Create(t.Context(), filepath.Dir(mkdir(t, dir, "servers", "last", "root")), unpack(t, s, img), upperSize)
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, mount(t, o), fmt.Sprint(2, "/", 59)); len(got) != 100*59*len("2 59") {
		t.Errorf("a file of %d bytes", len(got))
	}
	if err := errors.Join(o.Unmount(t.Context()), os.RemoveAll(o.Dir), s.Close()); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, elem ...string) string {
	t.Helper()
	dir := filepath.Join(elem...)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// lifetime is how long a victim takes for everything that it does.
func lifetime(t *testing.T) time.Duration {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() { unmountBelow(t, dir) })
	c, out := start(t, victimOf(dir))
	line, err := out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	crashtest.End(t, c)
	whole, err := time.ParseDuration(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	return whole
}

// victimOf is a victim that works in dir.
func victimOf(dir string) *exec.Cmd {
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), victimVariable+"="+dir)
	c.Stderr = os.Stderr
	return c
}

// start starts a victim and waits until it begins.
func start(t *testing.T, c *exec.Cmd) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	if _, err := lines.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return c, lines
}

func unmountBelow(t testing.TB, dir string) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if target := strings.Fields(line)[4]; strings.HasPrefix(target, dir+"/") {
			if err := unix.Unmount(target, unix.MNT_DETACH); err != nil {
				t.Errorf("%s: %v", target, err)
			}
		}
	}
}

// After a power failure, what was not sealed is made anew, whatever is left of
// it.
func TestPowerFailure(t *testing.T) {
	img := Simple(t, []Entry{File("f", "x")})
	spoil := map[string]func(t *testing.T, image, record string){
		"unsealed":         func(t *testing.T, image, record string) { rewrite(t, record, `"digest":`, `"boot":"another","was":`) },
		"empty record":     func(t *testing.T, image, record string) { truncate(t, record, 0) },
		"cut record":       func(t *testing.T, image, record string) { truncate(t, record, 30) },
		"zeros for record": func(t *testing.T, image, record string) { truncate(t, record, 0); truncate(t, record, 300) },
		"no record":        func(t *testing.T, image, record string) { remove(t, record) },
		"no image":         func(t *testing.T, image, record string) { remove(t, image) },
		"empty image":      func(t *testing.T, image, record string) { truncate(t, image, 0) },
	}
	for name, f := range spoil {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir)
			b := unpack(t, s, img)
			image := b.Images()[0]
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			want := read(t, image)
			f(t, image, strings.TrimSuffix(image, ".erofs")+".json")
			s = open(t, dir)
			if _, err := s.Base(b.DiffIDs); !errors.Is(err, rootfs.ErrNotFound) {
				t.Errorf("error %v, want that it is not there", err)
			}
			unpack(t, s, img)
			if read(t, image) != want {
				t.Error("the layer image was not made anew")
			}
		})
	}
}

func rewrite(t *testing.T, name, from, to string) {
	t.Helper()
	write(t, strings.Replace(read(t, name), from, to, 1), name)
}

func truncate(t *testing.T, name string, n int64) {
	t.Helper()
	if err := os.Truncate(name, n); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, name string) {
	t.Helper()
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
}

func TestVerify(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	b := unpack(t, s, Numbered(t, 2))
	for _, id := range b.DiffIDs {
		if err := s.Verify(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	f, err := os.OpenFile(b.Images()[1], os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("x"), 2000); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := s.Verify(t.Context(), b.DiffIDs[1]); !errors.Is(err, rootfs.ErrCorrupt) || !strings.Contains(err.Error(), b.DiffIDs[1].String()) {
		t.Errorf("error %v", err)
	}
	// Servers have it until it can be had anew.
	if _, err := s.Base(b.DiffIDs); err != nil {
		t.Error(err)
	}
	unpack(t, s, Numbered(t, 2))
	for _, id := range b.DiffIDs {
		if err := s.Verify(t.Context(), id); err != nil {
			t.Errorf("after it was unpacked again: %v", err)
		}
	}
	if err := s.Verify(t.Context(), v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("0", 64)}); !errors.Is(err, rootfs.ErrNotFound) {
		t.Errorf("error %v", err)
	}
}

func TestPrune(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	layers := []v1.Layer{}
	for i := range 4 {
		layers = append(layers, Gzip(t, Tar(t, File("own/f", strings.Repeat("x", 1000000+i)))))
	}
	mounted := unpack(t, s, Image(t, layers[0], layers[1]))
	o := clone(t, s, mounted)
	r := mount(t, o)
	kept := unpack(t, s, Image(t, layers[1], layers[2]))
	loose := unpack(t, s, Image(t, layers[2], layers[3]))

	keep := func() ([]v1.Hash, error) { return kept.DiffIDs, nil }
	each, total, err := s.Usage(mounted.DiffIDs, kept.DiffIDs)
	if err != nil || each[0].Alone == 0 || each[0].Shared != each[1].Shared || total <= each[0].Alone+each[0].Shared+each[1].Alone {
		t.Errorf("usage %+v of %d (%v)", each, total, err)
	}

	release, err := s.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Collect(t.Context(), rootfs.CollectOptions{}); !errors.Is(err, rootfs.ErrBusy) {
		t.Errorf("pruned in spite of a hold: %v", err)
	}
	release()

	if p, err := s.Collect(t.Context(), rootfs.CollectOptions{Keep: keep, MaxBytes: total}); err != nil || len(p.Layers) != 0 {
		t.Errorf("pruned %+v with room left (%v)", p, err)
	}
	p, err := s.Collect(t.Context(), rootfs.CollectOptions{Keep: keep})
	if err != nil || len(p.Layers) != 1 || p.Layers[0] != loose.DiffIDs[1] || p.Bytes == 0 {
		t.Errorf("pruned %+v (%v)", p, err)
	}
	if _, err := s.Base(loose.DiffIDs); !errors.Is(err, rootfs.ErrNotFound) {
		t.Errorf("error %v", err)
	}
	if len(read(t, r, "own/f")) != 1000001 {
		t.Error("a mounted overlay was disturbed")
	}
	if err := o.Unmount(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p, err := s.Collect(t.Context(), rootfs.CollectOptions{Keep: keep}); err != nil || len(p.Layers) != 1 {
		t.Errorf("pruned %+v (%v)", p, err)
	}
	if err := o.Mount(t.Context(), filepath.Join(o.Dir, "root")); !errors.Is(err, rootfs.ErrNotFound) {
		t.Errorf("mounted a pruned base: %v", err)
	}
	// The mend of a base goes with its stack, and comes back.
	mount(t, clone(t, s, kept))
}

// Of what is not needed, the least recently used goes first.
func TestCollectOldest(t *testing.T) {
	s := open(t, t.TempDir())
	var bases []*rootfs.Base
	for i := range 3 {
		bases = append(bases, unpack(t, s, Image(t, Gzip(t, Tar(t, File("f", strings.Repeat("x", 1000000+i)))))))
	}
	if _, err := s.Base(bases[0].DiffIDs); err != nil {
		t.Fatal(err)
	}
	_, total, err := s.Usage()
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Collect(t.Context(), rootfs.CollectOptions{MaxBytes: total - 1})
	if err != nil || len(p.Layers) != 1 || p.Layers[0] != bases[1].DiffIDs[0] {
		t.Errorf("pruned %+v (%v), want %v", p, err, bases[1].DiffIDs)
	}
}
