package process

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// tree makes a root directory. A name that ends in a slash is a directory, a
// value that starts with "->" a link, and files in a bin directory are
// executable.
func tree(t *testing.T, files map[string]string) *Root {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "root")
	for name, data := range files {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		link, isLink := strings.CutPrefix(data, "->")
		var err error
		switch {
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(full, 0o755)
		case isLink:
			err = os.Symlink(link, full)
		case strings.Contains(name, "bin/"):
			err = os.WriteFile(full, []byte(data), 0o755)
		default:
			err = os.WriteFile(full, []byte(data), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

const (
	passwd = "root:x:0:0:root:/root:/bin/sh\n# comment\nbroken:x\n" +
		"app:x:1000:1001:App:/home/app:/bin/sh\nnohome:x:1002:1002:::\nbig:x:4294967296:0::/:\n"
	group = "root:x:0:\napp:x:1001:\nwheel:x:10:app,root\nmedia:x:20:other,app\nbad:x:no:app\n"
)

func TestLookupUser(t *testing.T) {
	root := tree(t, map[string]string{"etc/passwd": passwd, "etc/group": group})
	bare := tree(t, map[string]string{"etc/": ""})
	for _, test := range []struct {
		user string
		root *Root
		want Identity
		err  bool
	}{
		{user: "", want: Identity{Home: "/root", Groups: []uint32{10}}},
		{user: "root", want: Identity{Home: "/root", Groups: []uint32{10}}},
		{user: "app", want: Identity{UID: 1000, GID: 1001, Groups: []uint32{10, 20}, Home: "/home/app"}},
		{user: "1000", want: Identity{UID: 1000, GID: 1001, Groups: []uint32{10, 20}, Home: "/home/app"}},
		{user: "app:wheel", want: Identity{UID: 1000, GID: 10, Home: "/home/app"}},
		{user: "app:5", want: Identity{UID: 1000, GID: 5, Home: "/home/app"}},
		{user: "4242", want: Identity{UID: 4242, Home: "/"}},
		{user: "4242:4343", want: Identity{UID: 4242, GID: 4343, Home: "/"}},
		{user: "nohome", want: Identity{UID: 1002, GID: 1002, Home: "/"}},
		{user: ":media", want: Identity{GID: 20, Home: "/root"}},
		{user: "who", err: true},
		{user: "app:who", err: true},
		{user: "-1", err: true},
		{user: "2147483648", err: true},
		{user: "big", err: true},
		{user: "0", root: bare, want: Identity{Home: "/"}},
		{user: "root", root: bare, err: true},
		{user: "7:8", root: bare, want: Identity{UID: 7, GID: 8, Home: "/"}},
	} {
		r := test.root
		if r == nil {
			r = root
		}
		got, err := r.LookupUser(test.user)
		if test.err {
			if !errors.Is(err, ErrUnknownUser) {
				t.Errorf("%q: %+v, err %v", test.user, got, err)
			}
			continue
		}
		if err != nil || got.UID != test.want.UID || got.GID != test.want.GID || got.Home != test.want.Home ||
			!slices.Equal(got.Groups, test.want.Groups) {
			t.Errorf("%q: %+v, err %v, want %+v", test.user, got, err, test.want)
		}
	}
}

func TestResolve(t *testing.T) {
	root := tree(t, map[string]string{
		"etc/passwd":   passwd,
		"bin/tool":     "x",
		"opt/bin/tool": "x",
		"opt/bin/own":  "x",
		"opt/file":     "x",
		"usr/bin/dir/": "",
		"abs":          "->/bin/tool",
		"up":           "->../../../../bin/tool",
		"loop":         "->loop",
		"dangling":     "->/nowhere",
		"dirlink":      "->opt/bin",
	})
	for _, test := range []struct {
		args []string
		env  []string
		dir  string
		user string
		path string
		err  error
	}{
		{args: []string{"tool"}, path: "/bin/tool"},
		{args: []string{"tool"}, env: []string{"PATH=/opt/bin:/bin"}, path: "/opt/bin/tool"},
		{args: []string{"own"}, env: []string{"PATH=:bin"}, dir: "/opt", path: "/opt/bin/own"},
		{args: []string{"./bin/own"}, dir: "/opt", path: "/opt/./bin/own"},
		{args: []string{"../own"}, dir: "/dirlink", err: ErrNotFound},
		{args: []string{"../bin/own"}, dir: "/dirlink", path: "/dirlink/../bin/own"},
		{args: []string{"/abs"}, path: "/abs"},
		{args: []string{"/up"}, path: "/up"},
		{args: []string{"/../../bin/tool"}, path: "/../../bin/tool"},
		{args: []string{"/dangling"}, err: ErrNotFound},
		{args: []string{"/loop"}, err: ErrNotExecutable},
		{args: []string{"nothing"}, err: ErrNotFound},
		{args: []string{"/no/such"}, err: ErrNotFound},
		{args: []string{"/opt/file/x"}, err: ErrNotFound},
		{args: []string{"/opt/file"}, err: ErrNotExecutable},
		{args: []string{"/opt"}, err: ErrNotExecutable},
		{args: []string{"dir"}, err: ErrNotFound},
		{args: []string{"file"}, env: []string{"PATH=/opt"}, err: ErrNotFound},
		{args: []string{"tool"}, dir: "/opt/file", err: ErrNotExecutable},
		{args: []string{"tool"}, dir: "/is/made", path: "/bin/tool"},
		{args: []string{"tool"}, user: "who", err: ErrUnknownUser},
		{args: nil, err: ErrNotFound},
		{args: []string{""}, err: ErrNotFound},
	} {
		got, err := Resolve(root, Request{Args: test.args, Env: test.env, Dir: test.dir, User: test.user})
		if test.err != nil || err != nil {
			if !errors.Is(err, test.err) || test.err == nil {
				t.Errorf("%q in %q: err %v, want %v", test.args, test.dir, err, test.err)
			}
			continue
		}
		if got.Path != test.path {
			t.Errorf("%q in %q: path %q, want %q", test.args, test.dir, got.Path, test.path)
		}
	}
}

func TestEnvironment(t *testing.T) {
	got := environment(Request{
		Env: []string{"A=1", "HOME=/mine", "B=", "A=2", "novalue", "=x", "C=a=b"}, Hostname: "web", TTY: true,
	}, Identity{Home: "/root"})
	want := []string{"A=2", "HOME=/mine", "B=", "C=a=b", "PATH=" + DefaultPath, "HOSTNAME=web", "TERM=xterm"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestExitCode(t *testing.T) {
	p := &Process{Args: []string{"x"}}
	for _, test := range []struct {
		err  error
		want int
	}{
		{StartError(p, syscall.ENOENT), 127},
		{StartError(p, syscall.EACCES), 126},
		{StartError(p, syscall.ENOEXEC), 126},
		{StartError(p, syscall.ENOMEM), 125},
		{ErrUnknownUser, 125},
	} {
		if got := ExitCode(test.err); got != test.want {
			t.Errorf("%v: %d, want %d", test.err, got, test.want)
		}
	}
}

// Files of a hostile root that are not what they should be are refused, at
// once.
func TestHostileFiles(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret:x:7:7::/:\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, prepare := range map[string]func(passwd string) error{
		"fifo":      func(p string) error { return syscall.Mkfifo(p, 0o644) },
		"directory": func(p string) error { return os.Mkdir(p, 0o755) },
		"outside":   func(p string) error { return os.Symlink(secret, p) },
		"huge":      func(p string) error { return errors.Join(os.WriteFile(p, nil, 0o644), os.Truncate(p, 1<<40)) },
	} {
		t.Run(name, func(t *testing.T) {
			root := tree(t, map[string]string{"etc/": ""})
			if err := prepare(filepath.Join(root.dir.Name(), "etc/passwd")); err != nil {
				t.Fatal(err)
			}
			if id, err := root.LookupUser("secret"); err == nil {
				t.Errorf("found %+v", id)
			}
		})
	}
}

func TestMkdirAll(t *testing.T) {
	outside := t.TempDir()
	root := tree(t, map[string]string{
		"a/b/":     "",
		"out":      "->" + outside,
		"up":       "->../../..",
		"dangling": "->/nowhere/at/all",
		"file":     "x",
	})
	dir := root.dir.Name()
	for name, made := range map[string]string{
		"/a/b":         "a/b",
		"/a/b/c/d":     "a/b/c/d",
		"/up/x":        "x",
		"/../../y":     "y",
		"/a/../a/z":    "a/z",
		"/file":        "file",
		"/out/volume":  "",
		"/dangling/x":  "",
		"/file/x":      "",
		"/loop/deeper": "loop/deeper",
	} {
		f, err := root.MkdirAll(name, 0o750, os.Getuid(), os.Getgid())
		if err == nil {
			f.Close()
		}
		if made == "" {
			if err == nil {
				t.Errorf("%s: no error", name)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(filepath.Join(dir, made)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if left, _ := os.ReadDir(outside); len(left) > 0 {
		t.Errorf("made %v outside of the root", left)
	}
	f, err := root.Touch("/new/deep/file", 0o600)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if info, err := os.Stat(filepath.Join(dir, "new/deep/file")); err != nil || info.Mode() != 0o600 {
		t.Errorf("touched %v, err %v", info, err)
	}
}
