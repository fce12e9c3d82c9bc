package guest

import (
	"bytes"
	"compress/gzip"
	"context"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"os/exec"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// Offsets in the header of a bzImage, from the kernel's
// Documentation/x86/boot.rst.
const (
	bzSetupSects    = 0x1f1
	bzMagic         = 0x202 // "HdrS"
	bzVersion       = 0x206
	bzPayloadOffset = 0x248
	bzPayloadLength = 0x24c
)

func isBzImage(data []byte) bool {
	return len(data) >= bzMagic+4 && string(data[bzMagic:bzMagic+4]) == "HdrS"
}

// extractVmlinux returns the ELF kernel that a bzImage carries compressed. A
// guest is started at the ELF's PVH entry: decompressing at every boot would
// cost seconds under emulation.
func extractVmlinux(ctx context.Context, data []byte) ([]byte, error) {
	if len(data) < bzPayloadLength+4 || !isBzImage(data) {
		return nil, fmt.Errorf("%w: no bzImage header", ErrNotKernel)
	}
	if v := binary.LittleEndian.Uint16(data[bzVersion:]); v < 0x208 {
		return nil, fmt.Errorf("%w: boot protocol %#x is too old to find the payload", ErrNotKernel, v)
	}
	sects := int64(data[bzSetupSects])
	if sects == 0 {
		sects = 4
	}
	start := (sects+1)*512 + int64(binary.LittleEndian.Uint32(data[bzPayloadOffset:]))
	end := start + int64(binary.LittleEndian.Uint32(data[bzPayloadLength:]))
	if start >= end || end > int64(len(data)) {
		return nil, fmt.Errorf("%w: payload at %d to %d of %d bytes", ErrNotKernel, start, end, len(data))
	}
	image, err := decompress(ctx, data[start:end])
	if err != nil {
		return nil, fmt.Errorf("decompress vmlinux: %w", err)
	}
	if !bytes.HasPrefix(image, []byte(elf.ELFMAG)) {
		return nil, fmt.Errorf("%w: the bzImage does not hold an ELF file", ErrNotKernel)
	}
	return image, nil
}

func decompress(ctx context.Context, payload []byte) ([]byte, error) {
	switch {
	case bytes.HasPrefix(payload, []byte("\x1f\x8b")):
		r, err := gzip.NewReader(bytes.NewReader(payload))
		if err != nil {
			return nil, err
		}
		// The length that the build appends to the payload is no gzip member.
		r.Multistream(false)
		return readLimited(r)
	case bytes.HasPrefix(payload, []byte("\x28\xb5\x2f\xfd")):
		if len(payload) < 4 {
			return nil, io.ErrUnexpectedEOF
		}
		r, err := zstd.NewReader(bytes.NewReader(payload[:len(payload)-4]), zstd.WithDecoderMaxMemory(maxImageSize))
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return readLimited(r)
	case bytes.HasPrefix(payload, []byte("\xfd7zXZ\x00")):
		return decompressXZ(ctx, payload)
	}
	return nil, fmt.Errorf("unknown compression (first bytes %x)", payload[:min(6, len(payload))])
}

// decompressXZ runs xz, since the kernel's payload goes through the x86 branch
// filter, which no Go library undoes.
func decompressXZ(ctx context.Context, payload []byte) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "xz", "--decompress", "--stdout", "--single-stream")
	cmd.Stdin = bytes.NewReader(payload)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	image, readErr := readLimited(out)
	if readErr != nil {
		cmd.Process.Kill()
	}
	if err := cmd.Wait(); err != nil && readErr == nil {
		return nil, fmt.Errorf("xz: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return image, readErr
}

func readLimited(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxImageSize+1))
	if err == nil && len(data) > maxImageSize {
		err = fmt.Errorf("more than %d bytes", maxImageSize)
	}
	return data, err
}

type imageInfo struct {
	version string
	memory  int64 // that the kernel needs to reach init
	mpTable bool
	minimal bool
}

// baseMemory is what a kernel and slipway-init need beside the kernel's own
// image and its modules. The stock 6.1 kernel was found to boot a small Go
// program with 104 MiB in all, and to stall in reclaim with 96; this makes it
// 118.
const baseMemory = 56 << 20

// minimalSuffix ends the version of a kernel that etc/kernel built
// (CONFIG_LOCALVERSION).
const minimalSuffix = "-slipway"

// mpTableMessage is what a kernel says of an MP table (CONFIG_X86_MPPARSE).
const mpTableMessage = "MPTABLE: OEM ID"

// pvhNote is the type of the Xen note that holds the PVH entry point.
const pvhNote = 18

func inspectImage(image []byte) (imageInfo, error) {
	f, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return imageInfo{}, fmt.Errorf("%w: %w", ErrNotKernel, err)
	}
	defer f.Close()
	if f.Machine != elf.EM_X86_64 || f.Type != elf.ET_EXEC {
		return imageInfo{}, fmt.Errorf("%w: %s %s instead of an x86-64 executable", ErrNotKernel, f.Machine, f.Type)
	}
	info := imageInfo{memory: baseMemory, mpTable: bytes.Contains(image, []byte(mpTableMessage))}
	pvh := false
	for _, p := range f.Progs {
		switch p.Type {
		case elf.PT_LOAD:
			info.memory += int64(p.Memsz)
		case elf.PT_NOTE:
			notes, err := io.ReadAll(io.LimitReader(p.Open(), 1<<20))
			if err != nil {
				return imageInfo{}, fmt.Errorf("%w: read notes: %w", ErrNotKernel, err)
			}
			pvh = pvh || hasNote(notes, "Xen", pvhNote)
		}
	}
	if !pvh {
		return imageInfo{}, fmt.Errorf("%w: no PVH entry (CONFIG_PVH)", ErrNotKernel)
	}
	const banner = "Linux version "
	i := bytes.Index(image, []byte(banner))
	if i < 0 {
		return imageInfo{}, fmt.Errorf("%w: no version banner", ErrNotKernel)
	}
	rest := image[i+len(banner) : min(len(image), i+len(banner)+128)]
	version, _, ok := strings.Cut(string(rest), " ")
	if !ok {
		return imageInfo{}, fmt.Errorf("%w: broken version banner", ErrNotKernel)
	}
	info.version = version
	info.minimal = strings.HasSuffix(version, minimalSuffix)
	return info, nil
}

// hasNote looks for an ELF note of the given owner and type.
func hasNote(notes []byte, owner string, typ uint32) bool {
	for len(notes) >= 12 {
		nameLen := int64(binary.LittleEndian.Uint32(notes))
		descLen := int64(binary.LittleEndian.Uint32(notes[4:]))
		noteType := binary.LittleEndian.Uint32(notes[8:])
		size := 12 + (nameLen+3)&^3 + (descLen+3)&^3
		if size > int64(len(notes)) {
			return false
		}
		if name := string(notes[12 : 12+nameLen]); noteType == typ && strings.TrimRight(name, "\x00") == owner {
			return true
		}
		notes = notes[size:]
	}
	return false
}
