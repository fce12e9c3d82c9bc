package dns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

type hosts map[string][]string

func (h hosts) Addresses(name string) ([]netip.Addr, bool) {
	texts, ok := h[name]
	var all []netip.Addr
	for _, text := range texts {
		all = append(all, netip.MustParseAddr(text))
	}
	return all, ok
}

func (h hosts) Name(a netip.Addr) (string, bool) {
	for name, addresses := range h {
		if slices.Contains(addresses, a.String()) {
			return name, true
		}
	}
	return "", netip.MustParsePrefix("10.0.0.0/24").Contains(a) || netip.MustParsePrefix("fd00::/64").Contains(a)
}

// start serves on loopback, and returns where.
func start(t *testing.T, records hosts, upstream ...string) string {
	t.Helper()
	var s *Server
	err := retry(func() (err error) {
		s, err = Listen(t.Context(), Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Domain: "Lan.Example", Records: records, Upstream: func() []string { return upstream }})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- s.Serve() }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s.servers[0].PacketConn.LocalAddr().String()
}

// retry is for ports that are free for UDP and taken for TCP.
func retry(f func() error) (err error) {
	for range 20 {
		if err = f(); !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return err
}

// ask returns an answer's records and code in a line each.
func ask(t *testing.T, network, at, name string, kind uint16) string {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name, kind)
	client := dns.Client{Net: network, Timeout: 20 * time.Second}
	r, _, err := client.Exchange(m, at)
	if err != nil {
		return err.Error()
	}
	lines := []string{dns.RcodeToString[r.Rcode]}
	if r.Truncated {
		lines[0] += " truncated"
	}
	for _, rr := range r.Answer {
		lines = append(lines, strings.Join(strings.Fields(rr.String()), " "))
	}
	return strings.Join(lines, "\n")
}

func TestAnswers(t *testing.T) {
	upstream := start(t, hosts{}) // knows nothing
	at := start(t, hosts{"web": {"10.0.0.5", "fd00::5"}, "db": {"10.0.0.6"}}, upstream)
	tests := []struct {
		name string
		kind uint16
		want string
	}{
		{"web.", dns.TypeA, "NOERROR\nweb. 10 IN A 10.0.0.5"},
		{"web.", dns.TypeAAAA, "NOERROR\nweb. 10 IN AAAA fd00::5"},
		{"web.", dns.TypeANY, "NOERROR\nweb. 10 IN A 10.0.0.5\nweb. 10 IN AAAA fd00::5"},
		{"WeB.lan.example.", dns.TypeA, "NOERROR\nWeB.lan.example. 10 IN A 10.0.0.5"},
		{"db.", dns.TypeAAAA, "NOERROR"},
		{"db.", dns.TypeMX, "NOERROR"},
		{"lan.example.", dns.TypeA, "NOERROR"},
		{"nobody.lan.example.", dns.TypeA, "NXDOMAIN"},
		{"nobody.", dns.TypeA, "NXDOMAIN"},
		{"5.0.0.10.in-addr.arpa.", dns.TypePTR, "NOERROR\n5.0.0.10.in-addr.arpa. 10 IN PTR web.lan.example."},
		{"9.0.0.10.in-addr.arpa.", dns.TypePTR, "NXDOMAIN"},
		{"5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.", dns.TypePTR,
			"NOERROR\n5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa. 10 IN PTR web.lan.example."},
		{"lan.example.", dns.TypeAXFR, "REFUSED"},
	}
	for _, tt := range tests {
		for _, network := range []string{"udp", "tcp"} {
			if got := ask(t, network, at, tt.name, tt.kind); got != tt.want {
				t.Errorf("%s %s %s: %q, want %q", network, tt.name, dns.TypeToString[tt.kind], got, tt.want)
			}
		}
	}
}

