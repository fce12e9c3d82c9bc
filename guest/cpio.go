package guest

import (
	"bufio"
	"fmt"
	"io"
	"os"
)

// cpioWriter writes the "newc" cpio format, as the kernel's
// Documentation/driver-api/early-userspace/buffer-format.rst describes it.
// Inode numbers count up and times are zero, so equal input gives equal bytes.
// What goes wrong in writing is told by the Flush of what it writes to.
type cpioWriter struct {
	out     *bufio.Writer
	ino     int
	written int64
}

const (
	cpioDirectory = 0o040000
	cpioRegular   = 0o100000
	cpioChar      = 0o020000
)

func newCPIOWriter(out *bufio.Writer) *cpioWriter { return &cpioWriter{out: out} }

func (w *cpioWriter) directory(name string) { w.entry(name, cpioDirectory|0o755, 0, 0, 0) }

func (w *cpioWriter) file(name string, perm int, data []byte) {
	w.entry(name, cpioRegular|perm, 0, 0, int64(len(data)))
	n, _ := w.out.Write(data)
	w.pad(int64(n))
}

// copyFile adds what is in f, whose length must not change meanwhile.
func (w *cpioWriter) copyFile(name string, perm int, f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	w.entry(name, cpioRegular|perm, 0, 0, info.Size())
	n, err := io.CopyN(w.out, f, info.Size())
	if err != nil {
		return fmt.Errorf("copy %s: %w", f.Name(), err)
	}
	w.pad(n)
	return nil
}

func (w *cpioWriter) charDevice(name string, major, minor int) {
	w.entry(name, cpioChar|0o600, major, minor, 0)
}

func (w *cpioWriter) close() { w.entry("TRAILER!!!", 0, 0, 0, 0) }

// entry writes an entry's head; size bytes of content and their padding follow.
func (w *cpioWriter) entry(name string, mode, major, minor int, size int64) {
	w.ino++
	n, _ := fmt.Fprintf(w.out, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		w.ino, mode, 0, 0, 1, 0, size, 0, 0, major, minor, len(name)+1, 0, name)
	w.pad(int64(n))
}

// pad counts n bytes and fills up to a multiple of four.
func (w *cpioWriter) pad(n int64) {
	w.written += n
	for ; w.written%4 != 0; w.written++ {
		_ = w.out.WriteByte(0)
	}
}
