package dns

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/netutil"
	"golang.org/x/sys/unix"
)

const (
	ttl      = 10 // seconds; servers come and go
	maxConns = 32 // TCP
)

// Records are the servers of a network. Its methods are called concurrently.
type Records interface {
	// Addresses are those of a host name without a domain, in lower case; ok tells
	// whether there is such a host.
	Addresses(name string) (all []netip.Addr, ok bool)
	// Name is the host that has an address. Ours says that the address is one of the
	// network's, which nobody else is asked about.
	Name(netip.Addr) (name string, ours bool)
}

// Config is what a Server stands on.
type Config struct {
	Interface string           // the bridge: what does not come from there is not heard; empty: any
	Listen    []netip.AddrPort // addresses of ours on it
	Domain    string           // of the network, such as "openstacklocal"; may be empty
	Records   Records
	// Upstream returns the "address:port" of resolvers, asked in their order; none:
	// nothing else is known.
	Upstream func() []string
	Log      *slog.Logger // nil discards
}

// Server answers on one network.
type Server struct {
	servers []*dns.Server
}

// Listen opens the ports, UDP and TCP.
func Listen(ctx context.Context, cfg Config) (_ *Server, err error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	handler := newResponder(cfg)
	s := new(Server)
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("DNS on %s: %w", cfg.Interface, err), s.Close())
		}
	}()
	lc := net.ListenConfig{Control: boundTo(cfg.Interface)}
	for _, at := range cfg.Listen {
		packets, err := lc.ListenPacket(ctx, "udp", at.String())
		if err != nil {
			return nil, err
		}
		s.servers = append(s.servers, &dns.Server{PacketConn: packets, Handler: handler, UDPSize: dns.DefaultMsgSize})
		if at.Port() == 0 { // both have the port that the first was given
			at = netip.MustParseAddrPort(packets.LocalAddr().String())
		}
		streams, err := lc.Listen(ctx, "tcp", at.String())
		if err != nil {
			return nil, err
		}
		s.servers = append(s.servers, &dns.Server{
			Listener: netutil.LimitListener(streams, maxConns), Handler: handler,
			IdleTimeout: func() time.Duration { return 5 * time.Second },
		})
	}
	return s, nil
}

// boundTo makes sockets hear one interface alone, whose addresses may still be on
// their way.
func boundTo(name string) func(string, string, syscall.RawConn) error {
	if name == "" {
		return nil
	}
	return func(network, _ string, c syscall.RawConn) (err error) {
		cerr := c.Control(func(fd uintptr) {
			if err = unix.BindToDevice(int(fd), name); err != nil {
				return
			}
			if strings.HasSuffix(network, "6") {
				err = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_FREEBIND, 1)
			} else {
				err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1)
			}
		})
		return errors.Join(cerr, err)
	}
}

// Serve answers until the server is closed.
func (s *Server) Serve() error {
	failed := make(chan error, len(s.servers))
	for _, one := range s.servers {
		go func() { failed <- one.ActivateAndServe() }()
	}
	var errs []error
	for range s.servers {
		if err := <-failed; err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err, s.Close()) // one alone is of no use
		}
	}
	return errors.Join(errs...)
}

// Close ends Serve, also one that has not begun.
func (s *Server) Close() error {
	var errs []error
	for _, one := range s.servers {
		if one.PacketConn != nil {
			errs = append(errs, one.PacketConn.Close())
		} else {
			errs = append(errs, one.Listener.Close())
		}
	}
	for i, err := range errs {
		if errors.Is(err, net.ErrClosed) {
			errs[i] = nil
		}
	}
	return errors.Join(errs...)
}

// responder answers single questions.
type responder struct {
	cfg     Config
	domain  string // "openstacklocal.", or empty
	forward *forwarder
}

func newResponder(cfg Config) *responder {
	r := &responder{cfg: cfg, forward: newForwarder(cfg.Upstream)}
	if cfg.Domain != "" {
		r.domain = dns.CanonicalName(cfg.Domain)
	}
	return r
}

// ServeDNS implements dns.Handler.
func (r *responder) ServeDNS(w dns.ResponseWriter, m *dns.Msg) {
	_, stream := w.RemoteAddr().(*net.TCPAddr)
	reply := r.answer(m, stream)
	if !stream {
		size := dns.MinMsgSize
		if opt := m.IsEdns0(); opt != nil {
			size = max(size, int(opt.UDPSize()))
		}
		reply.Truncate(min(size, dns.DefaultMsgSize))
	}
	_ = w.WriteMsg(reply) // who does not read it has gone
}

