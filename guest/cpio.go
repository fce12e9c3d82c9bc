package guest

import (
	"bytes"
	"fmt"
)

// cpioWriter writes the "newc" cpio format, as the kernel's
// Documentation/driver-api/early-userspace/buffer-format.rst describes it.
// Inode numbers count up and times are zero, so equal input gives equal bytes.
type cpioWriter struct {
	out *bytes.Buffer
	ino int
}

const (
	cpioDirectory = 0o040000
	cpioRegular   = 0o100000
	cpioChar      = 0o020000
)

func newCPIOWriter(out *bytes.Buffer) *cpioWriter { return &cpioWriter{out: out} }

func (w *cpioWriter) directory(name string) { w.entry(name, cpioDirectory|0o755, 0, 0, nil) }

func (w *cpioWriter) file(name string, perm int, data []byte) {
	w.entry(name, cpioRegular|perm, 0, 0, data)
}

func (w *cpioWriter) charDevice(name string, major, minor int) {
	w.entry(name, cpioChar|0o600, major, minor, nil)
}

func (w *cpioWriter) close() { w.entry("TRAILER!!!", 0, 0, 0, nil) }

func (w *cpioWriter) entry(name string, mode, major, minor int, data []byte) {
	w.ino++
	fmt.Fprintf(w.out, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		w.ino, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name)+1, 0)
	w.out.WriteString(name)
	w.out.WriteByte(0)
	w.pad()
	w.out.Write(data)
	w.pad()
}

func (w *cpioWriter) pad() {
	for w.out.Len()%4 != 0 {
		w.out.WriteByte(0)
	}
}
