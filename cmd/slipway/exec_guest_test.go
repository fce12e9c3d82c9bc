//go:build guest

package main

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A command that is executed in a server is a process of it like the entrypoint:
// the same root and namespaces, streams apart, its own exit status.
func TestExec(t *testing.T) {
	s := newState(t)
	s.run("boot", "--detach", "--name", "web", "--env", "MINE=1", "--stop-timeout", "1s", busybox, "sleep", "1000").ok()
	for name, c := range map[string]struct {
		args   []string
		stdin  string
		code   int
		stdout string
		stderr string
	}{
		"streams apart":  {args: []string{"web", "sh", "-c", "echo out; echo err >&2; exit 4"}, code: 4, stdout: "out\n", stderr: "err\n"},
		"not found":      {args: []string{"web", "nosuch"}, code: 127, stderr: "nosuch"},
		"not executable": {args: []string{"web", "/etc/passwd"}, code: 126, stderr: "/etc/passwd"},
		"environment":    {args: []string{"-e", "YOURS=2", "web", "sh", "-c", "echo $MINE $YOURS"}, stdout: "1 2\n"},
		"user":           {args: []string{"-u", "nobody", "web", "id", "-un"}, stdout: "nobody\n"},
		"unknown user":   {args: []string{"-u", "nosuch", "web", "id"}, code: 125, stderr: "nosuch"},
		"directory":      {args: []string{"-w", "/etc", "web", "pwd"}, stdout: "/etc\n"},
		"beside PID 1":   {args: []string{"web", "cat", "/proc/1/comm"}, stdout: "sleep\n"},
		"input":          {args: []string{"-i", "web", "sh", "-c", "cat; echo end"}, stdin: "one\ntwo\n", stdout: "one\ntwo\nend\n"},
		"no such server": {args: []string{"nosuch", "true"}, code: 125, stderr: "nosuch"},
	} {
		t.Run(name, func(t *testing.T) {
			r := s.startWith(strings.NewReader(c.stdin), append([]string{"server", "exec"}, c.args...)...).wait()
			if r.code != c.code || r.stdout != c.stdout || !strings.Contains(r.stderr, c.stderr) {
				t.Errorf("status %d, stdout %q, stderr %q", r.code, r.stdout, r.stderr)
			}
		})
	}
	s.run("server", "kill", "web").ok()
	s.run("server", "wait", "web").ok().says("137\n")
	s.run("server", "exec", "web", "true").exits(codeSlipway)
	s.run("server", "delete", "web").ok()
	s.clean()
}

// An entrypoint reads what boot is given to read, to its end.
func TestBootInteractive(t *testing.T) {
	s := newState(t)
	c := s.startWith(strings.NewReader("one\ntwo\n"), "boot", "--rm", "-i", busybox, "sh", "-c", "cat; echo end; exit 3")
	if r := c.wait(); r.code != 3 || r.stdout != "one\ntwo\nend\n" {
		t.Errorf("status %d, stdout %q, stderr %q", r.code, r.stdout, r.stderr)
	}
	s.clean()
}

// A tree keeps its links and modes on its way into a server and back.
func TestCopy(t *testing.T) {
	s := newState(t)
	s.run("boot", "--detach", "--name", "web", "--stop-timeout", "1s", busybox, "sleep", "1000").ok()
	dir := t.TempDir()
	tree := filepath.Join(dir, "tree")
	data := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(data)
	for _, err := range []error{
		os.MkdirAll(filepath.Join(tree, "sub"), 0o755),
		os.WriteFile(filepath.Join(tree, "sub/data"), data, 0o600),
		os.Link(filepath.Join(tree, "sub/data"), filepath.Join(tree, "hard")),
		os.Symlink("sub/data", filepath.Join(tree, "soft")),
		os.Chmod(filepath.Join(tree, "sub"), 0o770|os.ModeSticky),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s.run("server", "cp", tree, "web:/srv").ok()
	s.run("server", "cp", tree, "web:/srv/other").ok()
	s.run("server", "exec", "web", "sh", "-c",
		"cd /srv && stat -c '%n %a' tree/sub other/sub && readlink tree/soft && [ tree/hard -ef tree/sub/data ] && cmp tree/hard other/soft").
		ok().says("tree/sub 1770\nother/sub 1770\nsub/data\n")
	back := filepath.Join(dir, "back")
	s.run("server", "cp", "web:/srv/other", back).ok()
	got, err := os.ReadFile(filepath.Join(back, "soft"))
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes came back: %v", len(got), err)
	}
	one, err1 := os.Stat(filepath.Join(back, "hard"))
	two, err2 := os.Stat(filepath.Join(back, "sub/data"))
	if err := errors.Join(err1, err2); err != nil || !os.SameFile(one, two) {
		t.Errorf("a hard link came back as a file of its own: %v", err)
	}
	// What is seen in the guest counts, wherever it lies: links, and what is mounted.
	s.run("server", "exec", "web", "sh", "-c", `cd /srv && ln -s /etc/hosts hosts && ln -s ../../../../etc/passwd passwd &&
		echo fresh >file && echo memory >/dev/shm/x && mkdir -p deep/er && echo over >deep/er/f`).ok()
	for from, want := range map[string]string{"/srv/file": "fresh\n", "/dev/shm/x": "memory\n", "/srv/passwd": "root:x:0:0:root:/root:/bin/sh\n", "/srv/deep/er/f": "over\n"} {
		to := filepath.Join(dir, "one")
		s.run("server", "cp", "-L", "web:"+from, to).ok()
		if got, err := os.ReadFile(to); err != nil || !strings.HasPrefix(string(got), want) {
			t.Errorf("%s: %q, %v", from, got, err)
		}
	}
	s.run("server", "cp", "-L", "web:/srv/hosts", filepath.Join(dir, "hosts")).ok()
	if got, err := os.ReadFile(filepath.Join(dir, "hosts")); err != nil || !strings.Contains(string(got), "\tweb\n") {
		t.Errorf("hosts: %q, %v", got, err)
	}
	s.run("server", "cp", "web:/nosuch", dir).exits(1).complains("/nosuch", "no such file")
	s.run("server", "cp", filepath.Join(dir, "nosuch"), "web:/").exits(1).complains("nosuch")
	s.run("server", "cp", "web:/etc", "web:/tmp").exits(1)

	// A server that has stopped keeps its files, and takes more.
	s.run("server", "stop", "web").ok()
	s.run("server", "cp", "web:/srv/file", filepath.Join(dir, "kept")).ok()
	if got, err := os.ReadFile(filepath.Join(dir, "kept")); err != nil || string(got) != "fresh\n" {
		t.Errorf("of the stopped server: %q, %v", got, err)
	}
	s.run("server", "cp", tree, "web:/srv/stopped").ok()
	s.run("server", "cp", "web:/nosuch", dir).exits(1).complains("no such file")
	s.clean("file servers/" + strings.TrimSpace(s.run("server", "show", "-f", "value", "-c", "id", "web").ok().stdout))
	s.run("server", "start", "web").ok()
	s.run("server", "exec", "web", "sh", "-c", "cmp /srv/stopped/hard /srv/other/soft && stat -c %a /srv/stopped/sub").ok().says("1770\n")
	s.run("server", "delete", "web").ok()
	s.clean()
}

