package launcher

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/slipway-vm/slipway/guest"
)

// validateOptions refuses container options that cannot be.
func (s *Spec) validateOptions() error {
	if err := s.Options.Validate(); err != nil {
		return errorf(ErrInvalid, "%v", err)
	}
	if p := s.Restart.Policy; s.AutoRemove && p != "" && p != guest.RestartNo {
		return errorf(ErrInvalid, "--restart %s and --rm exclude each other: a server that is removed when it ends cannot be restarted", p)
	}
	if s.ShmSize > maxMemory {
		return errorf(ErrInvalid, "/dev/shm of %d bytes: out of range", s.ShmSize)
	}
	for _, server := range s.Nameservers {
		if _, err := netip.ParseAddr(server); err != nil {
			return errorf(ErrInvalid, "name server %q is not an IP address", server)
		}
	}
	for _, list := range [][]string{s.DNSSearch, s.DNSOptions} {
		for _, word := range list {
			if word == "" || strings.ContainsAny(word, " \t\n#;") {
				return errorf(ErrInvalid, "resolver setting %q is not one word", word)
			}
		}
	}
	for _, h := range s.Hosts {
		if _, err := netip.ParseAddr(h.Address); err != nil {
			return errorf(ErrInvalid, "host %s: %q is not an IP address", strings.Join(h.Names, " "), h.Address)
		}
		for _, name := range h.Names {
			if name == "" || strings.ContainsAny(name, " \t\n#") {
				return errorf(ErrInvalid, "host name %q is not one word", name)
			}
		}
	}
	for name := range s.Labels {
		if name == "" {
			return errorf(ErrInvalid, "a label has no name")
		}
	}
	return nil
}

// healthcheck merges what the user asked for over the image's health check, which
// is in its configuration as docker writes it.
func (s *Spec) healthcheck(config []byte) (guest.Healthcheck, error) {
	var image struct {
		Config struct {
			Shell       []string
			Healthcheck struct {
				Test                                          []string
				Interval, Timeout, StartPeriod, StartInterval time.Duration
				Retries                                       int
			}
		} `json:"config"`
	}
	if err := json.Unmarshal(config, &image); err != nil {
		return guest.Healthcheck{}, fmt.Errorf("read the image's health check: %w", err)
	}
	h := s.Healthcheck.Over(guest.Healthcheck(image.Config.Healthcheck))
	if shell := image.Config.Shell; len(shell) > 0 && len(h.Test) > 1 && h.Test[0] == "CMD-SHELL" {
		h.Test = append(append([]string{"CMD"}, shell...), h.Test[1:]...)
	}
	check := guest.Options{Healthcheck: h}
	if err := check.Validate(); err != nil {
		return guest.Healthcheck{}, errorf(ErrInvalid, "%v", err)
	}
	return h, nil
}
