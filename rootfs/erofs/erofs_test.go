package erofs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"
)

// memory is an image in memory.
type memory struct{ b []byte }

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if end := int(off) + len(p); end > len(m.b) {
		m.b = append(m.b, make([]byte, end-len(m.b))...)
	}
	return copy(m.b[off:], p), nil
}

// flat is a root with files and one empty directory, numbered 2.
type flat struct {
	entries []Entry
	links   map[NID]uint32
}

func (f *flat) Dirs() int { return 3 }

func (f *flat) Dir(n int) (Attr, int, bool) {
	return Attr{Mode: ModeDir | 0o755, Sec: int64(n), Xattrs: []Xattr{{"user.n", []byte{byte(n)}}}}, 0, n != 1
}

func (f *flat) Entries(n int) iter.Seq[Entry] {
	if n > 0 {
		return func(func(Entry) bool) {}
	}
	all := append(slices.Clone(f.entries), Entry{Name: []byte("dir"), Mode: ModeDir, Dir: 2})
	slices.SortFunc(all, func(a, b Entry) int { return bytes.Compare(a.Name, b.Name) })
	return slices.Values(all)
}

func (f *flat) Links() iter.Seq2[NID, uint32] { return maps.All(f.links) }

// image is a small image with something of everything.
func image(t testing.TB) []byte {
	t.Helper()
	var m memory
	w := NewWriter(&m, [16]byte{1})
	tree := &flat{links: map[NID]uint32{}}
	add := func(name string, mode uint16, nid NID, err error) {
		if err != nil {
			t.Fatal(err)
		}
		tree.entries = append(tree.entries, Entry{Name: []byte(name), Mode: mode, NID: nid})
	}
	big := strings.Repeat("0123456789abcdef", 700)
	nid, err := w.File(Attr{Mode: ModeRegular | 0o640, UID: 70000, GID: 1, Sec: -3, Nsec: 5}, int64(len(big)), strings.NewReader(big))
	add("big", ModeRegular, nid, err)
	tree.links[nid] = 2
	add("link", ModeRegular, nid, nil)
	nid, err = w.File(Attr{Mode: ModeRegular, Xattrs: []Xattr{{"security.capability", []byte("c")}, {"user.a", nil}, {"system.posix_acl_access", []byte("acl")}}}, 5, strings.NewReader("small"))
	add("small", ModeRegular, nid, err)
	nid, err = w.Symlink(Attr{Mode: ModeSymlink | 0o777}, "target")
	add("symlink", ModeSymlink, nid, err)
	rdev, err := Device(259, 70000)
	if err != nil {
		t.Fatal(err)
	}
	nid, err = w.Special(Attr{Mode: ModeBlock, Rdev: rdev})
	add("device", ModeBlock, nid, err)
	done, err := w.Finish(tree)
	if err != nil {
		t.Fatal(err)
	}
	if done.Inodes != 6 {
		t.Errorf("%d inodes", done.Inodes)
	}
	return append(m.b, make([]byte, max(0, done.Size-int64(len(m.b))))...)[:done.Size]
}

func TestReader(t *testing.T) {
	r, err := NewReader(bytes.NewReader(image(t)))
	if err != nil {
		t.Fatal(err)
	}
	root, err := r.Root()
	if err != nil || root.Mode != ModeDir|0o755 || root.Links != 3 {
		t.Fatalf("root %+v (%v)", root, err)
	}
	big, err := r.Lookup(root, "big")
	if err != nil || big.UID != 70000 || big.Sec != -3 || big.Nsec != 5 || big.Links != 2 {
		t.Errorf("big %+v (%v)", big, err)
	}
	if b, err := io.ReadAll(r.Data(big)); err != nil || string(b) != strings.Repeat("0123456789abcdef", 700) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	small, err := r.Lookup(root, "small")
	if err != nil {
		t.Fatal(err)
	}
	if names := slices.Collect(func(yield func(string) bool) {
		for _, x := range small.Xattrs {
			if !yield(x.Name + "=" + string(x.Value)) {
				return
			}
		}
	}); strings.Join(names, " ") != "security.capability=c system.posix_acl_access=acl user.a=" {
		t.Errorf("attributes %q", names)
	}
	if d, err := r.Lookup(root, "dir"); err != nil || d.Sec != 2 || len(d.Xattrs) != 1 || d.Xattrs[0].Value[0] != 2 {
		t.Errorf("directory %+v (%v)", d, err)
	}
	if _, err := r.Lookup(root, "nothing"); !errors.Is(err, ErrNotExist) {
		t.Errorf("error %v", err)
	}
	if _, err := r.Lookup(small, "x"); !errors.Is(err, ErrCorrupt) {
		t.Errorf("error %v", err)
	}
}

// pieces is a Viewer of pieces of all sizes.
type pieces struct {
	*bytes.Reader
	n int
}

func (p *pieces) Next(n int) ([]byte, error) {
	p.n = p.n*5%(300<<10) + 1
	b := make([]byte, min(n, p.n))
	n, err := p.Read(b)
	return b[:n], err
}

