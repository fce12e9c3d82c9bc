package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/diskfs/go-diskfs/partition/gpt"
	"golang.org/x/sys/unix"
)

// MinUpper is the size of an empty slipway-upper that has to grow anyway.
const MinUpper = 64 << 20

// upper lays out the last partition. What is not written stays a hole.
func (b *builder) upper(ctx context.Context) error {
	size := int64(MinUpper)
	if b.Upper != "" {
		info, err := os.Stat(b.Upper)
		if err != nil {
			return err
		}
		size = align(info.Size())
	}
	if b.Size > 0 {
		room := b.Size/alignment*alignment - b.end - alignment
		if room < size {
			return fmt.Errorf("%w: %d bytes, of which it takes %d", ErrSize, b.Size, b.end+size+alignment)
		}
		size = room
	}
	var from *os.File
	var err error
	if b.Upper != "" {
		from, err = os.Open(b.Upper)
	} else {
		from, err = makeUpper(ctx, filepath.Dir(b.file.Name()), size, b.ID)
	}
	if err != nil {
		return err
	}
	defer from.Close()
	return copySparse(b.file, b.add(UpperName, gpt.LinuxFilesystem, size), from)
}

// upperFeatures are named one by one, so that every host's mkfs makes the same.
// With meta_bg the file system grows while it is mounted, by any factor.
const upperFeatures = "none,64bit,dir_index,dir_nlink,ext_attr,extent,extra_isize,filetype,flex_bg,has_journal,huge_file,large_file,meta_bg,metadata_csum,sparse_super"

// Temporary makes a file in dir that has no name, and so is gone with the process.
func Temporary(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, ".disk-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// given is the name by which a program has the nth of the files it is given.
func given(n int) string { return fmt.Sprintf("/dev/fd/%d", 3+n) }

// makeUpper makes a file in dir with an empty file system, of which as much as can be
// is unwritten.
func makeUpper(ctx context.Context, dir string, size int64, id [16]byte) (*os.File, error) {
	f, err := Temporary(dir)
	if err != nil {
		return nil, err
	}
	if err := f.Truncate(size); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	c := exec.CommandContext(ctx, "mkfs.ext4", "-q", "-F", "-b", "4096", "-I", "256", "-i", "16384", "-m", "0", "-J", "size=4", "-O", upperFeatures, "-U", guid(id, "upper file system"),
		"-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0,hash_seed="+guid(id, "upper hash seed"), given(0))
	c.ExtraFiles = []*os.File{f}
	// Locale, configuration and clock of the host have no say.
	c.Env = append(os.Environ(), "MKE2FS_CONFIG=/dev/null", "LC_ALL=C", "E2FSPROGS_FAKE_TIME=1", "SOURCE_DATE_EPOCH=1")
	if err := run(c, "e2fsprogs"); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// run runs a program that a Debian package has.
func run(c *exec.Cmd, from string) error {
	out, err := c.CombinedOutput()
	name := filepath.Base(c.Args[0])
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("%s: %w: install the package %s", name, ErrMissing, from)
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// copySparse copies what is written of a file to an offset.
func copySparse(to *os.File, offset int64, from *os.File) error {
	end, err := from.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	for at := int64(0); at < end; {
		data, err := from.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil
		}
		if err != nil {
			return err
		}
		hole, err := from.Seek(data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.NewOffsetWriter(to, offset+data), io.NewSectionReader(from, data, hole-data)); err != nil {
			return err
		}
		at = hole
	}
	return nil
}