// answer is the reply to a message, from the records or from upstream.
func (r *responder) answer(m *dns.Msg, stream bool) *dns.Msg {
	reply := new(dns.Msg)
	switch {
	case m.Opcode != dns.OpcodeQuery:
		return reply.SetRcode(m, dns.RcodeNotImplemented)
	case len(m.Question) != 1:
		return reply.SetRcode(m, dns.RcodeFormatError)
	}
	q := m.Question[0]
	if q.Qclass != dns.ClassINET || q.Qtype == dns.TypeAXFR || q.Qtype == dns.TypeIXFR {
		return reply.SetRcode(m, dns.RcodeRefused)
	}
	reply.SetReply(m)
	reply.RecursionAvailable = true
	if opt := m.IsEdns0(); opt != nil {
		reply.SetEdns0(dns.DefaultMsgSize, false)
	}
	if r.fromRecords(q, reply) {
		return reply
	}
	answer, err := r.forward.ask(m, stream)
	if err != nil {
		r.cfg.Log.Debug("DNS not forwarded", "err", err)
		reply.Rcode = dns.RcodeServerFailure
		return reply
	}
	return answer
}

// fromRecords fills in the reply to a question about the network itself, and reports
// whether it is one.
func (r *responder) fromRecords(q dns.Question, reply *dns.Msg) bool {
	name := dns.CanonicalName(q.Name)
	if a, ok := reversed(name); ok {
		return r.pointer(q, a, reply)
	}
	host, ours := r.host(name)
	if !ours {
		return false
	}
	reply.Authoritative = true
	addresses, found := r.cfg.Records.Addresses(host)
	switch {
	case host == "" && name != ".": // the domain itself
	case !found:
		reply.Rcode = dns.RcodeNameError
	}
	for _, a := range addresses {
		header := dns.RR_Header{Name: q.Name, Class: dns.ClassINET, Ttl: ttl}
		switch {
		case a.Is4() && (q.Qtype == dns.TypeA || q.Qtype == dns.TypeANY):
			header.Rrtype = dns.TypeA
			reply.Answer = append(reply.Answer, &dns.A{Hdr: header, A: a.AsSlice()})
		case a.Is6() && (q.Qtype == dns.TypeAAAA || q.Qtype == dns.TypeANY):
			header.Rrtype = dns.TypeAAAA
			reply.Answer = append(reply.Answer, &dns.AAAA{Hdr: header, AAAA: a.AsSlice()})
		}
	}
	if len(reply.Answer) == 0 {
		reply.Ns = append(reply.Ns, r.authority(name))
	}
	return true
}

// host is the name in the network that a canonical one means. Names of one label are
// the network's too, and are asked of nobody else.
func (r *responder) host(name string) (host string, ours bool) {
	bare := strings.TrimSuffix(name, ".")
	if r.domain != "" && name == r.domain {
		return "", true
	}
	if rest, ok := strings.CutSuffix(name, "."+r.domain); ok && r.domain != "" {
		return rest, true
	}
	return bare, bare != "" && !strings.Contains(bare, ".")
}

// authority tells how long an answer that there is nothing may be kept.
func (r *responder) authority(name string) dns.RR {
	zone := name
	if r.domain != "" && dns.IsSubDomain(r.domain, name) {
		zone = r.domain
	}
	return &dns.SOA{
		Hdr: dns.RR_Header{Name: zone, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: ttl},
		Ns:  "ns." + strings.TrimPrefix(zone, "."), Mbox: "hostmaster." + strings.TrimPrefix(zone, "."),
		Serial: 1, Refresh: 3600, Retry: 600, Expire: 86400, Minttl: ttl,
	}
}

// pointer fills in the name of an address, if that is one of the network's.
func (r *responder) pointer(q dns.Question, a netip.Addr, reply *dns.Msg) bool {
	host, ours := r.cfg.Records.Name(a)
	if !ours {
		return false
	}
	reply.Authoritative = true
	if host == "" {
		reply.Rcode = dns.RcodeNameError
	} else if q.Qtype == dns.TypePTR || q.Qtype == dns.TypeANY {
		target := host + "."
		if r.domain != "" {
			target += r.domain
		}
		reply.Answer = append(reply.Answer, &dns.PTR{Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypePTR, Class: dns.ClassINET, Ttl: ttl}, Ptr: target})
	}
	if len(reply.Answer) == 0 {
		reply.Ns = append(reply.Ns, r.authority(dns.CanonicalName(q.Name)))
	}
	return true
}

// reversed is the address that a name below in-addr.arpa or ip6.arpa means.
func reversed(name string) (netip.Addr, bool) {
	if labels, ok := strings.CutSuffix(name, ".in-addr.arpa."); ok {
		parts := strings.Split(labels, ".")
		slices.Reverse(parts)
		a, err := netip.ParseAddr(strings.Join(parts, "."))
		return a, err == nil && a.Is4()
	}
	labels, ok := strings.CutSuffix(name, ".ip6.arpa.")
	digits := strings.Split(labels, ".")
	if !ok || len(digits) != 32 {
		return netip.Addr{}, false
	}
	slices.Reverse(digits)
	data, err := hex.DecodeString(strings.Join(digits, ""))
	if err != nil || len(data) != 16 {
		return netip.Addr{}, false
	}
	return netip.AddrFrom16([16]byte(data)), true
}
