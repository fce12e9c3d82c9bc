package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slipway-vm/slipway/launcher"
)

func TestParseVolume(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]launcher.Volume{
		"/a:/b":    {Host: "/a", Guest: "/b"},
		"/a:/b:ro": {Host: "/a", Guest: "/b", ReadOnly: true},
		"/a:/b:rw": {Host: "/a", Guest: "/b"},
		"./x:/b":   {Host: filepath.Join(here, "x"), Guest: "/b"},
		".:/b":     {Host: here, Guest: "/b"},
	} {
		if got, err := parseVolume(in); err != nil || got != want {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
	}
	for in, says := range map[string]string{
		"/a": "two or three", "/a:/b:/c:/d": "two or three", "/a:/b:x": "neither ro nor rw", "data:/b": "no named volumes",
	} {
		if _, err := parseVolume(in); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", in, err)
		}
	}
}

func TestEnvironment(t *testing.T) {
	file := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(file, []byte("# a comment\n\nA=1\n  B=two words\nPASSED\nNOT_SET_ANYWHERE\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PASSED", "on")
	got, err := environment([]string{file}, []string{"C=", "PASSED"})
	want := []string{"A=1", "B=two words", "PASSED=on", "C=", "PASSED=on"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := environment(nil, []string{"=x"}); err == nil {
		t.Error("an entry without a name is taken")
	}
	if _, err := environment([]string{"/nonexistent"}, nil); err == nil {
		t.Error("a file that is not there is taken")
	}
}

func TestAbsoluteImage(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		"alpine:3":         "alpine:3",
		"oci:x:latest":     "oci:" + here + "/x:latest",
		"oci:/x":           "oci:/x",
		"docker-archive:a": "docker-archive:" + here + "/a",
	} {
		if got, err := absoluteImage(in); err != nil || got != want {
			t.Errorf("%s: %s, %v", in, got, err)
		}
	}
	if _, err := absoluteImage("oci:"); err == nil {
		t.Error("oci: without a directory is taken")
	}
}

func TestSeconds(t *testing.T) {
	for text, want := range map[string]time.Duration{"0": 0, "5": 5 * time.Second, "1m30s": 90 * time.Second, "250ms": 250 * time.Millisecond} {
		var s seconds
		if err := s.Set(text); err != nil || time.Duration(s) != want {
			t.Errorf("%q: got %v, %v, want %v", text, time.Duration(s), err, want)
		}
	}
	for _, text := range []string{"", "soon", "-1", "-1s", "5 s", "99999999999999999999"} {
		var s seconds
		if err := s.Set(text); err == nil {
			t.Errorf("%q: taken for %v", text, time.Duration(s))
		}
	}
}

// What a shell completes stands first in the usage.
func TestOperand(t *testing.T) {
	for use, want := range map[string]string{
		"stop SERVER [SERVER...]": "SERVER", "stats [SERVER...]": "SERVER", "cp SERVER:PATH LOCAL | LOCAL SERVER:PATH": "SERVER",
		"set --root MODE SERVER": "SERVER", "boot [flags] IMAGE [COMMAND [ARG...]]": "IMAGE", "preload [flags] [NAME=]IMAGE [[NAME=]IMAGE...] -o FILE": "IMAGE",
		"create --image IMAGE [flags] NAME": "NAME", "save [-o FILE] IMAGE": "IMAGE", "list": "",
	} {
		if got := operand(use); got != want {
			t.Errorf("%s: %s, want %s", use, got, want)
		}
	}
}
