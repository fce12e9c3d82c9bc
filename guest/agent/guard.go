package agent

import (
	"encoding/binary"
	"fmt"
	"io"
)

// guard stands between a guest's bytes and the host's yamux. yamux trusts its
// peer in ways that a host cannot: it keeps a goroutine for each ping until
// the reply could be written, it lets the peer open streams, and it holds a
// stream's lock while it waits for the rest of a frame, so that not even a
// deadline would free a reader. The guard lets through whole frames only, and
// only those that a guest has a reason to send.
type guard struct {
	io.ReadWriteCloser
	frame []byte // being read, reused
	ready []byte // the part of frame not yet passed on
}

// From yamux's specification (spec.md): a header is version, type, flags of
// two bytes, stream and length of four bytes each.
const (
	muxHeader = 12

	muxData   = 0
	muxWindow = 1
	muxGoAway = 3

	muxFlagSYN = 1

	// maxMuxData is more than a guest's server ever puts into one frame: a
	// message.
	maxMuxData = 2 * maxMessage
)

// announcesData reports whether p is the header of a stream's frame with data.
func announcesData(p []byte) bool {
	return len(p) == muxHeader && p[0] == 0 && p[1] == muxData && binary.BigEndian.Uint32(p[8:]) > 0
}

// Read implements io.Reader.
func (g *guard) Read(p []byte) (int, error) {
	if len(g.ready) == 0 {
		if err := g.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, g.ready)
	g.ready = g.ready[n:]
	return n, nil
}

func (g *guard) next() error {
	if cap(g.frame) == 0 {
		g.frame = make([]byte, muxHeader+maxMuxData)
	}
	header := g.frame[:muxHeader]
	if _, err := io.ReadFull(g.ReadWriteCloser, header); err != nil {
		return err
	}
	typ := header[1]
	flags := binary.BigEndian.Uint16(header[2:])
	stream := binary.BigEndian.Uint32(header[4:])
	length := binary.BigEndian.Uint32(header[8:])
	switch {
	case typ != muxData && typ != muxWindow && typ != muxGoAway:
		return fmt.Errorf("%w: stream frame of type %d", errProtocol, typ)
	case flags&muxFlagSYN != 0 || (stream != 0 && stream%2 == 0):
		return fmt.Errorf("%w: the guest opened stream %d", errProtocol, stream)
	case typ != muxData:
		length = 0
	case length > maxMuxData:
		return fmt.Errorf("%w: stream frame of %d bytes", errProtocol, length)
	}
	whole := g.frame[:muxHeader+int(length)]
	if _, err := io.ReadFull(g.ReadWriteCloser, whole[muxHeader:]); err != nil {
		return err
	}
	g.ready = whole
	return nil
}
