// Command probe is the entrypoint of the guests that tests boot. Its first
// argument names what it does.
package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "probe: what?")
		os.Exit(2)
	}
	args := os.Args[2:]
	commands := map[string]func([]string){
		"echo":   func(a []string) { fmt.Println(strings.Join(a, " ")) },
		"err":    func(a []string) { fmt.Fprintln(os.Stderr, strings.Join(a, " ")) },
		"env":    env,
		"id":     id,
		"exit":   func(a []string) { os.Exit(number(a[0])) },
		"sleep":  func(a []string) { time.Sleep(time.Duration(number(a[0])) * time.Millisecond) },
		"random": random,
		"trap":   trap,
		"kill":   func(a []string) { syscall.Kill(os.Getpid(), syscall.Signal(number(a[0]))); time.Sleep(time.Minute) },
		"cat":    cat,
		"write":  func(a []string) { check(os.WriteFile(a[0], []byte(a[1]), 0o644)) },
		"mounts": mounts,
		"stdin":  func([]string) { _, err := io.Copy(os.Stdout, os.Stdin); check(err) },
		"sum":    sum,
		"eat":    eat,
		"seq":    seq,
		"tty":    tty,
		"both":   func(a []string) { fmt.Print(a[0]); fmt.Fprint(os.Stderr, a[1]); os.Exit(number(a[2])) },
		"orphan": orphan,
		"lives":  lives,
		"forget": forget,
		"remove": func(a []string) { check(os.Remove(a[0])) },
		"time":   func([]string) { fmt.Println(time.Now().UnixNano()) },
	}
	run, ok := commands[os.Args[1]]
	if !ok {
		fmt.Fprintf(os.Stderr, "probe: no command %s\n", os.Args[1])
		os.Exit(2)
	}
	run(args)
}

func check(err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "probe: %v\n", err)
		os.Exit(1)
	}
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	check(err)
	return n
}

func env([]string) {
	lines := os.Environ()
	sort.Strings(lines)
	fmt.Println(strings.Join(lines, "\n"))
}

func id([]string) {
	groups, err := os.Getgroups()
	check(err)
	dir, err := os.Getwd()
	check(err)
	host, err := os.Hostname()
	check(err)
	var limit syscall.Rlimit
	check(syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	fmt.Printf("pid=%d uid=%d gid=%d groups=%v dir=%s host=%s files=%d\n",
		os.Getpid(), os.Getuid(), os.Getgid(), groups, dir, host, limit.Max)
}

// random writes n bytes from a seed to stdout, and n from seed+1 to stderr, in
// pieces of odd sizes.
func random(a []string) {
	n, seed := number(a[0]), number(a[1])
	sources := []*rand.ChaCha8{chacha(seed), chacha(seed + 1)}
	files := []*os.File{os.Stdout, os.Stderr}
	left := []int{n, n}
	for left[0] > 0 || left[1] > 0 {
		for i := range files {
			piece := make([]byte, min(left[i], 1+left[i]%30011))
			sources[i].Read(piece)
			_, err := files[i].Write(piece)
			check(err)
			left[i] -= len(piece)
		}
	}
}

func chacha(seed int) *rand.ChaCha8 {
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	return rand.NewChaCha8(key)
}

// trap prints the signals that it gets and ends with 0 at SIGTERM's, or with
// the code given.
func trap(a []string) {
	c := make(chan os.Signal, 8)
	signal.Notify(c)
	fmt.Println("ready")
	for s := range c {
		if s == syscall.SIGURG || s == syscall.SIGCHLD {
			continue // the Go runtime's own
		}
		fmt.Println("signal", s)
		if len(a) > 0 && s.String() == a[0] {
			os.Exit(number(a[1]))
		}
	}
}

func cat(a []string) {
	for _, name := range a {
		data, err := os.ReadFile(name)
		check(err)
		os.Stdout.Write(data)
	}
}

func mounts([]string) {
	f, err := os.Open("/proc/self/mounts")
	check(err)
	for s := bufio.NewScanner(f); s.Scan(); {
		fmt.Println(s.Text())
	}
}

func sum([]string) {
	h := sha256.New()
	_, err := io.Copy(h, os.Stdin)
	check(err)
	fmt.Println(hex.EncodeToString(h.Sum(nil)))
}

// eat takes memory, by the mebibyte, until it is killed.
func eat([]string) {
	var kept [][]byte
	for {
		b := make([]byte, 1<<20)
		for i := range b {
			b[i] = byte(i)
		}
		kept = append(kept, b)
		_ = kept
	}
}

// seq prints the numbers up to n, one every given number of milliseconds.
func seq(a []string) {
	for i := range number(a[0]) {
		fmt.Println(i)
		time.Sleep(time.Duration(number(a[1])) * time.Millisecond)
	}
}

// tty tells the size of the terminal, each time it changes until it reads a
// line, and that line.
func tty([]string) {
	size := func() {
		var ws [4]uint16
		_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, 0, syscall.TIOCGWINSZ, uintptr(unsafe.Pointer(&ws)))
		fmt.Println("size", ws[0], ws[1], errno == 0)
	}
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGWINCH)
	go func() {
		for range c {
			size()
		}
	}()
	size()
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	fmt.Printf("line %q %v\n", line, err)
}

// orphan leaves a process behind that keeps the output open.
func orphan([]string) {
	fmt.Println("parent")
	_, err := os.StartProcess("/proc/self/exe", []string{"probe", "sleep", "60000"}, &os.ProcAttr{
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
	})
	check(err)
}

// lives ends with a code, in its first lives, which it counts in a file; then
// it stays.
func lives(a []string) {
	file, last, code := a[0], number(a[1]), number(a[2])
	data, _ := os.ReadFile(file)
	life := len(data) + 1
	check(os.WriteFile(file, append(data, '.'), 0o644))
	fmt.Println("life", life)
	if life < last {
		os.Exit(code)
	}
	trap([]string{"terminated", "0"})
}

// forget takes memory, in mebibytes, writes to it, says so, and after some
// milliseconds gives it back.
func forget(a []string) {
	size := number(a[0]) << 20
	b, err := syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	check(err)
	for i := 0; i < size; i += 4096 {
		b[i] = 1
	}
	fmt.Println("taken")
	time.Sleep(time.Duration(number(a[1])) * time.Millisecond)
	check(syscall.Munmap(b))
	fmt.Println("given back")
	trap([]string{"terminated", "0"})
}