// Whoever asks a command to end three times is free, whatever it does.
func TestExecGivenUp(t *testing.T) {
	s := newState(t)
	s.run("boot", "--detach", "--name", "web", busybox, "sleep", "1000").ok()
	c := s.start("server", "exec", "web", "sh", "-c", "n=0; trap 'n=$((n+1)); echo asked $n' INT; echo ready; while :; do sleep 0.1; done")
	c.expect("ready\n")
	for _, asked := range []string{"asked 1\n", "asked 2\n"} {
		c.signal(syscall.SIGINT)
		c.expect(asked)
	}
	c.signal(syscall.SIGINT)
	c.wait().exits(codeSlipway).complains("given up")
	s.run("server", "delete", "web").ok()
	s.clean()
}

// Volumes are copied into and out of, whether the server runs or not.
func TestCopyVolumes(t *testing.T) {
	s := newState(t)
	shared, constant, gone, dir := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "gone"), t.TempDir()
	writeFile(t, filepath.Join(shared, "in"), "shared\n")
	writeFile(t, filepath.Join(shared, "file"), "old\n")
	writeFile(t, filepath.Join(constant, "in"), "constant\n")
	writeFile(t, filepath.Join(dir, "new"), "new\n")
	if err := errors.Join(os.Mkdir(gone, 0o755), os.Symlink("/../../../etc/passwd", filepath.Join(shared, "out"))); err != nil {
		t.Fatal(err)
	}
	s.run("boot", "--detach", "--name", "web", "--stop-timeout", "1s", "--volume", shared+":/srv/shared", "--volume", constant+":/srv/shared/constant:ro",
		"--volume", filepath.Join(shared, "file")+":/etc/one", "--volume", gone+":/gone", busybox, "sleep", "1000").ok()
	read := func(name, want string) {
		t.Helper()
		if got, err := os.ReadFile(name); err != nil || !strings.HasPrefix(string(got), want) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	try := func(state string) {
		t.Helper()
		for _, to := range []string{"/srv/shared/" + state, "/etc/one", "/srv/" + state} {
			s.run("server", "cp", filepath.Join(dir, "new"), "web:"+to).ok()
		}
		read(filepath.Join(shared, state), "new\n")
		read(filepath.Join(shared, "file"), "new\n")
		for from, want := range map[string]string{
			"/srv/shared/in": "shared\n", "/srv/shared/constant/in": "constant\n", "/etc/one": "new\n", "/srv/" + state: "new\n",
			"/srv/shared/out": "root:x:0:0:root:/root:/bin/sh\n",
		} {
			s.run("server", "cp", "-L", "web:"+from, filepath.Join(dir, "back")).ok()
			read(filepath.Join(dir, "back"), want)
		}
		s.run("server", "cp", "web:/srv", filepath.Join(dir, state)).ok()
		read(filepath.Join(dir, state, "shared/constant/in"), "constant\n")
		s.run("server", "cp", filepath.Join(dir, "new"), "web:/srv/shared/constant/in").exits(1).complains("read-only file system")
		read(filepath.Join(constant, "in"), "constant\n")
		writeFile(t, filepath.Join(shared, "file"), "old\n")
	}
	try("running")
	s.run("server", "exec", "web", "cat", "/etc/one").ok().says("old\n") // the mount is still there
	s.run("server", "stop", "web").ok()
	try("stopped")
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}
	s.run("server", "cp", "web:/gone/file", dir).exits(1).complains(gone, "put it back")
	s.run("server", "cp", "web:/etc/passwd", dir).ok()
	s.run("server", "delete", "web").ok()
	read(filepath.Join(shared, "in"), "shared\n")
	s.clean()
}
