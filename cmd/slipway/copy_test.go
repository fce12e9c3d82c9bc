package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"
)

func TestServerPath(t *testing.T) {
	for in, want := range map[string][2]string{
		"web:/etc/passwd": {"web", "/etc/passwd"}, "web:x": {"web", "x"}, "web:": {"web", ""},
	} {
		if server, path, ok := serverPath(in); !ok || server != want[0] || path != want[1] {
			t.Errorf("%s: %s, %s, %v", in, server, path, ok)
		}
	}
	for _, in := range []string{"/a:b", "./a:b", "file", "-", ":x", "../a:b"} {
		if _, _, ok := serverPath(in); ok {
			t.Errorf("%s is taken for a path in a server", in)
		}
	}
}

func TestRenamed(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "d/f", Typeflag: tar.TypeReg, Mode: 0o644},
		{Name: "d/hard", Typeflag: tar.TypeLink, Linkname: "d/f"},
		{Name: "d/soft", Typeflag: tar.TypeSymlink, Linkname: "d/f"},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{
		"":  {"d/", "d/f", "d/hard=d/f", "d/soft=d/f"},
		"e": {"e/", "e/f", "e/hard=e/f", "e/soft=d/f"},
		".": {"./", "./f", "./hard=./f", "./soft=d/f"},
	} {
		var got []string
		for r := tar.NewReader(renamed(bytes.NewReader(b.Bytes()), name)); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			entry := h.Name
			if h.Linkname != "" {
				entry += "=" + h.Linkname
			}
			got = append(got, entry)
		}
		if !slices.Equal(got, want) {
			t.Errorf("renamed to %q: %q, want %q", name, got, want)
		}
	}
}
