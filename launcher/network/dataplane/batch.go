package dataplane

import (
	"fmt"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
)

// batch is a table that is being made in the place of what it was.
type batch struct {
	conn  *nftables.Conn
	table *nftables.Table
	err   error
}

// bufferSize holds a table of thousands of published ports, and the kernel's
// answers to all of its parts.
const bufferSize = 16 << 20

func connect() (*nftables.Conn, error) {
	return nftables.New(nftables.WithSockOptions(func(c *netlink.Conn) error {
		if err := c.SetWriteBuffer(bufferSize); err != nil {
			return err
		}
		return c.SetReadBuffer(bufferSize)
	}))
}

// replace begins a table anew: it is deleted, which it must be there for.
func replace(conn *nftables.Conn, family nftables.TableFamily, name string) *batch {
	t := &nftables.Table{Family: family, Name: name}
	conn.AddTable(t)
	conn.DelTable(t)
	conn.AddTable(t)
	return &batch{conn: conn, table: t}
}

func (b *batch) chain(name string) *nftables.Chain {
	return b.conn.AddChain(&nftables.Chain{Name: name, Table: b.table})
}

// hook begins a chain that packets come to by themselves.
func (b *batch) hook(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority int) *nftables.Chain {
	return b.conn.AddChain(&nftables.Chain{
		Name: name, Table: b.table, Type: kind, Hooknum: hook, Priority: nftables.ChainPriorityRef(nftables.ChainPriority(priority)),
	})
}

func (b *batch) rule(c *nftables.Chain, parts ...rule) {
	b.conn.AddRule(&nftables.Rule{Table: b.table, Chain: c, Exprs: join(parts...)})
}

// elementsPerMessage keeps a message below the 64 KiB that an attribute may have.
const elementsPerMessage = 400

func (b *batch) set(s *nftables.Set, elements []nftables.SetElement) *nftables.Set {
	s.Table = b.table
	if err := b.conn.AddSet(s, nil); err != nil {
		b.fail(s, err)
	}
	for len(elements) > 0 {
		n := min(len(elements), elementsPerMessage)
		if err := b.conn.SetAddElements(s, elements[:n]); err != nil {
			b.fail(s, err)
		}
		elements = elements[n:]
	}
	return s
}

func (b *batch) fail(s *nftables.Set, err error) {
	if b.err == nil {
		b.err = fmt.Errorf("set %s: %w", s.Name, err)
	}
}
