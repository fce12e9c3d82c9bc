package dataplane

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
)

// Droppers are the chains of others that drop what this host would forward unless a
// rule of theirs lets it pass: docker's, or a firewall's. What they drop is lost,
// whatever Slipway's own tables say.
func Droppers() ([]string, error) {
	conn, err := connect()
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	chains, err := conn.ListChains()
	if err != nil {
		return nil, fmt.Errorf("list the chains of nftables: %w", err)
	}
	families := map[nftables.TableFamily]string{nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6", nftables.TableFamilyINet: "inet"}
	var found []string
	for _, c := range chains {
		family, routed := families[c.Table.Family]
		if !routed || strings.HasPrefix(c.Table.Name, "slipway-") || c.Hooknum == nil || *c.Hooknum != *nftables.ChainHookForward {
			continue
		}
		if c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop {
			found = append(found, fmt.Sprintf("%s %s %s", family, c.Table.Name, c.Name))
		}
	}
	slices.Sort(found)
	return found, nil
}
