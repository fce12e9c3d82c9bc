package content

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Temporary makes a file in dir that is locked while it is open, so that a
// Sweep by another process can tell it from what a dead one left.
func Temporary(dir, pattern string) (*os.File, error) {
	for {
		f, err := os.CreateTemp(dir, pattern)
		if err != nil {
			return nil, err
		}
		var st unix.Stat_t
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err == nil {
			err = unix.Fstat(int(f.Fd()), &st)
		}
		if err == nil && st.Nlink > 0 {
			return f, nil
		}
		// A sweep may have come between the creation and the lock.
		Discard(f)
		if err != nil {
			return nil, err
		}
	}
}

// Discard closes and removes a temporary file that came to nothing.
func Discard(f *os.File) {
	os.Remove(f.Name())
	f.Close()
}

// Sweep removes the temporary files whose maker is gone.
func Sweep(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		f, err := os.Open(filepath.Join(dir, e.Name()))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			errs = append(errs, os.Remove(f.Name()))
		}
		f.Close()
	}
	return errors.Join(errs...)
}

// Commit gives a finished temporary file its name, durably.
func Commit(f *os.File, name string) error {
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(name))
}

// SyncDir makes the names in a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// WriteRecord puts v as JSON at name, whole or not at all, durably.
func WriteRecord(tmp, name string, v any) error { return write(tmp, name, v, Commit) }

// WriteLater is WriteRecord but for the last step: until SyncDir, a power failure
// may bring back what had the name before.
func WriteLater(tmp, name string, v any) error {
	return write(tmp, name, v, func(f *os.File, name string) error {
		if err := f.Sync(); err != nil {
			return err
		}
		return os.Rename(f.Name(), name)
	})
}

// WriteUnsynced is WriteRecord for what a power failure may take.
func WriteUnsynced(tmp, name string, v any) error {
	return write(tmp, name, v, func(f *os.File, name string) error { return os.Rename(f.Name(), name) })
}

func write(tmp, name string, v any, commit func(*os.File, string) error) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	f, err := Temporary(tmp, "record-*")
	if err != nil {
		return err
	}
	if _, err = f.Write(append(b, '\n')); err == nil {
		err = commit(f, name)
	}
	if err != nil {
		Discard(f)
		return err
	}
	return f.Close()
}

// ReadRecord reads what WriteRecord wrote. What a power failure left of a record
// that was not synced is an error that wraps ErrCorrupt.
func ReadRecord(name string, v any) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return nil
}
