package domain

import (
	"strings"
	"testing"
)

func TestConcatenate(t *testing.T) {
	got, err := Concatenate([]Extent{{"/a b", 512}, {"/c", 8192}})
	if err != nil {
		t.Fatal(err)
	}
	want := "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"twoGbMaxExtentFlat\"\n" +
		"RW 1 FLAT \"/a b\" 0\nRW 16 FLAT \"/c\" 0\n"
	if string(got) != want {
		t.Errorf("%q, want %q", got, want)
	}
	for name, e := range map[string][]Extent{
		"there are none":   nil,
		"no path such as":  {{"/a\"b", 512}},
		"path such as \"a": {{"a", 512}},
		"511":              {{"/a", 511}},
		"0 bytes":          {{"/a", 0}},
		"takes no path":    {{"/" + strings.Repeat("a", 511), 512}},
	} {
		if _, err := Concatenate(e); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDiskRefused(t *testing.T) {
	for want, d := range map[string]Disk{
		"absolute": {Path: "a", Serial: "s", Format: FormatRaw},
		"serial":   {Path: "/a", Format: FormatRaw},
		"format":   {Path: "/a", Serial: "s", Format: "vdi"},
	} {
		s := spec()
		s.Disks = []Disk{d}
		if _, err := s.XML(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
