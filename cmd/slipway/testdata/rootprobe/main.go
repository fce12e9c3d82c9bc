// Command rootprobe is the entrypoint of the image that the tests of root modes
// boot. The first time it checks what the image's layers say and writes what it is
// to find again; later it checks both. It prints what is wrong, or "root: ok".
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

var bad bool

func main() {
	switch command := slices.Concat(os.Args, []string{""})[1]; command {
	case "effective":
		effective()
		return
	case "hang":
		writeAndHang()
	case "layers":
		layers(os.Args[2])
	default:
		image()
		if _, err := os.Stat("/mine/done"); errors.Is(err, fs.ErrNotExist) {
			change()
		}
		changed()
	}
	if bad {
		os.Exit(1)
	}
	fmt.Println("root: ok")
}

func fail(format string, args ...any) {
	bad = true
	fmt.Printf("root: "+format+"\n", args...)
}

// is compares what something is with what it should be.
func is(what string, got, want any) {
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		fail("%s: %s, not %s", what, g, w)
	}
}

func try(err error) {
	if err != nil {
		fail("%v", err)
	}
}

func stat(name string) unix.Stat_t {
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		fail("%s: %v", name, err)
	}
	return st
}

func content(name string) string {
	b, err := os.ReadFile(name)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func attribute(name, attr string) string {
	b := make([]byte, 256)
	n, err := unix.Lgetxattr(name, attr, b)
	if err != nil {
		return err.Error()
	}
	return string(b[:n])
}

func listing(dir string) string {
	entries, err := os.ReadDir(dir)
	try(err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

func gone(names ...string) {
	for _, name := range names {
		if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			fail("%s is there: %v", name, err)
		}
	}
}

func modified(name string) string {
	st := stat(name)
	return time.Unix(st.Mtim.Unix()).UTC().Format(time.RFC3339Nano)
}

// layers checks an image of numbered layers of which the uppermost is known.
func layers(top string) {
	is("the uppermost layer", content("/n"), top)
	is("how many there are", strings.Count(listing("/own"), " ")+1, top)
	is("the lowest", content("/own/1"), "1")
}

// effective prints the capabilities that the process has.
func effective() {
	for line := range strings.Lines(content("/proc/self/status")) {
		if set, ok := strings.CutPrefix(line, "CapEff:"); ok {
			fmt.Print(strings.TrimLeft(strings.TrimSpace(set), "0"))
		}
	}
}

// capabilities are those that a program of the root gives to an ordinary user.
func capabilities(program string) string {
	cmd := exec.Command(program, "effective")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &credential}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return err.Error() + string(out)
	}
	return string(out)
}

// image checks what the image's layers say.
func image() {
	is("a file's content", content("/image/file"), "lower")
	a, b := stat("/image/file"), stat("/image/link")
	is("a hard link", a.Ino, b.Ino)
	is("its count", a.Nlink, 2)
	is("a file with a capability", capabilities("/image/capable"), "400")
	is("an attribute", attribute("/image/attributes", "user.comment"), "a value\x00of bytes")
	for name, want := range map[string]string{"/image/old": "1960-01-02T03:04:05.123456789Z", "/image/far": "2100-01-02T03:04:05.987654321Z"} {
		is("the time of "+name, modified(name), want)
	}
	st := stat("/image/null")
	is("a device", []any{st.Mode, unix.Major(st.Rdev), unix.Minor(st.Rdev)}, []any{unix.S_IFCHR | 0o666, 1, 3})
	st = stat("/image/owned")
	is("an owner", []any{st.Uid, st.Gid, st.Mode & 0o7777}, []any{3000000, 70001, 0o6755})
	is("odd names", listing("/image/names"), "\n \"q\" a\\b \xff")
	is("an opaque directory", listing("/image/opaque"), "new")
	gone("/image/deleted", "/image/.wh.deleted")
	st = stat("/")
	is("the root", []any{st.Mode & 0o7777, st.Uid}, []any{0o751, 7})
}

