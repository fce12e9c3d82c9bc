package agent

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ErrDisconnected is matched by errors of a session that has ended: the guest
// or its port has gone, or another host has taken over. Dial again.
var ErrDisconnected = errors.New("agent session ended")

// Port is the guest's end of the port. Read returns io.EOF each time the host
// has gone and then, when called again, waits for the next one. Write may wait
// for as long as there is no host; it is called by one goroutine at a time.
type Port interface {
	io.ReadWriter
}

// session is one session's byte stream, at either end.
type session struct {
	id   uint64
	link *frameWriter
	in   *io.PipeReader
	feed *io.PipeWriter

	fast    bool // the other end knows flagFast; set before there is anything to write
	writeMu sync.Mutex
	held    []byte // the header of a stream's frame, to be sent with what follows
	sendSeq uint32
	recvSeq uint32 // used by the link's reader only

	closeOnce sync.Once
	closed    chan struct{}
	onClose   func()
}

// frameWriter writes whole frames, one after another.
type frameWriter struct {
	mu  sync.Mutex
	w   io.Writer
	buf []byte
}

func (fw *frameWriter) write(lead []byte, f frame, more ...byte) error {
	fw.mu.Lock()
	defer fw.mu.Unlock()
	fw.buf = appendFrame(append(fw.buf[:0], lead...), f, more...)
	_, err := fw.w.Write(fw.buf)
	return err
}

func newSession(id uint64, link *frameWriter, onClose func()) *session {
	s := &session{id: id, link: link, closed: make(chan struct{}), onClose: onClose}
	s.in, s.feed = io.Pipe()
	return s
}

// Read implements io.Reader for yamux.
func (s *session) Read(p []byte) (int, error) { return s.in.Read(p) }

// Write implements io.Writer for yamux, which writes a header and its data one
// after the other: they go into one frame.
func (s *session) Write(p []byte) (int, error) {
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	if len(s.held) == 0 && announcesData(p) {
		s.held = append(s.held, p...)
		return len(p), nil
	}
	written := 0
	for len(p) > 0 {
		select {
		case <-s.closed:
			return written, ErrDisconnected
		default:
		}
		n := min(len(p), maxPayload-len(s.held))
		f := frame{typ: frameData, session: s.id, seq: s.sendSeq, fast: s.fast, payload: s.held}
		if err := s.link.write(nil, f, p[:n]...); err != nil {
			s.end(err)
			return written, fmt.Errorf("%w: %w", ErrDisconnected, err)
		}
		s.held = s.held[:0]
		s.sendSeq++
		written += n
		p = p[n:]
	}
	return written, nil
}

// Close ends the session at this end.
func (s *session) Close() error {
	s.end(nil)
	return nil
}

func (s *session) end(cause error) {
	s.closeOnce.Do(func() {
		close(s.closed)
		err := ErrDisconnected
		if cause != nil {
			err = fmt.Errorf("%w: %w", ErrDisconnected, cause)
		}
		s.feed.CloseWithError(err)
		s.in.CloseWithError(err)
		if s.onClose != nil {
			s.onClose()
		}
	})
}

var errGap = errors.New("frames were lost")

// receive hands a data frame's payload to the reader. It waits until the
// payload has been read, or the session has ended.
func (s *session) receive(f frame) error {
	if f.seq != s.recvSeq {
		return fmt.Errorf("%w: got number %d instead of %d", errGap, f.seq, s.recvSeq)
	}
	s.recvSeq++
	_, err := s.feed.Write(f.payload)
	return err
}

// guestLink is the guest's end of the link: it takes the sessions that hosts
// start, one at a time.
type guestLink struct {
	reader  *frameReader
	writer  *frameWriter
	accepts chan *session // sessions to be served
	answers chan uint64   // sessions to be answered with frameAccept
	resets  chan uint64   // sessions to be answered with frameReset
}

func newGuestLink(port Port) *guestLink {
	return &guestLink{
		reader:  newFrameReader(port),
		writer:  &frameWriter{w: port},
		accepts: make(chan *session),
		answers: make(chan uint64, 1),
		resets:  make(chan uint64, 1),
	}
}

