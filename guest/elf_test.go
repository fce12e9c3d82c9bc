package guest

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"testing"
)

// elfFile makes the smallest ELF file of the kinds that this package reads:
// one program header or one named section holding data.
func elfFile(t *testing.T, typ elf.Type, machine elf.Machine, note []byte, section string, data []byte) []byte {
	t.Helper()
	const headerLen, progLen, sectLen = 64, 56, 64
	strtab := "\x00" + section + "\x00.shstrtab\x00"
	body := headerLen + 2*progLen
	h := elf.Header64{
		Type: uint16(typ), Machine: uint16(machine), Version: 1, Ehsize: headerLen,
		Phoff: headerLen, Phentsize: progLen, Phnum: 2,
		Shoff: uint64(body + len(note) + len(data) + len(strtab)), Shentsize: sectLen, Shnum: 3, Shstrndx: 2,
	}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = 2, 1, 1
	var out bytes.Buffer
	add := func(v any) {
		if err := binary.Write(&out, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	add(h)
	add(elf.Prog64{Type: uint32(elf.PT_LOAD), Filesz: 0, Memsz: 8 << 20})
	add(elf.Prog64{Type: uint32(elf.PT_NOTE), Off: uint64(body), Filesz: uint64(len(note)), Memsz: uint64(len(note))})
	out.Write(note)
	out.Write(data)
	out.WriteString(strtab)
	add(elf.Section64{})
	add(elf.Section64{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: uint64(body + len(note)), Size: uint64(len(data))})
	add(elf.Section64{Name: uint32(2 + len(section)), Type: uint32(elf.SHT_STRTAB),
		Off: uint64(body + len(note) + len(data)), Size: uint64(len(strtab))})
	return out.Bytes()
}

func note(owner string, typ uint32, desc []byte) []byte {
	var b []byte
	b = binary.LittleEndian.AppendUint32(b, uint32(len(owner)+1))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(desc)))
	b = binary.LittleEndian.AppendUint32(b, typ)
	b = append(b, owner...)
	for b = append(b, 0); len(b)%4 != 0; {
		b = append(b, 0)
	}
	for b = append(b, desc...); len(b)%4 != 0; {
		b = append(b, 0)
	}
	return b
}

// testVmlinux is a kernel of the given version as far as this package looks.
func testVmlinux(t *testing.T, version string) []byte {
	notes := append(note("Linux", 0, []byte("x")), note("Xen", pvhNote, []byte{0, 0, 0, 1})...)
	return elfFile(t, elf.ET_EXEC, elf.EM_X86_64, notes, ".rodata", []byte("Linux version "+version+" (someone)\n"))
}

func testModule(t *testing.T, depends string) []byte {
	return elfFile(t, elf.ET_REL, elf.EM_X86_64, nil, ".modinfo",
		[]byte("license=GPL\x00depends="+depends+"\x00name=x\x00"))
}

// testBzImage wraps an image as the kernel's build does.
func testBzImage(t *testing.T, image []byte) []byte {
	t.Helper()
	var payload bytes.Buffer
	zw := gzip.NewWriter(&payload)
	zw.Write(image)
	zw.Close()
	binary.Write(&payload, binary.LittleEndian, uint32(len(image)))
	out := make([]byte, 3*512)
	out[bzSetupSects] = 1
	copy(out[bzMagic:], "HdrS")
	binary.LittleEndian.PutUint16(out[bzVersion:], 0x20f)
	binary.LittleEndian.PutUint32(out[bzPayloadOffset:], 512)
	binary.LittleEndian.PutUint32(out[bzPayloadLength:], uint32(payload.Len()))
	return append(out, payload.Bytes()...)
}
