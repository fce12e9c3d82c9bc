package cloudinit

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// WriteFile is a file to write, or to add to.
type WriteFile struct {
	Path    string // absolute
	Content []byte // decoded
	Owner   string // user, or user:group
	Mode    fs.FileMode
	Append  bool
	// Defer has it written after users exist.
	Defer bool
}

func (c *Config) decodeWriteFiles(v any) error {
	list, ok := v.([]any)
	if !ok {
		return errors.New("not a list")
	}
	var bad []error
	for i, v := range list {
		f, err := writeFileOf(v)
		if err != nil {
			bad = append(bad, fmt.Errorf("entry %d: %w", i+1, err))
			continue
		}
		c.WriteFiles = append(c.WriteFiles, f)
	}
	return errors.Join(bad...)
}

func writeFileOf(v any) (WriteFile, error) {
	m, err := mapOf(v)
	if err != nil {
		return WriteFile{}, err
	}
	f := WriteFile{Path: text(m["path"]), Owner: text(m["owner"]), Mode: 0o644}
	if !path.IsAbs(f.Path) || strings.ContainsRune(f.Path, 0) {
		return WriteFile{}, fmt.Errorf("path %q is not absolute", f.Path)
	}
	if f.Owner == "" {
		f.Owner = "root:root"
	}
	if f.Content, err = contentOf(text(m["content"]), text(m["encoding"])); err != nil {
		return WriteFile{}, fmt.Errorf("%s: content: %w", f.Path, err)
	}
	if f.Mode, err = modeOf(m["permissions"]); err != nil {
		return WriteFile{}, fmt.Errorf("%s: %w", f.Path, err)
	}
	for key, to := range map[string]*bool{"append": &f.Append, "defer": &f.Defer} {
		if m[key] != nil {
			if err := boolOf(to, m[key]); err != nil {
				return WriteFile{}, fmt.Errorf("%s: %s: %w", f.Path, key, err)
			}
		}
	}
	return f, nil
}

func contentOf(s, encoding string) (data []byte, err error) {
	data = []byte(s)
	var zipped, coded bool
	switch strings.ToLower(encoding) {
	case "", "text/plain":
	case "gz", "gzip":
		zipped = true
	case "b64", "base64":
		coded = true
	case "gz+base64", "gzip+base64", "gz+b64", "gzip+b64":
		zipped, coded = true, true
	default:
		return nil, fmt.Errorf("unknown encoding %q", encoding)
	}
	if coded {
		if data, err = base64.StdEncoding.DecodeString(strings.Join(strings.Fields(s), "")); err != nil {
			return nil, err
		}
	}
	if zipped {
		if data, err = gunzip(data); err != nil {
			return nil, err
		}
	}
	return data, nil
}

// modeOf reads permissions: a number, or octal digits in a text.
func modeOf(v any) (fs.FileMode, error) {
	var bits int64
	switch v := v.(type) {
	case nil:
		return 0o644, nil
	case int:
		bits = int64(v)
	case string:
		var err error
		if bits, err = strconv.ParseInt(strings.TrimPrefix(v, "0o"), 8, 32); err != nil {
			return 0, fmt.Errorf("permissions %q are not octal digits", v)
		}
	default:
		bits = -1
	}
	if bits < 0 || bits > 0o7777 {
		return 0, fmt.Errorf("permissions %v are not octal digits up to 7777", v)
	}
	mode := fs.FileMode(bits & 0o777)
	for bit, flag := range map[int64]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if bits&bit != 0 {
			mode |= flag
		}
	}
	return mode, nil
}

// defaultMount is what a mount's missing fields are, unless mount_default_fields
// says otherwise.
var defaultMount = MountEntry{FSType: "auto", Options: "defaults,nofail", Dump: "0", Pass: "2"}

func (c *Config) decodeMounts(v any) error {
	list, ok := v.([]any)
	if !ok {
		return errors.New("not a list")
	}
	defaults := defaultMount
	if len(c.Mounts) > 0 {
		defaults = c.Mounts[0].or(defaultMount)
	}
	c.Mounts = nil
	var bad []error
	for i, v := range list {
		fields, ok := v.([]any)
		if !ok || len(fields) == 0 || len(fields) > 6 {
			bad = append(bad, fmt.Errorf("entry %d: not a list of one to six fields", i+1))
			continue
		}
		e := mountEntry(fields).or(defaults)
		if e.Device == "" || len(fields) > 1 && !path.IsAbs(e.MountPoint) && e.MountPoint != "none" && e.MountPoint != "" {
			bad = append(bad, fmt.Errorf("entry %d: mount point %q is not absolute", i+1, e.MountPoint))
			continue
		}
		c.Mounts = append(c.Mounts, e)
	}
	return errors.Join(bad...)
}

func mountEntry(fields []any) (e MountEntry) {
	to := []*string{&e.Device, &e.MountPoint, &e.FSType, &e.Options, &e.Dump, &e.Pass}
	for i, v := range fields[:min(len(fields), len(to))] {
		*to[i] = text(v)
	}
	return e
}

// or fills the fields that are empty, but device and mount point.
func (e MountEntry) or(defaults MountEntry) MountEntry {
	for _, f := range []struct {
		to   *string
		from string
	}{{&e.FSType, defaults.FSType}, {&e.Options, defaults.Options}, {&e.Dump, defaults.Dump}, {&e.Pass, defaults.Pass}} {
		if *f.to == "" {
			*f.to = f.from
		}
	}
	return e
}

func (c *Config) decodeSwap(v any) error {
	m, err := mapOf(v)
	if err != nil {
		return err
	}
	s := Swap{File: text(m["filename"])}
	if s.File == "" || m["size"] == nil {
		return nil // as in cloud-init: no swap
	}
	if !path.IsAbs(s.File) {
		return fmt.Errorf("filename %q is not absolute", s.File)
	}
	if text(m["size"]) == "auto" {
		s.Size = SizeAuto
	} else if s.Size, err = bytesOf(m["size"]); err != nil {
		return fmt.Errorf("size: %w", err)
	}
	if m["maxsize"] != nil {
		if s.MaxSize, err = bytesOf(m["maxsize"]); err != nil {
			return fmt.Errorf("maxsize: %w", err)
		}
	}
	if s.Size != 0 {
		c.Swap = &s
	}
	return nil
}

// bytesOf reads a size: a number of bytes, or one with a unit of 1024: 512M, 2G.
func bytesOf(v any) (int64, error) {
	s := strings.TrimSuffix(strings.ToUpper(strings.TrimSpace(text(v))), "B")
	unit := int64(1)
	for i, u := range []string{"K", "M", "G", "T"} {
		if n, ok := strings.CutSuffix(s, u); ok {
			s, unit = n, int64(1)<<(10*(i+1))
		}
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || n < 0 || n*float64(unit) > 1<<50 {
		return 0, fmt.Errorf("%q is no size such as 512M", text(v))
	}
	return int64(n * float64(unit)), nil
}
