package vif

import (
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/slipway-vm/slipway/launcher/network"
)

// burst is the least that a limit lets through at once, in bytes: a packet of the most
// that segmentation offload makes.
const burst = 128 << 10

// limit bounds what passes a tap, before and after whatever it is joined to, by a table
// of its own: queues on the tap are Open vSwitch's.
func limit(tap string, b network.Bandwidth) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	t := tableOf(tap)
	conn.AddTable(t)
	conn.DelTable(t)
	if b != (network.Bandwidth{}) {
		conn.AddTable(t)
	}
	for _, way := range []struct {
		name string
		hook *nftables.ChainHook
		rate network.Rate
	}{{"inbound", nftables.ChainHookEgress, b.Inbound}, {"outbound", nftables.ChainHookIngress, b.Outbound}} {
		if way.rate.Average == 0 {
			continue
		}
		c := conn.AddChain(&nftables.Chain{
			Name: way.name, Table: t, Type: nftables.ChainTypeFilter, Hooknum: way.hook, Priority: nftables.ChainPriorityFilter, Device: tap,
		})
		conn.AddRule(&nftables.Rule{Table: t, Chain: c, Exprs: []expr.Any{
			&expr.Limit{
				Type: expr.LimitTypePktBytes, Unit: expr.LimitTimeSecond, Over: true,
				Rate: uint64(way.rate.Average) << 10, Burst: uint32(max(burst, way.rate.Burst<<10)),
			},
			&expr.Verdict{Kind: expr.VerdictDrop},
		}})
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("bound what passes %s: %w", tap, err)
	}
	return nil
}

func tableOf(tap string) *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyNetdev, Name: "slipway-" + tap}
}
