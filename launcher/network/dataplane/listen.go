package dataplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"syscall"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/network"
)

// endpoint is where the host is reached. A zero address is all.
type endpoint struct {
	ip       netip.Addr
	port     uint16
	protocol string
}

func (e endpoint) String() string {
	ip := ""
	if e.ip.IsValid() {
		ip = e.ip.String()
	}
	return net.JoinHostPort(ip, strconv.Itoa(int(e.port)))
}

// listener holds an endpoint, and is the proxy for who reaches it there.
type listener struct {
	socket io.Closer
	serve  func(to target)
	// target is nil until the endpoint leads somewhere.
	target *target
	ended  chan struct{}
}

// target is where a proxy leads.
type target struct {
	addresses []netip.Addr
	port      uint16
}

// listeners are those of a Plane, under its lock.
type listeners struct {
	log  *slog.Logger
	open map[endpoint]*listener
}

// reserve opens what is not open yet. After an error it has opened nothing.
func (l *listeners) reserve(ctx context.Context, ports []launcher.Publish) (_ []launcher.Publish, err error) {
	var made []endpoint
	defer func() {
		if err != nil {
			for _, e := range made {
				_ = l.shut(e)
			}
		}
	}()
	decided := make([]launcher.Publish, len(ports))
	for i, p := range ports {
		e, err := l.first(ctx, p)
		if err != nil {
			return nil, err
		}
		made = append(made, e)
		p.HostPort, p.HostEnd = e.port, 0
		decided[i] = p
	}
	return decided, nil
}

// first opens the first port of a publication's range that is free.
func (l *listeners) first(ctx context.Context, p launcher.Publish) (endpoint, error) {
	var errs error
	for port := int(p.HostPort); port <= max(int(p.HostPort), int(p.HostEnd)); port++ {
		e := endpoint{p.HostIP, uint16(port), p.Protocol}
		e, err := l.listen(ctx, e)
		if err == nil {
			return e, nil
		}
		errs = err
		if !errors.Is(err, launcher.ErrConflict) {
			break
		}
	}
	return endpoint{}, errs
}

// listen opens an endpoint; a port of 0 is one that is free.
func (l *listeners) listen(ctx context.Context, e endpoint) (endpoint, error) {
	if _, there := l.open[e]; there {
		return e, launcher.Errorf(launcher.ErrConflict, "port %d/%s of the host is published already: choose another", e.port, e.protocol)
	}
	made := &listener{ended: make(chan struct{})}
	if e.protocol == "udp" {
		socket, err := new(net.ListenConfig).ListenPacket(ctx, "udp", e.String())
		if err != nil {
			return e, l.refused(e, err)
		}
		if err := tellDestination(socket.(*net.UDPConn)); err != nil {
			return e, errors.Join(fmt.Errorf("publish %s/udp: %w", e, err), socket.Close())
		}
		e.port = socket.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		made.socket = socket
		made.serve = func(to target) { proxyUDP(socket.(*net.UDPConn), to) }
	} else {
		socket, err := new(net.ListenConfig).Listen(ctx, "tcp", e.String())
		if err != nil {
			return e, l.refused(e, err)
		}
		e.port = socket.Addr().(*net.TCPAddr).AddrPort().Port()
		made.socket = socket
		made.serve = func(to target) { proxyTCP(socket, to) }
	}
	l.open[e] = made
	return e, nil
}

// refused says who has a port, or what else is wrong with an endpoint.
func (l *listeners) refused(e endpoint, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return launcher.Errorf(launcher.ErrConflict, "port %d/%s of the host is in use by %s: choose another, or end that", e.port, e.protocol, holder(e))
	case errors.Is(err, syscall.EACCES):
		return launcher.Errorf(launcher.ErrInvalid, "port %d/%s of the host is not for an ordinary user: choose one above it, from 1024 on", e.port, e.protocol)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return launcher.Errorf(launcher.ErrInvalid, "cannot publish on %s: this host has no such address", e.ip)
	}
	return fmt.Errorf("publish %s/%s: %w", e, e.protocol, err)
}

// release closes what was reserved and leads nowhere yet.
func (l *listeners) release(ports []launcher.Publish) error {
	var errs []error
	for _, p := range ports {
		e := endpoint{p.HostIP, p.HostPort, p.Protocol}
		if there := l.open[e]; there != nil && there.target == nil {
			errs = append(errs, l.shut(e))
		}
	}
	return errors.Join(errs...)
}

// set brings proxies in line with what is published. A port that cannot be had any
// more is published without; one that is reserved is left alone.
func (l *listeners) set(ctx context.Context, all []network.Forward) {
	want := map[endpoint]target{}
	for _, f := range all {
		want[endpoint{f.HostIP, f.HostPort, f.Protocol}] = target{f.Guests, f.GuestPort}
	}
	for e, there := range l.open {
		to, wanted := want[e]
		switch {
		case there.target == nil && wanted:
			there.start(to)
		case there.target == nil || wanted && there.target.equal(to):
		default:
			if err := l.shut(e); err != nil {
				l.log.Warn("published port not closed", "port", e.String(), "err", err)
			}
		}
	}
	for e, to := range want {
		if _, there := l.open[e]; there {
			continue
		}
		if _, err := l.listen(ctx, e); err != nil {
			l.log.Warn("published port not reached by the loopback interface", "port", e.String(), "err", err)
			continue
		}
		l.open[e].start(to)
	}
}

func (l *listener) start(to target) {
	l.target = &to
	go func() {
		defer close(l.ended)
		l.serve(to)
	}()
}

func (t *target) equal(o target) bool {
	if t.port != o.port || len(t.addresses) != len(o.addresses) {
		return false
	}
	for i := range t.addresses {
		if t.addresses[i] != o.addresses[i] {
			return false
		}
	}
	return true
}

// shut closes an endpoint, and with it what passes through it.
func (l *listeners) shut(e endpoint) error {
	there := l.open[e]
	delete(l.open, e)
	err := there.socket.Close()
	if there.target != nil {
		<-there.ended
	}
	return err
}

func (l *listeners) close() error {
	var errs []error
	for e := range l.open {
		errs = append(errs, l.shut(e))
	}
	return errors.Join(errs...)
}