// run reads the port until that fails for good or ctx is done. Replies are
// left to another goroutine, since writing may have to wait for a host.
func (l *guestLink) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go l.reply(ctx)
	var current *session
	drop := func(cause error) {
		if current != nil {
			current.end(cause)
			current = nil
		}
	}
	defer func() { drop(nil) }()
	for {
		f, err := l.reader.next()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, errReset) {
			if current != nil {
				offer(l.resets, current.id) // should the host be there after all
			}
			drop(err)
			continue
		}
		if err != nil {
			return err
		}
		switch {
		case f.typ == frameOpen && current != nil && current.id == f.session:
			offer(l.answers, f.session) // the host repeats itself until it hears us
		case f.typ == frameOpen:
			drop(errors.New("another session has started"))
			current = newSession(f.session, l.writer, nil)
			current.fast = f.fast
			offer(l.answers, f.session)
			select {
			case l.accepts <- current:
			case <-ctx.Done():
				return ctx.Err()
			}
		case current == nil || f.session != current.id:
			if f.typ == frameData {
				offer(l.resets, f.session)
			}
		case f.typ == frameData:
			if err := current.receive(f); err != nil {
				offer(l.resets, f.session)
				drop(err)
			}
		case f.typ == frameReset:
			drop(errors.New("reset by the host"))
		}
	}
}

func (l *guestLink) reply(ctx context.Context) {
	lead := preamble[:0] // nothing was sent yet that could have been cut short
	for {
		var f frame
		select {
		case <-ctx.Done():
			return
		case id := <-l.answers:
			f = frame{typ: frameAccept, session: id, fast: true}
		case id := <-l.resets:
			f = frame{typ: frameReset, session: id}
		}
		if l.writer.write(lead, f) != nil {
			return
		}
		lead = preamble
	}
}

// offer leaves v in a channel of one place for the newest value.
func offer(c chan uint64, v uint64) {
	for {
		select {
		case c <- v:
			return
		default:
		}
		select {
		case <-c:
		default:
		}
	}
}

// openInterval is how often a host repeats its wish for a session.
const openInterval = time.Second

// openSession starts a session over conn, which the session then owns. It
// waits for the guest until ctx is done or conn fails.
func openSession(ctx context.Context, conn net.Conn) (*session, error) {
	var raw [8]byte
	// Not crypto/rand, whose packages take 10 ms of a guest's boot to
	// initialise, though only hosts come here.
	if _, err := unix.Getrandom(raw[:], 0); err != nil {
		return nil, err
	}
	s := newSession(binary.BigEndian.Uint64(raw[:]), &frameWriter{w: conn}, func() { conn.Close() })
	accepted := make(chan struct{})
	go s.readHost(conn, accepted)
	stop := context.AfterFunc(ctx, func() { s.end(context.Cause(ctx)) })
	defer stop()
	lead := preamble
	for {
		if err := s.link.write(lead, frame{typ: frameOpen, session: s.id, fast: true}); err != nil {
			s.end(err)
			return nil, firstError(ctx, err)
		}
		// One preamble is enough: it cannot be cut short without conn failing.
		lead = nil
		select {
		case <-accepted:
			if !stop() {
				return nil, context.Cause(ctx)
			}
			return s, nil
		case <-s.closed:
			return nil, firstError(ctx, ErrDisconnected)
		case <-time.After(openInterval):
		}
	}
}

// readHost is the host's reader: it takes only what belongs to its session.
func (s *session) readHost(conn net.Conn, accepted chan struct{}) {
	reader := newFrameReader(conn)
	started := false
	for {
		f, err := reader.next()
		if err != nil {
			s.end(err)
			return
		}
		if f.session != s.id {
			continue
		}
		switch f.typ {
		case frameAccept:
			if !started {
				started, s.fast = true, f.fast
				close(accepted)
			}
		case frameData:
			if !started {
				s.end(fmt.Errorf("%w: data in a session that was not accepted", errProtocol))
				return
			}
			if err := s.receive(f); err != nil {
				s.end(err)
				return
			}
		case frameReset:
			s.end(errors.New("reset by the guest"))
			return
		}
	}
}

func firstError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
