package layer

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/slipway-vm/slipway/rootfs/erofs"
)

// header is what a layer's entry says.
type header struct {
	kind     byte
	name     string
	link     string
	mode     int64
	uid, gid int64
	size     int64
	sec      int64
	nsec     uint32
	major    int64
	minor    int64
	xattrs   []erofs.Xattr
}

// archive reads a tar stream. What nearly all entries are, ustar headers with
// or without PAX records, it reads itself, which takes a quarter of the time
// that archive/tar does. For everything else (GNU's formats, sparse files,
// numbers that are not octal, whatever seems wrong) it hands the entry to
// archive/tar, whose word on it counts; a fuzz test holds the two together.
type archive struct {
	r io.Reader

	block [blockSize]byte
	pax   []byte // payload of the PAX header before the entry
	raw   []byte // all blocks of the entry so far

	// what is left of the entry
	left    int64 // for an entry read here
	padding int64
	slow    *slowEntry
}

// slowEntry is one entry as archive/tar reads it.
type slowEntry struct {
	*tar.Reader
	source *countingReader
}

type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

const (
	blockSize = 512
	maxPAX    = 1 << 20 // as archive/tar has it
)

// errOdd sends an entry to archive/tar.
var errOdd = errors.New("not for the quick reader")

// next goes to the next entry, or gives io.EOF.
func (a *archive) next(h *header) error {
	if err := a.skip(); err != nil {
		return err
	}
	a.raw, a.pax = a.raw[:0], nil
	err := a.quick(h)
	if errors.Is(err, errOdd) {
		return a.ask(h)
	}
	return err
}

// Read reads the entry's data.
func (a *archive) Read(p []byte) (int, error) {
	if a.slow != nil {
		return a.slow.Read(p)
	}
	if a.left == 0 {
		return 0, io.EOF
	}
	n, err := a.r.Read(p[:min(int64(len(p)), a.left)])
	a.left -= int64(n)
	if errors.Is(err, io.EOF) && a.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// data is the entry's data, and an [erofs.Viewer] where the archive is one.
func (a *archive) data() io.Reader {
	if v, ok := a.r.(erofs.Viewer); ok && a.slow == nil {
		return viewed{a, v}
	}
	return a
}

type viewed struct {
	*archive
	of erofs.Viewer
}

func (v viewed) Next(n int) ([]byte, error) {
	if v.left == 0 {
		return nil, io.EOF
	}
	b, err := v.of.Next(int(min(int64(n), v.left)))
	v.left -= int64(len(b))
	return b, err
}

// skip passes over what was not read of the entry, and its padding.
func (a *archive) skip() error {
	if a.slow != nil {
		if _, err := io.Copy(io.Discard, a.slow); err != nil {
			return err
		}
		a.padding = -a.slow.source.n & (blockSize - 1)
		a.slow = nil
	}
	left, padding := a.left, a.padding
	a.left, a.padding = 0, 0
	if left > 0 {
		if _, err := io.CopyN(io.Discard, a.r, left); err != nil {
			if errors.Is(err, io.EOF) {
				return io.ErrUnexpectedEOF
			}
			return err
		}
	}
	if padding > 0 {
		// An archive may end without its last padding.
		if _, err := io.CopyN(io.Discard, a.r, padding); err != nil {
			return err
		}
	}
	return nil
}

// readBlock reads a header block, or gives io.EOF where there is none.
func (a *archive) readBlock() error {
	if _, err := io.ReadFull(a.r, a.block[:]); err != nil {
		return err
	}
	a.raw = append(a.raw, a.block[:]...)
	return nil
}

// quick reads an entry of the usual kind.
func (a *archive) quick(h *header) error {
	for {
		if err := a.readBlock(); err != nil {
			if len(a.raw) > 0 && errors.Is(err, io.EOF) {
				return errOdd
			}
			return err
		}
		b := &a.block
		if !usual(b) {
			return errOdd
		}
		if b[156] != tar.TypeXHeader {
			break
		}
		if a.pax != nil {
			return errOdd
		}
		if err := a.records(); err != nil {
			return err
		}
	}
	*h = header{kind: a.block[156], xattrs: h.xattrs[:0]}
	if err := h.numbers(&a.block); err != nil {
		return err
	}
	h.names(&a.block)
	if err := h.override(a.pax); err != nil {
		return err
	}
	switch h.kind {
	case 0:
		return errOdd // a directory if its name ends in a slash
	case tar.TypeReg:
		a.left, a.padding = h.size, -h.size&(blockSize-1)
	case tar.TypeLink, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeDir, tar.TypeFifo:
		// Whatever size they state, no data follows.
	default:
		return errOdd
	}
	return nil
}

// usual says whether a block is a ustar header with the right checksum.
func usual(b *[blockSize]byte) bool {
	if string(b[257:265]) != "ustar\x0000" || string(b[508:512]) == "tar\x00" {
		return false
	}
	want, err := octal(b[148:156])
	if err != nil {
		return false
	}
	// The checksum counts as spaces in it.
	return sumOf(b[:])-sumOf(b[148:156])+8*' ' == want
}

// sumOf adds bytes, eight at a time: a block's sums of every other byte fit in 16 bits.
func sumOf(b []byte) int64 {
	const low = 0x00ff00ff00ff00ff
	var four uint64
	for ; len(b) >= 8; b = b[8:] {
		x := binary.LittleEndian.Uint64(b)
		four += x&low + x>>8&low
	}
	return int64(four&0xffff + four>>16&0xffff + four>>32&0xffff + four>>48)
}

// records reads the payload of a PAX header.
func (a *archive) records() error {
	var x header
	if err := x.numbers(&a.block); err != nil || x.size > maxPAX {
		return errOdd
	}
	size := x.size
	at := len(a.raw)
	a.raw = slices.Grow(a.raw, int(size+blockSize))[:at+int(size+(-size&(blockSize-1)))]
	n, err := io.ReadFull(a.r, a.raw[at:])
	if err != nil {
		a.raw = a.raw[:at+n]
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return io.ErrUnexpectedEOF
		}
		return err
	}
	a.pax = a.raw[at : at+int(size) : at+int(size)]
	return nil
}

