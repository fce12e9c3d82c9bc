package configure

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/slipway-vm/slipway/cloudinit"
)

// ownAddress is by what a host knows itself in /etc/hosts, as Debian has it.
const ownAddress = "127.0.1.1"

// hostname gives the guest its name, and tells /etc/hosts where that is wanted.
func (s *System) hostname(_ context.Context, u *cloudinit.UserData) error {
	c := &u.Config
	if c.Hostname == "" && c.FQDN == "" || c.PreserveHostname {
		return nil
	}
	short, _, _ := strings.Cut(c.FQDN, ".")
	name := short
	switch {
	case c.PreferFQDN && c.FQDN != "":
		name = c.FQDN
	case c.Hostname != "":
		name = c.Hostname
	}
	if err := s.SetHostname(name); err != nil {
		return err
	}
	err := s.writeFile("/etc/hostname", []byte(name+"\n"), 0o644)
	if !c.ManageEtcHosts {
		return err
	}
	var names []string // the first is the canonical one
	for _, n := range []string{c.FQDN, name, c.Hostname, short} {
		if n != "" && !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return errors.Join(err, s.nameInHosts(names))
}

// nameInHosts has /etc/hosts give the host's own address for names.
func (s *System) nameInHosts(names []string) error {
	data, err := os.ReadFile(s.path("/etc/hosts"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var out strings.Builder
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) == 0 || f[0] != ownAddress {
			out.WriteString(line)
		}
	}
	fmt.Fprintf(&out, "%s\t%s\n", ownAddress, strings.Join(names, " "))
	return s.writeFile("/etc/hosts", []byte(out.String()), 0o644)
}