// change writes what is to be found again.
func change() {
	unix.Umask(0)
	try(os.Mkdir("/mine", 0o2750))
	try(unix.Chmod("/mine", 0o2750))
	try(os.WriteFile("/mine/file", bytes.Repeat([]byte("0123456789abcdef"), 1<<16), 0o600))
	try(os.Link("/mine/file", "/mine/link"))
	try(unix.Lsetxattr("/mine/file", "user.mine", []byte("\x00value"), 0))
	try(os.Chown("/mine/file", 12345, 54321))
	try(os.Symlink("no where", "/mine/symlink"))
	try(os.Truncate("/image/attributes", 0))
	try(os.Remove("/image/gone"))
	try(os.RemoveAll("/image/remade"))
	try(os.Mkdir("/image/remade", 0o700))
	try(os.WriteFile("/image/remade/upper", []byte("upper"), 0o644))
	sparse, err := os.Create("/mine/sparse")
	try(err)
	_, err = sparse.WriteAt([]byte("end"), 1<<25)
	try(err)
	try(sparse.Close())
	try(unix.Mknod("/mine/device", unix.S_IFBLK|0o640, int(unix.Mkdev(7, 300))))
	try(unix.Mknod("/mine/fifo", unix.S_IFIFO|0o622, 0))
	_, err = net.Listen("unix", "/mine/socket")
	try(err)
	tool, err := os.ReadFile("/probe")
	try(err)
	try(os.WriteFile("/capable-of-mine", tool, 0o755))
	try(unix.Lsetxattr("/capable-of-mine", "security.capability", []byte(capability), 0))
	when := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(time.Date(2003, 1, 2, 3, 4, 5, 6, time.UTC).UnixNano())}
	try(unix.UtimesNanoAt(unix.AT_FDCWD, "/mine/file", when, 0))
	try(os.WriteFile("/mine/done", nil, 0o644))
}

// changed checks what change wrote.
func changed() {
	st := stat("/mine")
	is("my directory", st.Mode, unix.S_IFDIR|0o2750)
	is("my file", content("/mine/file") == strings.Repeat("0123456789abcdef", 1<<16), true)
	st = stat("/mine/file")
	is("its owner and mode", []any{st.Uid, st.Gid, st.Mode, st.Nlink}, []any{12345, 54321, unix.S_IFREG | 0o600, 2})
	is("its link", stat("/mine/link").Ino, st.Ino)
	is("its attribute", attribute("/mine/file", "user.mine"), "\x00value")
	is("its time", modified("/mine/file"), "2003-01-02T03:04:05.000000006Z")
	st = stat("/mine/device")
	is("my device", []any{st.Mode, unix.Major(st.Rdev), unix.Minor(st.Rdev)}, []any{unix.S_IFBLK | 0o640, 7, 300})
	is("my pipe", stat("/mine/fifo").Mode, unix.S_IFIFO|0o622)
	is("my socket", stat("/mine/socket").Mode&unix.S_IFMT, unix.S_IFSOCK)
	target, err := os.Readlink("/mine/symlink")
	is("my link", []any{target, err}, []any{"no where", nil})
	st = stat("/mine/sparse")
	is("my sparse file", []any{st.Size, st.Blocks < 1000}, []any{1<<25 + 3, true})
	is("a file of the image cut short", []any{content("/image/attributes"), attribute("/image/attributes", "user.comment")}, []any{"", "a value\x00of bytes"})
	gone("/image/gone", "/image/remade/lower")
	is("a directory made anew", listing("/image/remade"), "upper")
	is("my capability", capabilities("/capable-of-mine"), "400")
}

// writeAndHang makes sure of a file and goes on writing until it is killed.
func writeAndHang() {
	f, err := os.Create("/sure")
	try(err)
	_, err = f.WriteString("synced")
	try(err)
	try(f.Sync())
	fmt.Println("root: synced")
	for i := 0; ; i++ {
		try(os.WriteFile(fmt.Sprintf("/f%d", i%100), make([]byte, 100_000), 0o644))
	}
}