// octal reads a number as ustar has it, padded by spaces and zero bytes.
func octal(b []byte) (int64, error) {
	for len(b) > 0 && (b[0] == ' ' || b[0] == 0) {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == 0) {
		b = b[:len(b)-1]
	}
	n := int64(0)
	for _, c := range b {
		if c < '0' || c > '7' || n > 1<<59 {
			return 0, errOdd
		}
		n = n<<3 | int64(c-'0')
	}
	return n, nil
}

func text0(b []byte) []byte {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		return b[:i]
	}
	return b
}

// numbers reads a block's numbers.
func (h *header) numbers(b *[blockSize]byte) error {
	var errs [7]error
	h.mode, errs[0] = octal(b[100:108])
	h.uid, errs[1] = octal(b[108:116])
	h.gid, errs[2] = octal(b[116:124])
	h.size, errs[3] = octal(b[124:136])
	h.sec, errs[4] = octal(b[136:148])
	h.major, errs[5] = octal(b[329:337])
	h.minor, errs[6] = octal(b[337:345])
	if slices.ContainsFunc(errs[:], func(err error) bool { return err != nil }) {
		return errOdd
	}
	return nil
}

// names reads a block's names.
func (h *header) names(b *[blockSize]byte) {
	name := text0(b[:100])
	if prefix := text0(b[345:500]); len(prefix) > 0 {
		h.name = string(prefix) + "/" + string(name)
	} else {
		h.name = string(name)
	}
	h.link = string(text0(b[157:257]))
}

