package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"time"
)

// The benchmark of networks: an HTTP server of the image's busybox, in a server and in
// a container of podman's, on a port that is published on the host's own address, and
// on its loopback interface. A request is a connection of its own for a few bytes; the
// throughput is that of one large answer, from the guest to the host.

const (
	requests   = 50 // in each run
	answerSize = 64 << 20
)

// website serves a short page, and a file of answerSize.
const website = "mkdir /www && echo page >/www/index.html && dd if=/dev/zero of=/www/data bs=1M count=64 && exec httpd -f -h /www"

// site is something that serves the website.
type site struct {
	name            string
	direct, local   string // addresses of the host that lead to it
	waits, loopback []time.Duration
	fetches         []time.Duration
}

// newSite chooses the ports on which a site will be published.
func newSite(ctx context.Context, name string) (*site, error) {
	host, err := hostAddress(ctx)
	if err != nil {
		return nil, err
	}
	s := &site{name: name}
	for ip, to := range map[string]*string{host: &s.direct, "127.0.0.1": &s.local} {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(ip, "0"))
		if err != nil {
			return nil, err
		}
		*to = l.Addr().String()
		if err := l.Close(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// publish is what a command line is told of the site's ports.
func (s *site) publish() []string { return []string{"-p", s.direct + ":80", "-p", s.local + ":80"} }

// hostAddress is the one that the host has towards others.
func hostAddress(ctx context.Context) (string, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "udp4", "192.0.2.1:9") // nothing is sent
	if err != nil {
		return "", fmt.Errorf("find the host's own address: %w", err)
	}
	ip := conn.LocalAddr().(*net.UDPAddr).IP.String()
	return ip, conn.Close()
}

// await returns once the site answers.
func (s *site) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		err := errors.Join(fetch(ctx, s.local, "", 5), fetch(ctx, s.direct, "", 5))
		if err == nil {
			return fetch(ctx, s.direct, "data", answerSize) // into its page cache
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s serves nothing: %w", s.name, err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// fetch makes one request, by a connection of its own.
func fetch(ctx context.Context, address, path string, want int64) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/"+path, nil)
	if err != nil {
		return err
	}
	request.Close = true
	r, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = r.Body.Close() }()
	n, err := io.Copy(io.Discard, r.Body)
	if err == nil && (r.StatusCode != http.StatusOK || n != want) {
		err = fmt.Errorf("%s: %s, %d bytes", request.URL, r.Status, n)
	}
	return err
}

// run measures one turn.
func (s *site) run(ctx context.Context) error {
	for range requests {
		if err := measure(&s.waits, func() error { return fetch(ctx, s.direct, "", 5) }); err != nil {
			return err
		}
		if err := measure(&s.loopback, func() error { return fetch(ctx, s.local, "", 5) }); err != nil {
			return err
		}
	}
	return measure(&s.fetches, func() error { return fetch(ctx, s.direct, "data", answerSize) })
}

func runNetwork(ctx context.Context, o options) (err error) {
	dir, err := os.MkdirTemp("", "slipway-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, removeBelow(dir)) }()
	if o.state, err = os.MkdirTemp("", "slipway-bench-"); err != nil {
		return err
	}
	s := &slipway{options: o}
	defer func() { err = errors.Join(err, s.remove(context.WithoutCancel(ctx))) }()
	progress("two servers and a container that serve a page")
	if err := s.prepare(ctx); err != nil {
		return err
	}
	var sites []*site
	for _, network := range []string{"default", "host-user"} {
		web, err := newSite(ctx, "slipway, network "+network)
		if err != nil {
			return err
		}
		flags := append([]string{"-d", "--name", network, "--network", network, "--stop-timeout", "1s"}, web.publish()...)
		if err := s.run(ctx, s.bootArgs(flags, "sh", "-c", website)...); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.run(context.WithoutCancel(ctx), "server", "delete", network)) }()
		sites = append(sites, web)
	}
	web, err := newSite(ctx, "podman "+versionOf(ctx, "podman"))
	if err != nil {
		return err
	}
	p := &container{dir: dir}
	defer p.keepBridges()(&err)
	defer func() { err = errors.Join(err, p.remove(context.WithoutCancel(ctx))) }()
	if err := p.start(ctx, o.image, web.publish(), "sh", "-c", website); err != nil {
		return err
	}
	sites = append(sites, web)
	if err := visit(ctx, sites, o.runs); err != nil {
		return err
	}
	reportNetwork(os.Stdout, o, sites)
	return nil
}

// visit measures the sites in turns.
func visit(ctx context.Context, sites []*site, runs int) error {
	for _, s := range sites {
		if err := s.await(ctx); err != nil {
			return err
		}
	}
	for i := range runs {
		progress(fmt.Sprintf("run %d of %d: %d requests each way, and %d MiB", i+1, runs, requests, answerSize>>20))
		for _, s := range sites {
			if err := s.run(ctx); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	return nil
}

// keepBridges notes which bridges there are; what it returns removes the one that
// podman has made besides and would leave.
func (c *container) keepBridges() func(*error) {
	const bridge = "cni-podman0"
	_, err := net.InterfaceByName(bridge)
	return func(to *error) {
		if _, now := net.InterfaceByName(bridge); err != nil && now == nil {
			*to = errors.Join(*to, runCommand(context.Background(), "ip", "link", "delete", bridge))
		}
	}
}

// reportNetwork prints what was measured, as ratios to the last site's.
func reportNetwork(w io.Writer, o options, sites []*site) {
	fmt.Fprintf(w, "\nA published port: image %s, %d runs of %d requests and an answer of %d MiB, medians\n\n",
		o.image, o.runs, requests, answerSize>>20)
	t := newTable(w)
	fmt.Fprintln(t, "\trequest\t99th percentile\tratio\tby loopback\tratio\tto the host\tratio of times\t")
	middle := func(d []time.Duration) time.Duration { return median(slices.Sorted(slices.Values(d))) }
	peer := sites[len(sites)-1]
	ratio := func(a, b []time.Duration) float64 { return middle(a).Seconds() / middle(b).Seconds() }
	for _, s := range sites {
		all := slices.Sorted(slices.Values(s.waits))
		fmt.Fprintf(t, "%s\t%s\t%s\t%.2f\t%s\t%.2f\t%.1f MB/s\t%.2f\t\n", s.name,
			milliseconds(median(all)), milliseconds(all[len(all)*99/100]), ratio(s.waits, peer.waits),
			milliseconds(middle(s.loopback)), ratio(s.loopback, peer.loopback),
			answerSize/1e6/middle(s.fetches).Seconds(), ratio(s.fetches, peer.fetches))
	}
	t.Flush()
}