// resolver serves as f does on loopback, over UDP and TCP.
func resolver(t *testing.T, f dns.HandlerFunc) string {
	t.Helper()
	var packets net.PacketConn
	var streams net.Listener
	err := retry(func() (err error) {
		if packets, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			return err
		}
		if streams, err = net.Listen("tcp", packets.LocalAddr().String()); err != nil {
			packets.Close()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*dns.Server{{PacketConn: packets, Handler: f}, {Listener: streams, Handler: f}} {
		go func() { _ = s.ActivateAndServe() }()
	}
	t.Cleanup(func() { packets.Close(); streams.Close() })
	return packets.LocalAddr().String()
}

func TestForwarding(t *testing.T) {
	good := resolver(t, func(w dns.ResponseWriter, m *dns.Msg) {
		r := new(dns.Msg).SetReply(m)
		n := 1
		if strings.HasPrefix(m.Question[0].Name, "many.") {
			n = 100
		}
		for i := range n {
			rr, _ := dns.NewRR(fmt.Sprintf("%s 60 IN A 192.0.2.%d", m.Question[0].Name, i))
			r.Answer = append(r.Answer, rr)
		}
		if _, stream := w.RemoteAddr().(*net.TCPAddr); !stream {
			r.Truncate(dns.MinMsgSize)
		}
		_ = w.WriteMsg(r)
	})
	refusing := resolver(t, func(w dns.ResponseWriter, m *dns.Msg) {
		_ = w.WriteMsg(new(dns.Msg).SetRcode(m, dns.RcodeRefused))
	})
	silent := resolver(t, func(dns.ResponseWriter, *dns.Msg) {})

	at := start(t, hosts{}, refusing, silent, good)
	if got := ask(t, "udp", at, "a.example.", dns.TypeA); got != "NOERROR\na.example. 60 IN A 192.0.2.0" {
		t.Errorf("by the third resolver: %q", got)
	}
	at = start(t, hosts{}, good)
	if got := ask(t, "udp", at, "many.example.", dns.TypeA); !strings.HasPrefix(got, "NOERROR truncated") {
		t.Errorf("a large answer by UDP: %q", got)
	}
	if got := ask(t, "tcp", at, "many.example.", dns.TypeA); strings.Count(got, "\n") != 100 {
		t.Errorf("a large answer by TCP: %q", got)
	}
	at = start(t, hosts{})
	if got := ask(t, "udp", at, "a.example.", dns.TypeA); got != "SERVFAIL" {
		t.Errorf("without resolvers: %q", got)
	}
}

// A resolver that asks us again, or none that answers, costs a bounded time and a
// bounded number of questions.
func TestForwardingIsBounded(t *testing.T) {
	var responder atomic.Value
	loop := resolver(t, func(w dns.ResponseWriter, m *dns.Msg) {
		r, _, err := (&dns.Client{Timeout: 10 * time.Second}).Exchange(m, responder.Load().(string))
		if err != nil {
			r = new(dns.Msg).SetRcode(m, dns.RcodeServerFailure)
		}
		r.Id = m.Id
		_ = w.WriteMsg(r)
	})
	at := start(t, hosts{}, loop)
	responder.Store(at)
	begun := time.Now()
	if got := ask(t, "udp", at, "a.example.", dns.TypeA); got != "SERVFAIL" {
		t.Errorf("in a loop: %q", got)
	}
	t.Logf("ended after %s", time.Since(begun))

	silent := resolver(t, func(dns.ResponseWriter, *dns.Msg) {})
	f := newForwarder(func() []string { return []string{silent} })
	done := make(chan error, maxForwards+1)
	for range maxForwards + 1 {
		m := new(dns.Msg)
		m.SetQuestion("a.example.", dns.TypeA)
		go func() { _, err := f.ask(m, false); done <- err }()
	}
	if err := <-done; err != errBusy { //nolint:errorlint // it is returned as it is
		t.Errorf("one too many: %v", err)
	}
	for range maxForwards {
		if err := <-done; err == nil || err == errBusy { //nolint:errorlint // the same
			t.Errorf("silence: %v", err)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	m := new(dns.Msg)
	m.SetQuestion("web.", dns.TypeA)
	data, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	r := newResponder(Config{Upstream: func() []string { return nil }, Domain: "lan", Records: hosts{"web": {"10.0.0.5"}}})
	f.Fuzz(func(_ *testing.T, data []byte) {
		m := new(dns.Msg)
		if m.Unpack(data) != nil || len(m.Question) != 1 {
			return
		}
		reply := new(dns.Msg).SetReply(m)
		if r.fromRecords(m.Question[0], reply) {
			_, _ = reply.Pack()
		}
	})
}
