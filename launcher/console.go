package launcher

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// consoleInterval is how often a console log is looked at. A serial port writes
// slowly enough for that.
const consoleInterval = time.Second

// boundConsole keeps a console log from taking more than limit bytes of the disk
// until ctx ends.
func (m *Manager) boundConsole(ctx context.Context, i *instance) {
	limit := m.cfg.ConsoleLimit
	if limit == 0 {
		return
	}
	tick := time.NewTicker(consoleInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if err := dropFront(filepath.Join(i.dir, consoleFile), limit); err != nil {
			m.log.Warn("console log not bounded", "server", i.id, "err", err)
			return
		}
	}
}

// dropFront frees the older part of a file that takes more than limit bytes. QEMU
// has the file open and appends to it: so what is freed becomes a hole, which takes
// nothing from under it and loses nothing that it writes meanwhile.
func dropFront(name string, limit int64) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	if st.Blocks*512 <= limit {
		return nil
	}
	const page = 4096
	front := (st.Size - limit/2) / page * page
	if front <= 0 {
		return nil
	}
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, front)
}

// Console returns the end of the server's console log, at most limit bytes.
func (m *Manager) Console(ref string, limit int64) ([]byte, error) {
	i, err := m.find(ref)
	if err != nil {
		return nil, err
	}
	b, err := tail(filepath.Join(i.dir, consoleFile), limit)
	return bytes.TrimLeft(b, "\x00"), err // a hole that dropFront made
}

// FollowConsole writes the end of the server's console log, at most limit bytes, and
// then what is added to it, until no guest writes it any more or ctx ends.
func (m *Manager) FollowConsole(ctx context.Context, ref string, limit int64, w io.Writer) error {
	i, err := m.find(ref)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(i.dir, consoleFile), os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if _, err := f.Seek(max(0, size-limit), io.SeekStart); err != nil {
		return err
	}
	tick := time.NewTicker(consoleInterval / 4)
	defer tick.Stop()
	for {
		srv, _ := i.snapshot()
		done := !srv.Running() && srv.TaskState == TaskNone || srv.VMState == VMDeleted
		if _, err := io.Copy(holeless{w}, f); err != nil || done {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// holeless leaves out the hole that dropFront made.
type holeless struct{ io.Writer }

func (w holeless) Write(p []byte) (int, error) {
	if _, err := w.Writer.Write(bytes.ReplaceAll(p, []byte{0}, nil)); err != nil {
		return 0, err
	}
	return len(p), nil
}
