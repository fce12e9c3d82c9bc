package archive

import (
	"archive/tar"
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// paxXattr begins the names of the PAX records that hold extended attributes, as
// GNU tar and Go's docker tools write them.
const paxXattr = "SCHILY.xattr."

// believed says which attributes an archive may set. Those that grant rights come
// with the owner that they are granted by; the kernel's and the file systems' own
// (trusted, most of security) are nobody's to copy.
func believed(name string, owner bool) bool {
	switch name {
	case "security.capability", "system.posix_acl_access", "system.posix_acl_default":
		return owner
	}
	return strings.HasPrefix(name, "user.")
}

// noXattrs tells a file system that has no such attributes, or keeps them to itself.
func noXattrs(err error) bool {
	return errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS)
}

// addXattrs puts an open file's attributes into its header.
func addXattrs(h *tar.Header, f *os.File) error {
	fd := int(f.Fd())
	list, err := readXattr(func(b []byte) (int, error) { return unix.Flistxattr(fd, b) })
	if err != nil || len(list) == 0 {
		return err
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(list), "\x00"), "\x00") {
		if !believed(name, true) || strings.Contains(name, "=") {
			continue
		}
		value, err := readXattr(func(b []byte) (int, error) { return unix.Fgetxattr(fd, name, b) })
		if errors.Is(err, unix.ENODATA) {
			continue // removed meanwhile
		}
		if err != nil {
			return &os.PathError{Op: "get attribute " + name, Path: h.Name, Err: err}
		}
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords[paxXattr+name] = string(value)
	}
	return nil
}

// readXattr asks for the size, then for the value, until both agree.
func readXattr(get func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := get(nil)
		if noXattrs(err) || err == nil && n == 0 {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		b := make([]byte, n)
		n, err = get(b)
		if errors.Is(err, unix.ERANGE) {
			continue // it has grown
		}
		if err != nil {
			return nil, err
		}
		return b[:n], nil
	}
}

// setXattrs gives an open file the attributes of its header that are believed. A
// file system without such attributes leaves them out.
func setXattrs(fd int, h *tar.Header, owner bool) error {
	for record, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(record, paxXattr)
		if !ok || !believed(name, owner) {
			continue
		}
		if err := unix.Fsetxattr(fd, name, []byte(value), 0); err != nil && !noXattrs(err) {
			return &os.PathError{Op: "set attribute " + name, Path: h.Name, Err: err}
		}
	}
	return nil
}