func TestViewer(t *testing.T) {
	data := make([]byte, 3<<20)
	for i := range data {
		if i>>17&3 != 0 { // some of it is zero
			data[i] = byte(i ^ i>>8)
		}
	}
	write := func(r func([]byte) io.Reader) []byte {
		var m memory
		w := NewWriter(&m, [16]byte{1})
		tree := &flat{}
		for i, size := range []int{100, 5000, len(data), 70_000, len(data) - 1} {
			nid, err := w.File(Attr{Mode: ModeRegular}, int64(size), r(data[:size]))
			if err != nil {
				t.Fatal(err)
			}
			tree.entries = append(tree.entries, Entry{Name: []byte(fmt.Sprint(i)), Mode: ModeRegular, NID: nid})
		}
		image, err := w.Finish(tree)
		if err != nil {
			t.Fatal(err)
		}
		return append(m.b, make([]byte, image.Size)...)[:image.Size]
	}
	want := write(func(b []byte) io.Reader { return struct{ io.Reader }{bytes.NewReader(b)} })
	if !bytes.Equal(write(func(b []byte) io.Reader { return &pieces{bytes.NewReader(b), 1} }), want) {
		t.Error("an image differs by how its files are read")
	}
	w := NewWriter(&memory{}, [16]byte{1})
	if _, err := w.File(Attr{Mode: ModeRegular}, 1<<20, &pieces{bytes.NewReader(data[:1<<19]), 1}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a file that is short: error %v", err)
	}
}

func TestWriterRefuses(t *testing.T) {
	w := NewWriter(&memory{}, [16]byte{})
	if _, err := w.File(Attr{Mode: ModeRegular}, 10, strings.NewReader("short")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a short file: %v", err)
	}
	if _, err := w.File(Attr{Mode: ModeRegular}, -1, nil); !errors.Is(err, ErrUnrepresentable) {
		t.Errorf("a negative size: %v", err)
	}
	for _, name := range []string{"", "a/b", "a\x00b", strings.Repeat("n", 256)} {
		w := NewWriter(&memory{}, [16]byte{})
		if _, err := w.Finish(&flat{entries: []Entry{{Name: []byte(name), Mode: ModeRegular}}}); !errors.Is(err, ErrUnrepresentable) {
			t.Errorf("name %q: %v", name, err)
		}
	}
	if _, err := w.Finish(&flat{entries: []Entry{{Name: []byte("dir"), Mode: ModeRegular}}}); err == nil {
		t.Error("a name twice")
	}
}

// FuzzReader reads images that are broken anywhere.
func FuzzReader(f *testing.F) {
	f.Add(image(f))
	f.Fuzz(func(t *testing.T, input []byte) {
		b := bytes.Clone(input)
		if len(b) >= BlockSize {
			// Or the checksum would end most of it.
			sum := checksum(b[:BlockSize])
			b[superOffset+4], b[superOffset+5], b[superOffset+6], b[superOffset+7] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
		}
		r, err := NewReader(bytes.NewReader(b))
		if err != nil {
			return
		}
		root, err := r.Root()
		if err != nil {
			return
		}
		for e, err := range r.Entries(root) {
			if err != nil {
				return
			}
			_, _ = r.Lookup(root, string(e.Name))
			i, err := r.Inode(e.NID)
			if err != nil {
				continue
			}
			if i.Mode&ModeType == ModeDir {
				for range r.Entries(i) {
				}
				continue
			}
			_, _ = io.Copy(io.Discard, io.LimitReader(r.Data(i), 1<<20))
		}
	})
}

// A directory of many blocks is found through, name by name.
func TestLargeDirectory(t *testing.T) {
	var m memory
	w := NewWriter(&m, [16]byte{})
	tree := &flat{}
	for n := range 5000 {
		nid, err := w.Special(Attr{Mode: ModeFifo, UID: uint32(n)})
		if err != nil {
			t.Fatal(err)
		}
		tree.entries = append(tree.entries, Entry{Name: fmt.Appendf(nil, "%d%s", n, strings.Repeat("x", n%200)), Mode: ModeFifo, NID: nid})
	}
	done, err := w.Finish(tree)
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(bytes.NewReader(append(m.b, make([]byte, max(0, done.Size-int64(len(m.b))))...)))
	if err != nil {
		t.Fatal(err)
	}
	root, err := r.Root()
	if err != nil {
		t.Fatal(err)
	}
	for n, e := range tree.entries {
		if i, err := r.Lookup(root, string(e.Name)); err != nil || i.UID != uint32(n) {
			t.Fatalf("%q: %+v (%v)", e.Name, i, err)
		}
		if _, err := r.Lookup(root, string(e.Name)+"!"); !errors.Is(err, ErrNotExist) {
			t.Fatalf("%q!: %v", e.Name, err)
		}
	}
	n := 0
	for e, err := range r.Entries(root) {
		if err != nil || e.Mode != ModeFifo && e.Mode != ModeDir {
			t.Fatalf("%+v (%v)", e, err)
		}
		n++
	}
	if n != len(tree.entries)+1 {
		t.Errorf("%d entries", n)
	}
}
