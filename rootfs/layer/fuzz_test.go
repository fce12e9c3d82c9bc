package layer

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-vm/slipway/rootfs/erofs"
)

// memory is an image in memory.
type memory struct{ b []byte }

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if end := int(off) + len(p); end > len(m.b) {
		m.b = append(m.b, make([]byte, end-len(m.b))...)
	}
	return copy(m.b[off:], p), nil
}

// small is a budget that a fuzzed layer soon passes.
type small struct{ bytes, inodes int64 }

func (s *small) Bytes(n int64) error {
	if s.bytes += n; n < 0 || s.bytes > 1<<20 {
		return ErrTooLarge
	}
	return nil
}

func (s *small) Inodes(n int64) error {
	if s.inodes += n; s.inodes > 1000 {
		return ErrTooLarge
	}
	return nil
}

func (*small) Memory(int64) error { return nil }

var fuzzSeeds = [][]tarEntry{
	nil,
	{directory("d", 0o755), file("d/f", "hello"), symlink("s", "d"), file("s/g", "x"), hardlink("h", "d/f")},
	{file(".wh.a", ""), file("b/.wh..wh..opq", ""), file("b/c", ""), hardlink("early", "late"), file("late", strings.Repeat("x", 5000))},
	{pax(file("p", "x"), map[string]string{"SCHILY.xattr.user.a": "v", "SCHILY.xattr.trusted.overlay.opaque": "y"})},
	{{Header: tar.Header{Name: "c", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}}, file(strings.Repeat("long/", 60)+"n", "")},
	{symlink("a", "b"), symlink("b", "/a/../b"), file("a/x", ""), directory("../../x", 0o7777)},
}

// mend makes the checksums of changed headers right, without which no change
// would get past them.
func mend(stream []byte) {
	for ; len(stream) >= 512; stream = stream[512:] {
		h := stream[:512]
		if string(h[257:262]) != "ustar" {
			continue
		}
		copy(h[148:156], "        ")
		sum := 0
		for _, c := range h {
			sum += int(c)
		}
		copy(h[148:156], fmt.Sprintf("%06o\x00 ", sum))
	}
}

// FuzzArchive holds the quick reader of archives and archive/tar together.
func FuzzArchive(f *testing.F) {
	for _, s := range fuzzSeeds {
		f.Add(stream(f, s))
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		b := bytes.Clone(input)
		mend(b)
		got, gotErr := list(&archive{r: bytes.NewReader(b)})
		want, wantErr := list(&slowArchive{r: tar.NewReader(bytes.NewReader(b))})
		if (gotErr == nil) != (wantErr == nil) {
			t.Errorf("error %v, archive/tar says %v", gotErr, wantErr)
		}
		for i := range min(len(got), len(want)) {
			if got[i] != want[i] {
				t.Errorf("entry %d:\n%s, archive/tar says\n%s", i, got[i], want[i])
			}
		}
		if wantErr == nil && len(got) != len(want) {
			t.Errorf("%d entries, archive/tar says %d", len(got), len(want))
		}
	})
}

// slowArchive is archive with nothing quick about it.
type slowArchive struct{ r *tar.Reader }

func (s *slowArchive) Read(p []byte) (int, error) { return s.r.Read(p) }

func (s *slowArchive) next(h *header) error {
	t, err := s.r.Next()
	if err != nil {
		return err
	}
	h.fromTar(t)
	return nil
}

func list(a interface {
	io.Reader
	next(h *header) error
}) ([]string, error) {
	var all []string
	var h header
	for {
		err := a.next(&h)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		slices.SortFunc(h.xattrs, func(a, b erofs.Xattr) int { return strings.Compare(a.Name, b.Name) })
		line := fmt.Sprintf("%q", fmt.Sprint(h))
		if len(all)%3 != 2 { // some are not read
			data, err := io.ReadAll(io.LimitReader(a, 1<<20))
			line += fmt.Sprintf(" %d bytes %x", len(data), data[:min(len(data), 100)])
			if err != nil {
				return append(all, line), err
			}
		}
		all = append(all, line)
	}
}

// FuzzConvert feeds streams that are hardly ever layers. Whatever is taken for
// one must give an image that can be read.
func FuzzConvert(f *testing.F) {
	for _, s := range fuzzSeeds {
		f.Add(stream(f, s))
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		stream := bytes.Clone(input)
		mend(stream)
		var image memory
		info, err := Convert(bytes.NewReader(stream), &image, [16]byte{}, &small{})
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrTooLarge) {
				t.Errorf("error of no kind: %v", err)
			}
			return
		}
		if pad := info.Size - int64(len(image.b)); pad > 0 {
			image.b = append(image.b, make([]byte, pad)...)
		}
		r, err := erofs.NewReader(bytes.NewReader(image.b[:info.Size]))
		if err != nil {
			t.Fatal(err)
		}
		root, err := r.Root()
		if err != nil {
			t.Fatal(err)
		}
		names := map[erofs.NID]uint32{}
		links := map[erofs.NID]uint32{}
		if err := walk(r, root, names, links, 0); err != nil {
			t.Fatal(err)
		}
		for nid, n := range names {
			if links[nid] != n {
				t.Errorf("inode %d has %d names and says %d", nid, n, links[nid])
			}
		}
	})
}

func walk(r *erofs.Reader, dir *erofs.Inode, names, links map[erofs.NID]uint32, depth int) error {
	if depth > 5000 {
		return errors.New("directories in a circle")
	}
	for e, err := range r.Entries(dir) {
		if err != nil {
			return err
		}
		i, err := r.Inode(e.NID)
		if err != nil {
			return fmt.Errorf("%q: %w", e.Name, err)
		}
		switch i.Mode & erofs.ModeType {
		case erofs.ModeDir:
			err = walk(r, i, names, links, depth+1)
		case erofs.ModeRegular, erofs.ModeSymlink:
			_, err = io.Copy(io.Discard, r.Data(i))
		}
		if err != nil {
			return fmt.Errorf("%q: %w", e.Name, err)
		}
		if i.Mode&erofs.ModeType != erofs.ModeDir {
			names[e.NID]++
			links[e.NID] = i.Links
		}
	}
	return nil
}
