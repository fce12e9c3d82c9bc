package erofs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

const (
	// BlockSize is the unit of allocation; an image's size is a multiple.
	BlockSize = 4096

	superOffset = 1024
	superSize   = 128
	superMagic  = 0xE0F5E1E2
	inodeSize   = 64
	slotSize    = 32
	direntSize  = 12

	// The super block can only name a root inode in the first 2 MiB, so the
	// root has the first slot after the super block, in block 0.
	rootOffset = superOffset + superSize

	compatChecksum = 1
	compatMtime    = 2

	layoutPlain  = 0
	layoutInline = 2
	formatLong   = 1 // the 64-byte inode

	// MaxName and MaxTarget are what Linux accepts.
	MaxName   = 255
	MaxTarget = 4095
)

// File type bits of Attr.Mode.
const (
	ModeType    = 0o170000
	ModeFifo    = 0o010000
	ModeChar    = 0o020000
	ModeDir     = 0o040000
	ModeBlock   = 0o060000
	ModeRegular = 0o100000
	ModeSymlink = 0o120000
	ModeSocket  = 0o140000
)

// ErrUnrepresentable is wrapped by every refusal of something the format, or
// Linux, has no room for.
var ErrUnrepresentable = errors.New("not representable in the file system")

// NID is an inode's number: its offset in the image in units of 32 bytes.
type NID uint64

// Attr is what an inode says beside its data. Mode has the type bits of
// stat(2); Rdev is made by [Device].
type Attr struct {
	Mode   uint16
	UID    uint32
	GID    uint32
	Sec    int64
	Nsec   uint32
	Rdev   uint32
	Xattrs []Xattr
}

// Device encodes a device number as the format (and the kernel) has it.
func Device(major, minor int64) (uint32, error) {
	if major < 0 || major >= 1<<12 || minor < 0 || minor >= 1<<20 {
		return 0, fmt.Errorf("device %d:%d: %w", major, minor, ErrUnrepresentable)
	}
	return uint32(minor&0xff) | uint32(major)<<8 | uint32(minor&^0xff)<<12, nil
}

// direntModes are the types of a directory entry, by their codes.
var direntModes = [...]uint16{1: ModeRegular, 2: ModeDir, 3: ModeChar, 4: ModeBlock, 5: ModeFifo, 6: ModeSocket, 7: ModeSymlink}

func direntType(mode uint16) uint8 {
	for code, m := range direntModes {
		if code > 0 && m == mode&ModeType {
			return uint8(code)
		}
	}
	return 0
}

func direntMode(code uint8) uint16 {
	if int(code) < len(direntModes) {
		return direntModes[code]
	}
	return 0
}

type superblock struct {
	root   uint16
	inodes uint64
	blocks uint32
	uuid   [16]byte
}

// put writes the super block into block 0 and then its checksum, which covers
// the rest of that block too.
func (s *superblock) put(block []byte) {
	b := block[superOffset:]
	le := binary.LittleEndian
	le.PutUint32(b[0:], superMagic)
	le.PutUint32(b[8:], compatChecksum|compatMtime)
	b[12] = 12 // log2 of the block size
	le.PutUint16(b[14:], s.root)
	le.PutUint64(b[16:], s.inodes)
	le.PutUint32(b[36:], s.blocks)
	copy(b[48:64], s.uuid[:])
	le.PutUint32(b[4:], checksum(block))
}

// checksum is crc32c as the kernel computes it: without the final inversion,
// over block 0 from the super block on, the checksum itself taken as zero.
func checksum(block []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	b := block[superOffset:BlockSize]
	sum := crc32.Update(0, table, b[:4])
	sum = crc32.Update(sum, table, []byte{0, 0, 0, 0})
	sum = crc32.Update(sum, table, b[8:])
	return ^sum
}

// putInode writes the 64-byte inode. u is the block address or the device.
func putInode(b []byte, a *Attr, layout uint16, xattrCount uint16, size uint64, u uint32, ino, nlink uint32) {
	le := binary.LittleEndian
	le.PutUint16(b[0:], formatLong|layout<<1)
	le.PutUint16(b[2:], xattrCount)
	le.PutUint16(b[4:], a.Mode)
	le.PutUint64(b[8:], size)
	le.PutUint32(b[16:], u)
	le.PutUint32(b[20:], ino)
	le.PutUint32(b[24:], a.UID)
	le.PutUint32(b[28:], a.GID)
	le.PutUint64(b[32:], uint64(a.Sec))
	le.PutUint32(b[40:], a.Nsec)
	le.PutUint32(b[44:], nlink)
}

const nlinkOffset = 44

func align(n, to int64) int64 { return (n + to - 1) / to * to }
