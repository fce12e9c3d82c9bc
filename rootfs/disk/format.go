package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// Format is how a disk is kept in a file.
type Format string

// The formats. But for raw they are compressed.
const (
	FormatQCOW2 Format = "qcow2"
	FormatRaw   Format = "raw"
	FormatVMDK  Format = "vmdk" // the variant streamOptimized, which VMware imports
)

// Formats are all of them.
var Formats = []Format{FormatQCOW2, FormatRaw, FormatVMDK}

// Convert makes of a raw disk one of another format, in a file of dir without a name
// that is left at its beginning. The same disk makes the same bytes.
func Convert(ctx context.Context, raw *os.File, format Format, dir string) (_ *os.File, err error) {
	out, err := Temporary(dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("convert disk to %s: %w", format, err), out.Close())
		}
	}()
	args := []string{"convert", "-f", "raw", "-O", string(format)}
	switch format {
	case FormatQCOW2:
		args = append(args, "-c", "-o", "compat=1.1")
	case FormatVMDK:
		args = append(args, "-o", "subformat=streamOptimized")
	default:
		return nil, errors.New("unknown format: use qcow2, raw or vmdk")
	}
	c := exec.CommandContext(ctx, "qemu-img", append(args, given(0), given(1))...)
	c.ExtraFiles = []*os.File{raw, out}
	if err := run(c, "qemu-utils"); err != nil {
		return nil, err
	}
	if format == FormatVMDK {
		if err := nameContent(out); err != nil {
			return nil, err
		}
	}
	_, err = out.Seek(0, io.SeekStart)
	return out, err
}

// nameContent replaces the content ID of a VMDK's descriptor, a number that QEMU
// draws.
func nameContent(vmdk *os.File) error {
	head := make([]byte, 64<<10)
	n, err := vmdk.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	mark := []byte("\nCID=")
	i := bytes.Index(head[:n], mark)
	if i < 0 || i+len(mark)+8 > n {
		return errors.New("the descriptor has no content ID")
	}
	_, err = vmdk.WriteAt([]byte("51195a79"), int64(i+len(mark)))
	return err
}