// override applies PAX records.
func (h *header) override(pax []byte) error {
	for len(pax) > 0 {
		length, rest, ok := bytes.Cut(pax, []byte(" "))
		n, err := strconv.Atoi(string(length))
		if !ok || err != nil || len(length) > 0 && length[0] == '0' || n < len(length)+2 || n > len(pax) || pax[n-1] != '\n' {
			return errOdd
		}
		record := rest[:n-len(length)-2]
		pax = pax[n:]
		key, value, ok := bytes.Cut(record, []byte("="))
		if !ok || len(key) == 0 {
			return errOdd
		}
		if err := h.record(string(key), value); err != nil {
			return err
		}
	}
	return h.sortXattrs()
}

func (h *header) record(key string, value []byte) error {
	if name, ok := strings.CutPrefix(key, xattrRecord); ok {
		if bytes.IndexByte([]byte(key), 0) >= 0 {
			return errOdd
		}
		if keepXattr(name) {
			h.xattrs = append(h.xattrs, erofs.Xattr{Name: name, Value: bytes.Clone(value)})
		}
		return nil
	}
	if strings.HasPrefix(key, "GNU.sparse.") {
		return errOdd
	}
	var err error
	switch key {
	case "path", "linkpath", "uname", "gname":
		if bytes.IndexByte(value, 0) >= 0 {
			return errOdd
		}
		if len(value) == 0 {
			return errOdd
		}
		if key == "path" {
			h.name = string(value)
		}
		if key == "linkpath" {
			h.link = string(value)
		}
	case "size":
		err = decimal(value, &h.size)
	case "uid":
		err = decimal(value, &h.uid)
	case "gid":
		err = decimal(value, &h.gid)
	case "mtime":
		err = h.time(value)
	case "atime", "ctime":
		var ignored header
		err = ignored.time(value)
	default:
		if bytes.IndexByte([]byte(key), 0) >= 0 {
			return errOdd
		}
	}
	return err
}

// sortXattrs sorts the extended attributes. Of several of one name the last counts.
func (h *header) sortXattrs() error {
	slices.SortFunc(h.xattrs, func(a, b erofs.Xattr) int { return strings.Compare(a.Name, b.Name) })
	for i := 1; i < len(h.xattrs); i++ {
		if h.xattrs[i].Name == h.xattrs[i-1].Name {
			return errOdd
		}
	}
	return nil
}

// decimal reads a record's number.
func decimal(b []byte, to *int64) error {
	if len(b) == 0 || len(b) > 18 {
		return errOdd
	}
	n := int64(0)
	for _, c := range b {
		if c < '0' || c > '9' {
			return errOdd
		}
		n = 10*n + int64(c-'0')
	}
	*to = n
	return nil
}

// time reads seconds with a fraction. Those before 1970 are for archive/tar.
func (h *header) time(b []byte) error {
	whole, fraction, point := bytes.Cut(b, []byte("."))
	if point && len(fraction) == 0 {
		return errOdd
	}
	nsec, digit := uint32(0), uint32(100_000_000)
	for _, c := range fraction {
		if c < '0' || c > '9' {
			return errOdd
		}
		nsec += uint32(c-'0') * digit
		digit /= 10
	}
	h.nsec = nsec
	return decimal(whole, &h.sec)
}

// ask has archive/tar read the entry, of which some blocks have been read.
func (a *archive) ask(h *header) error {
	source := &countingReader{r: a.r}
	slow := tar.NewReader(io.MultiReader(bytes.NewReader(bytes.Clone(a.raw)), source))
	t, err := slow.Next()
	if err != nil {
		return err
	}
	a.slow = &slowEntry{slow, source}
	h.fromTar(t)
	return nil
}

func (h *header) fromTar(t *tar.Header) {
	*h = header{kind: t.Typeflag, name: t.Name, link: t.Linkname, mode: t.Mode, uid: int64(t.Uid), gid: int64(t.Gid), size: t.Size,
		sec: t.ModTime.Unix(), nsec: uint32(t.ModTime.Nanosecond()), major: t.Devmajor, minor: t.Devminor}
	for record, value := range t.PAXRecords {
		name, ok := strings.CutPrefix(record, xattrRecord)
		if ok && keepXattr(name) {
			h.xattrs = append(h.xattrs, erofs.Xattr{Name: name, Value: []byte(value)})
		}
	}
}
