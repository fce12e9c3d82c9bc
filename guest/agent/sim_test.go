package agent

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// simPort behaves as a virtio-serial port and QEMU's socket behind it do: the
// host's end can be cut at any byte. What the guest had sent is then lost, and
// what the host had sent may be lost from any byte on, or arrive later.
type simPort struct {
	mu      sync.Mutex
	changed *sync.Cond
	rng     *rand.Rand
	toGuest []byte
	hangUp  bool // to be told to the guest
	conn    *simConn
	closed  bool
	fault   float64 // chance that a write is damaged, lost or repeated
}

const simBuffer = 64 << 10

func newSimPort(seed uint64) *simPort {
	p := &simPort{rng: rand.New(rand.NewPCG(seed, 1))}
	p.changed = sync.NewCond(&p.mu)
	return p
}

func (p *simPort) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.changed.Broadcast()
}

// Read is the guest's.
func (p *simPort) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.closed:
			return 0, net.ErrClosed
		case p.hangUp && len(p.toGuest) == 0:
			p.hangUp = false
			return 0, io.EOF
		case len(p.toGuest) > 0:
			n := copy(b[:1+p.rng.IntN(len(b))], p.toGuest)
			p.toGuest = p.toGuest[n:]
			p.changed.Broadcast()
			return n, nil
		}
		p.changed.Wait()
	}
}

// Write is the guest's: it waits for a host, and for room.
func (p *simPort) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.closed && (p.conn == nil || len(p.conn.toHost) > simBuffer) {
		p.changed.Wait()
	}
	if p.closed {
		return 0, net.ErrClosed
	}
	p.conn.toHost = append(p.conn.toHost, p.damage(b)...)
	p.changed.Broadcast()
	return len(b), nil
}

func (p *simPort) damage(b []byte) []byte {
	if p.rng.Float64() >= p.fault {
		return b
	}
	c := append([]byte(nil), b...)
	switch p.rng.IntN(4) {
	case 0:
		return nil
	case 1:
		return append(c, c...)
	case 2:
		return c[:p.rng.IntN(len(c))]
	}
	c[p.rng.IntN(len(c))] ^= 1 << p.rng.IntN(8)
	return c
}

// connect gives the host its end. A connection that is there is cut.
func (p *simPort) connect() *simConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn != nil {
		p.cut(p.conn)
	}
	p.conn = &simConn{port: p}
	p.hangUp = false
	p.changed.Broadcast()
	return p.conn
}

// cut is called with the lock held.
func (p *simPort) cut(c *simConn) {
	if c.dead {
		return
	}
	c.dead = true
	if p.conn != c {
		return
	}
	p.conn = nil
	switch p.rng.IntN(3) {
	case 0:
		p.toGuest = p.toGuest[:p.rng.IntN(len(p.toGuest)+1)]
	case 1:
		p.toGuest = nil
	}
	// The guest may not notice before the next host is there.
	p.hangUp = p.rng.IntN(2) == 0
	p.changed.Broadcast()
}

// simConn is the host's end of one connection.
type simConn struct {
	port   *simPort
	toHost []byte
	dead   bool
	limit  int // bytes after which it is cut, 0 for none
}

var errCut = errors.New("connection was cut")

func (c *simConn) Read(b []byte) (int, error) {
	p := c.port
	p.mu.Lock()
	defer p.mu.Unlock()
	for !c.dead && !p.closed && len(c.toHost) == 0 {
		p.changed.Wait()
	}
	if c.dead || p.closed {
		return 0, errCut
	}
	n := copy(b[:1+p.rng.IntN(len(b))], c.toHost)
	c.toHost = c.toHost[n:]
	c.spend(n)
	p.changed.Broadcast()
	return n, nil
}

func (c *simConn) Write(b []byte) (int, error) {
	p := c.port
	p.mu.Lock()
	defer p.mu.Unlock()
	for !c.dead && !p.closed && len(p.toGuest) > simBuffer {
		p.changed.Wait()
	}
	if c.dead || p.closed {
		return 0, errCut
	}
	p.toGuest = append(p.toGuest, p.damage(b)...)
	c.spend(len(b))
	p.changed.Broadcast()
	return len(b), nil
}

func (c *simConn) spend(n int) {
	if c.limit == 0 {
		return
	}
	if c.limit -= n; c.limit <= 0 {
		c.port.cut(c)
	}
}

func (c *simConn) Close() error {
	c.port.mu.Lock()
	defer c.port.mu.Unlock()
	c.port.cut(c)
	return nil
}

func (c *simConn) LocalAddr() net.Addr              { return nil }
func (c *simConn) RemoteAddr() net.Addr             { return nil }
func (c *simConn) SetDeadline(time.Time) error      { return nil }
func (c *simConn) SetReadDeadline(time.Time) error  { return nil }
func (c *simConn) SetWriteDeadline(time.Time) error { return nil }
