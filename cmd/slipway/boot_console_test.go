package main

import (
	"slices"
	"strings"
	"testing"
)

// A console is read as a whole, again and again, and its beginning may go.
func TestConsoleReader(t *testing.T) {
	line := func(n int) string { return strings.Repeat("x", n) + "\n" }
	long := strings.Repeat("0123456789\n", 200)
	for _, test := range []struct {
		name  string
		reads []string
		want  []string // of the last read
		lost  bool
	}{
		{"empty", []string{""}, nil, false},
		{"half a line", []string{"a\nb"}, []string{"a\n"}, false},
		{"the other half", []string{"a\nb", "a\nbc\r\n"}, []string{"bc\n"}, false},
		{"nothing new", []string{"a\n", "a\n"}, nil, false},
		{"moved on", []string{long + line(1), long[1100:] + line(1) + line(2)}, []string{"xx\n"}, false},
		{"moved too far", []string{long + line(1), line(3)}, []string{"xxx\n"}, true},
	} {
		var c consoleReader
		var got []string
		var lost bool
		for _, text := range test.reads {
			got, lost = c.take(text)
		}
		if !slices.Equal(got, test.want) || lost != test.lost {
			t.Errorf("%s: %q, lost %v", test.name, got, lost)
		}
	}
}

func TestGuestLine(t *testing.T) {
	for line, want := range map[string]bool{
		"[    8.994641] reboot: Power down\n": true,
		"slipway-init: eth0: DHCP\n":          true,
		"[error] of mine\n":                   false,
		"hello\n":                             false,
	} {
		if got := guestLine.MatchString(line); got != want {
			t.Errorf("%q: %v", line, got)
		}
	}
}

func TestBaseName(t *testing.T) {
	for ref, want := range map[string]string{
		"docker.io/library/nginx:alpine": "nginx-alpine", "oci:/x/busybox": "busybox", "app@sha256:00": "app", "oci:/x/:1": "1", "/": "slipway",
	} {
		if got := baseName(ref); got != want {
			t.Errorf("%s: %s", ref, got)
		}
	}
}
