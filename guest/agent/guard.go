package agent

import (
	"encoding/binary"
	"fmt"
	"io"
)

// guard stands between a guest's bytes and the host's yamux, and lets through
// only frames that a guest has a reason to send. yamux trusts its peer with
// memory: it keeps a goroutine for each ping until the reply could be written,
// so a guest that asked and did not read would fill the host. The guest never
// pings and never opens a stream.
type guard struct {
	io.ReadWriteCloser
	header []byte // of the frame being read, until complete
	skip   uint32 // bytes of its data to come
}

// From yamux's specification (spec.md): a header is version, type, flags of
// two bytes, stream and length of four bytes each.
const (
	muxHeader = 12

	muxData   = 0
	muxWindow = 1
	muxGoAway = 3

	muxFlagSYN = 1
)

// Read implements io.Reader.
func (g *guard) Read(p []byte) (int, error) {
	n, err := g.ReadWriteCloser.Read(p)
	for rest := p[:n]; len(rest) > 0; {
		if g.skip > 0 {
			data := min(int(g.skip), len(rest))
			g.skip -= uint32(data)
			rest = rest[data:]
			continue
		}
		take := min(muxHeader-len(g.header), len(rest))
		g.header = append(g.header, rest[:take]...)
		rest = rest[take:]
		if len(g.header) < muxHeader {
			continue
		}
		if err := g.check(); err != nil {
			return 0, err
		}
		g.header = g.header[:0]
	}
	return n, err
}

func (g *guard) check() error {
	typ := g.header[1]
	flags := binary.BigEndian.Uint16(g.header[2:])
	stream := binary.BigEndian.Uint32(g.header[4:])
	length := binary.BigEndian.Uint32(g.header[8:])
	switch {
	case typ != muxData && typ != muxWindow && typ != muxGoAway:
		return fmt.Errorf("%w: stream frame of type %d", errProtocol, typ)
	case flags&muxFlagSYN != 0 || (stream != 0 && stream%2 == 0):
		return fmt.Errorf("%w: the guest opened stream %d", errProtocol, stream)
	case typ == muxData:
		g.skip = length
	}
	return nil
}
