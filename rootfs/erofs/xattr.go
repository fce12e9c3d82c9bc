package erofs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// Xattr is an extended attribute with its full name.
type Xattr struct {
	Name  string
	Value []byte
}

// The format stores a name as the number of its prefix and the rest. The two
// ACL names come before "system.", of which nothing else can be kept.
var xattrPrefixes = []struct {
	prefix string
	index  uint8
	whole  bool
}{
	{"user.", 1, false},
	{"system.posix_acl_access", 2, true},
	{"system.posix_acl_default", 3, true},
	{"trusted.", 4, false},
	{"security.", 6, false},
}

// XattrSupported says whether the format has a place for attributes of this
// name.
func XattrSupported(name string) bool {
	_, _, ok := splitXattr(name)
	return ok
}

func splitXattr(name string) (index uint8, rest string, ok bool) {
	for _, p := range xattrPrefixes {
		if rest, ok := strings.CutPrefix(name, p.prefix); ok && p.whole == (rest == "") {
			return p.index, rest, true
		}
	}
	return 0, "", false
}

const xattrHeaderSize = 12

// encodeXattrs gives the inode's attribute area, nil when it has none, and
// the count that the inode states its size by.
func encodeXattrs(xattrs []Xattr) ([]byte, uint16, error) {
	if len(xattrs) == 0 {
		return nil, 0, nil
	}
	b, err := EncodeXattrs(xattrs)
	if err != nil {
		return nil, 0, err
	}
	return b, uint16((len(b)-xattrHeaderSize)/4 + 1), nil
}

// EncodeXattrs gives attributes as an image has them; [DecodeXattrs] reads them.
func EncodeXattrs(xattrs []Xattr) ([]byte, error) {
	sorted := slices.Clone(xattrs)
	slices.SortFunc(sorted, func(a, b Xattr) int { return strings.Compare(a.Name, b.Name) })
	b := make([]byte, xattrHeaderSize, 64)
	for _, x := range sorted {
		index, rest, ok := splitXattr(x.Name)
		if !ok || len(rest) > 255 || len(x.Value) > 65535 || strings.ContainsRune(rest, 0) {
			return nil, fmt.Errorf("extended attribute %.80q of %d bytes: %w", x.Name, len(x.Value), ErrUnrepresentable)
		}
		b = append(b, uint8(len(rest)), index)
		b = binary.LittleEndian.AppendUint16(b, uint16(len(x.Value)))
		b = append(b, rest...)
		b = append(b, x.Value...)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
	}
	if inodeSize+len(b) > chunkSize {
		return nil, fmt.Errorf("%d bytes of extended attributes on one file: %w", len(b), ErrUnrepresentable)
	}
	return b, nil
}

// DecodeXattrs reads what [EncodeXattrs] gave, which it keeps no part of.
func DecodeXattrs(b []byte) ([]Xattr, error) {
	var all []Xattr
	for b = b[min(xattrHeaderSize, len(b)):]; len(b) >= 4; {
		nameLen, index, valueLen := int(b[0]), b[1], int(binary.LittleEndian.Uint16(b[2:]))
		n := 4 + nameLen + valueLen
		if n > len(b) {
			return nil, ErrCorrupt
		}
		prefix := ""
		for _, p := range xattrPrefixes {
			if p.index == index {
				prefix = p.prefix
			}
		}
		if prefix == "" {
			return nil, ErrCorrupt
		}
		all = append(all, Xattr{prefix + string(b[4:4+nameLen]), bytes.Clone(b[4+nameLen : n])})
		b = b[min(int(align(int64(n), 4)), len(b)):]
	}
	return all, nil
}
