package configure

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/slipway-vm/slipway/cloudinit"
)

// retryAfter separates the tries to phone home.
const retryAfter = time.Second

// Greet does what follows the entrypoint's start: it phones home, once per
// instance, and returns the final message, empty where none was asked for. up is
// how long the guest has run. mode is poweroff, halt or reboot where user-data wants the
// server to end, as soon as Greet returns: it has waited for that.
func (s *System) Greet(ctx context.Context, c *cloudinit.Config, hostname string, up time.Duration) (message, mode string) {
	mark := filepath.Join(s.instanceDir(), "sem", "greeted")
	_, err := os.Stat(s.path(mark))
	first := errors.Is(err, os.ErrNotExist)
	if first && (c.PhoneHome != nil || c.PowerState != nil) {
		if err := s.writeFile(mark, nil, 0o644); err != nil {
			s.Report(fmt.Sprintf("record that the instance has greeted: %v", err))
		}
	}
	if c.PhoneHome != nil && first {
		if err := s.phoneHome(ctx, c.PhoneHome, hostname); err != nil {
			s.Report(fmt.Sprintf("phone_home: %v", err))
		}
	}
	now, seconds := time.Now().UTC().Format(time.RFC1123Z), fmt.Sprintf("%.2f", up.Seconds())
	message = strings.NewReplacer("$UPTIME", seconds, "$uptime", seconds, "$TIMESTAMP", now, "$timestamp", now,
		"$DATASOURCE", "DataSourceNoCloud", "$datasource", "DataSourceNoCloud",
		"$VERSION", "slipway", "$version", "slipway").Replace(c.FinalMessage)
	if first {
		mode = s.powerState(ctx, c.PowerState)
	}
	return message, mode
}

// powerState waits until the server is to end, and says how, if it is.
func (s *System) powerState(ctx context.Context, p *cloudinit.PowerState) string {
	if p == nil {
		return ""
	}
	if !p.Always {
		if err := s.runAll(ctx, []cloudinit.Command{p.Condition}); err != nil {
			return ""
		}
	}
	select {
	case <-time.After(p.Delay):
		return p.Mode
	case <-ctx.Done():
		return ""
	}
}

// phoneHome posts what the server is called, as a form.
func (s *System) phoneHome(ctx context.Context, p *cloudinit.PhoneHome, hostname string) error {
	to, err := url.Parse(strings.ReplaceAll(p.URL, "$INSTANCE_ID", url.PathEscape(s.Meta.InstanceID)))
	if err != nil {
		return err
	}
	form := url.Values{}
	for name, value := range map[string]string{"instance_id": s.Meta.InstanceID, "hostname": hostname, "fqdn": hostname} {
		if slices.Contains(p.Post, name) || slices.Contains(p.Post, "all") {
			form.Set(name, value)
		}
	}
	if slices.Contains(p.Post, "all") || slices.ContainsFunc(p.Post, func(n string) bool { return strings.HasPrefix(n, "pub_key_") }) {
		for _, kind := range []string{"rsa", "ecdsa", "ed25519"} {
			key, err := os.ReadFile(s.path("/etc/ssh/ssh_host_" + kind + "_key.pub"))
			if err == nil {
				form.Set("pub_key_"+kind, string(key))
			}
		}
	}
	for try := 1; ; try++ {
		if err = s.post(ctx, to.String(), form); err == nil || try >= p.Tries {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(retryAfter):
		}
	}
}

// post sends a form and wants an answer of success. The certificates trusted are
// the root's.
func (s *System) post(ctx context.Context, to string, form url.Values) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	pool := x509.NewCertPool()
	for _, b := range bundles {
		if pem, err := os.ReadFile(s.path(b)); err == nil {
			pool.AppendCertsFromPEM(pem)
		}
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s answered %s", req.URL.Redacted(), resp.Status)
	}
	return nil
}
