package dataplane

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// settle is how long tables are left alone after they were deleted, so that who
// reloads a firewall is done with it.
const settle = 100 * time.Millisecond

// watch makes the tables again whenever somebody has deleted them.
func (p *Plane) watch() {
	if p.watching != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.watching = cancel
	conn, err := listenNFTables()
	if err != nil {
		p.log.Error("nftables not watched", "err", err)
		return
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	go func() {
		for ctx.Err() == nil {
			messages, err := conn.Receive()
			switch {
			case ctx.Err() != nil:
				return
			case errors.Is(err, unix.ENOBUFS):
				// More has changed than there was room for.
			case err != nil:
				p.log.Error("nftables not watched any more", "err", err)
				return
			case !deletesTable(messages):
				continue
			}
			time.Sleep(settle)
			p.repair(ctx)
		}
	}()
}

func listenNFTables() (*netlink.Conn, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, err
	}
	if err := conn.JoinGroup(unix.NFNLGRP_NFTABLES); err != nil {
		return nil, errors.Join(fmt.Errorf("listen to changes: %w", err), conn.Close())
	}
	return conn, nil
}

func deletesTable(messages []netlink.Message) bool {
	for _, m := range messages {
		if m.Header.Type == unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_DELTABLE {
			return true
		}
	}
	return false
}

// repair looks whether the tables are there, and makes them again if not.
func (p *Plane) repair(ctx context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || ctx.Err() != nil || len(p.applied.Bridges) == 0 {
		return
	}
	conn, err := connect()
	if err != nil {
		p.log.Error("tables of nftables not looked at", "err", err)
		return
	}
	for _, family := range []nftables.TableFamily{nftables.TableFamilyINet, nftables.TableFamilyBridge} {
		if t, err := conn.ListTableOfFamily(p.table, family); err == nil && t != nil {
			continue
		}
		p.log.Warn("tables of nftables were deleted, and are made again", "table", p.table)
		if err := p.apply(ctx, p.applied); err != nil {
			p.log.Error("tables of nftables not made again", "table", p.table, "err", err)
		}
		return
	}
}
