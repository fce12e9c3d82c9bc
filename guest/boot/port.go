package boot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// portWait bounds the wait for the port, which the host names some time after
// the driver has found the device.
const portWait = 10 * time.Second

// openPort finds the virtio-serial port of the given name.
func openPort(name string) (*port, error) {
	for deadline := time.Now().Add(portWait); ; {
		if dev := findPort(name); dev != "" {
			f, err := os.OpenFile(dev, os.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
			if err == nil {
				return newPort(f)
			}
			if !errors.Is(err, os.ErrNotExist) {
				return nil, err
			}
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("no virtio-serial port is named %s", name)
		}
		time.Sleep(time.Millisecond)
	}
}

func findPort(name string) string {
	const dir = "/sys/class/virtio-ports/"
	ports, _ := os.ReadDir(dir) // none as long as the driver has found none
	for _, p := range ports {
		if data, err := os.ReadFile(dir + p.Name() + "/name"); err == nil && strings.TrimSpace(string(data)) == name {
			return "/dev/" + p.Name()
		}
	}
	return ""
}

// port is the guest's end of a virtio-serial port.
type port struct {
	f       *os.File
	raw     syscall.RawConn
	hungUp  bool        // the end of the last host's data has been told
	started atomic.Bool // a host has been seen
}

func newPort(f *os.File) (*port, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &port{f: f, raw: raw}, nil
}

// hosted reports whether a host has said something.
func (p *port) hosted() bool { return p.started.Load() }

// Read implements agent.Port. The driver answers reads with 0 bytes for as
// long as no host is connected, and its poll says hang-up: so after having
// told the end once, wait for the next event instead of asking again.
func (p *port) Read(b []byte) (n int, err error) {
	waitErr := p.raw.Read(func(fd uintptr) bool {
		for {
			n, err = unix.Read(int(fd), b)
			if !errors.Is(err, unix.EINTR) {
				break
			}
		}
		switch {
		case errors.Is(err, unix.EAGAIN):
			p.hungUp = false
			return false
		case err != nil:
			return true
		case n > 0:
			p.hungUp = false
			p.started.Store(true)
			return true
		case p.hungUp || !p.started.Load():
			return false
		}
		p.hungUp = true
		err = io.EOF
		return true
	})
	if waitErr != nil {
		return 0, waitErr
	}
	return max(n, 0), err
}

// Write implements agent.Port: it waits while there is no host.
func (p *port) Write(b []byte) (int, error) { return p.f.Write(b) }
