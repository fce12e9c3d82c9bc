package dataplane

import (
	"slices"
	"testing"

	"github.com/google/nftables"
)

func TestDroppers(t *testing.T) {
	conn, err := connect()
	if err != nil {
		t.Fatal(err)
	}
	for _, policy := range []nftables.ChainPolicy{nftables.ChainPolicyAccept, nftables.ChainPolicyDrop} {
		table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "filter"})
		conn.AddChain(&nftables.Chain{
			Name: "FORWARD", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward,
			Priority: nftables.ChainPriorityFilter, Policy: &policy,
		})
		if err := conn.Flush(); err != nil {
			t.Fatal(err)
		}
		found, err := Droppers()
		if err != nil || slices.Contains(found, "ip filter FORWARD") != (policy == nftables.ChainPolicyDrop) {
			t.Errorf("policy %d: %v, %v", policy, found, err)
		}
		conn.DelTable(table)
		if err := conn.Flush(); err != nil {
			t.Fatal(err)
		}
	}
}
