package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/images/content"
)

// MinUpper is the smallest upper.img: an ext4 file system with its journal.
const MinUpper = 16 << 20

// upperRecipe names how templates are made; those of another are not used.
const upperRecipe = "ext4-3"

// template gives the path of an empty file system of a size, made once.
func (s *Store) template(ctx context.Context, size int64) (string, error) {
	name := s.path("templates", upperRecipe+"-"+strconv.FormatInt(size, 10)+".img")
	if _, err := os.Stat(name); err == nil {
		return name, nil
	}
	release, err := s.locks.Acquire(ctx, lockTemplates)
	if err != nil {
		return "", err
	}
	defer release()
	if _, err := os.Stat(name); err == nil {
		return name, nil
	}
	f, err := content.Temporary(s.path("tmp"), "template-*")
	if err != nil {
		return "", err
	}
	if err = f.Truncate(size); err == nil {
		if err = makeExt4(ctx, f.Name()); err == nil {
			err = content.Commit(f, name)
		}
	}
	if err != nil {
		content.Discard(f)
		return "", fmt.Errorf("make file system of %d bytes: %w", size, err)
	}
	return name, f.Close()
}

// upperFeatures are named one by one, so that every host's mkfs makes the same:
// what any kernel since 4.5 mounts. With sparse_super and meta_bg a disk that a server
// was exported to grows while it is mounted, which sparse_super2 would not.
const upperFeatures = "none,64bit,dir_index,dir_nlink,ext_attr,extent,extra_isize,filetype,flex_bg,has_journal,huge_file,large_file,meta_bg,metadata_csum,sparse_super"

// makeExt4 leaves as much as can be unwritten, so that clones stay small: the
// inode tables and the journal are zeros, which a hole is; all other metadata
// but the copies of what describes the groups is in one place.
func makeExt4(ctx context.Context, name string) error {
	c := exec.CommandContext(ctx, "mkfs.ext4", "-q", "-F", "-b", "4096", "-I", "256", "-i", "16384", "-m", "0", "-J", "size=4", "-G", "4096", "-O", upperFeatures,
		"-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0,packed_meta_blocks=1", name)
	// Locale and configuration of the host have no say.
	c.Env = append(os.Environ(), "MKE2FS_CONFIG=/dev/null", "LC_ALL=C")
	out, err := c.CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("mkfs.ext4 (package e2fsprogs): %w", ErrUnsupported)
	}
	if err != nil {
		return fmt.Errorf("mkfs.ext4: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// clone copies a sparse file: by sharing blocks where the file system can,
// else the written parts alone.
func clone(to, from *os.File) error {
	if unix.IoctlFileClone(int(to.Fd()), int(from.Fd())) == nil {
		return nil
	}
	end, err := from.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if err := to.Truncate(end); err != nil {
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
		if _, err := to.Seek(data, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.Copy(to, io.NewSectionReader(from, data, hole-data)); err != nil {
			return err
		}
		at = hole
	}
	return nil
}
