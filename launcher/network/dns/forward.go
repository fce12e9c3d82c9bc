package dns

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/miekg/dns"
)

const (
	maxForwards   = 64              // questions at once
	upstreamTime  = 2 * time.Second // for one resolver
	questionTime  = 5 * time.Second // for all of them
	forwardedSize = dns.DefaultMsgSize
)

var (
	errBusy       = errors.New("too many questions are being forwarded")
	errNoUpstream = errors.New("there are no resolvers to ask")
)

// forwarder asks the resolvers of the host.
type forwarder struct {
	upstream func() []string
	slots    chan struct{}
}

func newForwarder(upstream func() []string) *forwarder {
	return &forwarder{upstream: upstream, slots: make(chan struct{}, maxForwards)}
}

// HostResolvers are the resolvers that a file of resolv.conf(5) names, each as
// "address:port"; none where it cannot be read.
func HostResolvers(file string) []string {
	conf, err := dns.ClientConfigFromFile(file)
	if err != nil {
		return nil
	}
	var all []string
	for _, server := range conf.Servers {
		all = append(all, net.JoinHostPort(server, conf.Port))
	}
	return all
}

// ask passes a question on to the first resolver that answers, by the client's own
// transport: what is too large for a packet, the client asks again for by TCP.
func (f *forwarder) ask(m *dns.Msg, stream bool) (*dns.Msg, error) {
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	default:
		return nil, errBusy
	}
	ctx, cancel := context.WithTimeout(context.Background(), questionTime)
	defer cancel()
	client := &dns.Client{Net: "udp", UDPSize: forwardedSize, Timeout: upstreamTime}
	if stream {
		client.Net = "tcp"
	}
	question := m.Copy()
	question.Id = dns.Id() // the guest's own can be foreseen
	err := errNoUpstream
	for _, server := range f.upstream() {
		var answer *dns.Msg
		answer, _, err = client.ExchangeContext(ctx, question, server)
		if err == nil && answer.Rcode != dns.RcodeServerFailure && answer.Rcode != dns.RcodeRefused {
			answer.Id = m.Id
			return answer, nil
		}
		if ctx.Err() != nil {
			break
		}
		if err == nil {
			err = errors.New(server + ": " + dns.RcodeToString[answer.Rcode])
		}
	}
	return nil, err
}
