package dataplane

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// dialTime is how long a server may take to answer.
const dialTime = 10 * time.Second

// dial reaches the first of the target's addresses that answers.
func (t target) dial(network string) (net.Conn, error) {
	var errs error
	dialer := net.Dialer{Timeout: dialTime}
	for _, a := range t.addresses {
		c, err := dialer.DialContext(context.Background(), network, netip.AddrPortFrom(a, t.port).String())
		if err == nil {
			return c, nil
		}
		errs = errors.Join(errs, err)
	}
	return nil, errs
}

// connections are those of one proxy; its end closes them.
type connections struct {
	mu   sync.Mutex
	all  map[io.Closer]bool // nil once the proxy has ended
	done sync.WaitGroup
}

func (c *connections) add(x io.Closer) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		return false
	}
	c.all[x] = true
	return true
}

func (c *connections) drop(x io.Closer) {
	c.mu.Lock()
	delete(c.all, x)
	c.mu.Unlock()
	_ = x.Close()
}

func (c *connections) end() {
	c.mu.Lock()
	for x := range c.all {
		_ = x.Close()
	}
	c.all = nil
	c.mu.Unlock()
	c.done.Wait()
}

// proxyTCP passes on what connects to a socket, until that is closed.
func proxyTCP(socket net.Listener, to target) {
	open := &connections{all: map[io.Closer]bool{}}
	defer open.end()
	for {
		in, err := socket.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // of one connection, or of too many
			time.Sleep(10 * time.Millisecond)
			continue
		}
		open.done.Go(func() { passTCP(open, in, to) })
	}
}

func passTCP(open *connections, in net.Conn, to target) {
	if !open.add(in) {
		_ = in.Close()
		return
	}
	defer open.drop(in)
	out, err := to.dial("tcp")
	if err != nil {
		_ = in.(*net.TCPConn).SetLinger(0) // it is refused, as the server does
		return
	}
	if !open.add(out) {
		_ = out.Close()
		return
	}
	defer open.drop(out)
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
		both.Go(func() {
			if _, err := io.Copy(way[1], way[0]); err != nil {
				_ = errors.Join(in.Close(), out.Close()) // the other way ends, too
				return
			}
			_ = way[1].(*net.TCPConn).CloseWrite()
		})
	}
	both.Wait()
}

// sessionTime is how long a client of UDP is remembered that says nothing, as
// connection tracking has it.
const sessionTime = 2 * time.Minute

// session is a client of UDP: who it is, and which of the host's addresses it
// speaks to.
type session struct {
	client netip.AddrPort
	own    string // the control message that says so, which answers are sent with
}

// proxyUDP passes on datagrams, and the answers to where they came from.
func proxyUDP(socket *net.UDPConn, to target) {
	open := &connections{all: map[io.Closer]bool{}}
	defer open.end()
	var mu sync.Mutex
	sessions := map[session]net.Conn{}
	buffer, control := make([]byte, 64<<10), make([]byte, 256)
	for {
		n, length, _, client, err := socket.ReadMsgUDPAddrPort(buffer, control)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		from := session{client, string(control[:length])}
		mu.Lock()
		out := sessions[from]
		if out == nil {
			if out, err = to.dial("udp"); err != nil || !open.add(out) {
				mu.Unlock()
				continue
			}
			sessions[from] = out
			open.done.Go(func() {
				answer(socket, out, from)
				mu.Lock()
				delete(sessions, from)
				mu.Unlock()
				open.drop(out)
			})
		}
		mu.Unlock()
		_ = out.SetReadDeadline(time.Now().Add(sessionTime))
		_, _ = out.Write(buffer[:n]) // as lossy as UDP is
	}
}

// answer passes back what a server says to one client.
func answer(socket *net.UDPConn, out net.Conn, to session) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := out.Read(buffer)
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // the server's port is closed; it may open
		}
		if _, _, err := socket.WriteMsgUDPAddrPort(buffer[:n], []byte(to.own), to.client); err != nil {
			return
		}
	}
}

// tellDestination has a socket say of each datagram which of the host's addresses it
// was sent to: the answer must come from there.
func tellDestination(socket *net.UDPConn) error {
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	cerr := raw.Control(func(fd uintptr) {
		if socket.LocalAddr().(*net.UDPAddr).IP.To4() != nil {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		} else {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		}
	})
	return errors.Join(cerr, err)
}
