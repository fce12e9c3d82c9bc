package disk

import "encoding/binary"

// HeadSize is how much of a disk's file says how large it is.
const HeadSize = 32

// VirtualSize tells the size of a disk by the beginning of its file, which has length
// bytes; 0 where it does not say.
func VirtualSize(f Format, head []byte, length int64) int64 {
	switch {
	case f == FormatRaw:
		return length
	case len(head) < HeadSize:
		return 0
	case f == FormatQCOW2 && string(head[:4]) == "QFI\xfb":
		return int64(binary.BigEndian.Uint64(head[24:]))
	case f == FormatVMDK && string(head[:4]) == "KDMV":
		return int64(binary.LittleEndian.Uint64(head[12:])) * sectorSize
	}
	return 0
}
