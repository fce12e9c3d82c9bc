package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/slipway-vm/slipway/images/content"
)

// Resize makes upper.img, of an overlay that is not mounted, larger or smaller, with
// all that is in it. Smaller than what is in it, it fails and keeps its size. A crash
// in between costs nothing that was written; the size is then the old or the new one.
func (o *Overlay) Resize(ctx context.Context, size int64) error {
	size = erofsAlign(size)
	if size < MinUpper {
		return fmt.Errorf("resize overlay %s: size %d: at least %d bytes are needed", o.Dir, size, MinUpper)
	}
	image := filepath.Join(o.Dir, upperName)
	if err := resize(ctx, image, size); err != nil {
		return fmt.Errorf("resize overlay %s: %w", o.Dir, err)
	}
	record := filepath.Join(o.Dir, recordName)
	r := overlayRecord{Version: 1, ID: o.ID, DiffIDs: o.Base.DiffIDs, Size: size}
	if err := content.WriteRecord(o.Dir, record, r); err != nil {
		return fmt.Errorf("resize overlay %s: %w", o.Dir, err)
	}
	o.Size = size
	return nil
}

func resize(ctx context.Context, image string, size int64) error {
	info, err := os.Stat(image)
	if err != nil {
		return err
	}
	if info.Size() < size {
		if err := os.Truncate(image, size); err != nil {
			return err
		}
	}
	// resize2fs takes nothing that was not checked since it was last mounted.
	if err := runTool(ctx, 1, "e2fsck", "-f", "-p", image); err != nil {
		return err
	}
	if err := runTool(ctx, 0, "resize2fs", image, fmt.Sprintf("%dK", size>>10)); err != nil {
		return err
	}
	return os.Truncate(image, size)
}

// runTool runs a program that may end with a status of up to most.
func runTool(ctx context.Context, most int, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 && exit.ExitCode() <= most {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Discard removes the overlay in dir, which must not be mounted. One that is not
// there is no error.
func (s *Store) Discard(dir string) error {
	for _, name := range []string{recordName, upperName} { // without a record there is none
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("discard overlay in %s: %w", dir, err)
		}
	}
	return nil
}
