package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/vishvananda/netlink"

	"github.com/slipway-vm/slipway/guest/share"
)

// granted is a lease as it is kept beside the seed.
type granted struct {
	Interface  string `json:"interface"`
	Offer, ACK []byte // as they came
}

// writeLeases keeps the leases that end, where there are any.
func (all links) writeLeases(dir string) error {
	var kept []granted
	for _, i := range all {
		if i.leased != nil && i.leased.ACK.IPAddressLeaseTime(forever) < forever {
			kept = append(kept, granted{i.Name, i.leased.Offer.ToBytes(), i.leased.ACK.ToBytes()})
		}
	}
	if len(kept) == 0 {
		return nil
	}
	data, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, filepath.Base(share.LeasesFile)), data, 0o600)
}

// forever is the time of a lease that does not end (RFC 2131, 3.3).
const forever = 0xffffffff * time.Second

// The rests between attempts.
const (
	renewRest = time.Minute      // to renew a lease, at most half of what is left of it
	askRest   = 10 * time.Second // to get one after the last has ended
)

// Keep renews the leases that [Complete] has got, for as long as the context lasts; without
// any it returns at once. An address whose lease has ended is taken from its card, and
// another is asked for. Name servers stay those of the boot.
func Keep(ctx context.Context, dir string, report func(string)) error {
	data, err := os.ReadFile(filepath.Join(dir, filepath.Base(share.LeasesFile)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var all []granted
	if err := json.Unmarshal(data, &all); err != nil {
		return fmt.Errorf("%s: %w", share.LeasesFile, err)
	}
	var each sync.WaitGroup
	for _, g := range all {
		k, err := g.keeper(report)
		if err != nil {
			report(fmt.Sprintf("%s: lease: %v", g.Interface, err))
			continue
		}
		each.Go(func() { k.run(ctx) })
	}
	each.Wait()
	return nil
}

// keeper keeps the lease of one card.
type keeper struct {
	link
	report func(string)
}

func (g *granted) keeper(report func(string)) (*keeper, error) {
	offer, err := dhcpv4.FromBytes(g.Offer)
	if err != nil {
		return nil, err
	}
	ack, err := dhcpv4.FromBytes(g.ACK)
	if err != nil {
		return nil, err
	}
	device, err := netlink.LinkByName(g.Interface)
	if err != nil {
		return nil, err
	}
	k := &keeper{link: link{Interface: share.Interface{Name: g.Interface}, device: device}, report: report}
	// When it began by the clock, which may have been set since, is no matter.
	k.leased = &nclient4.Lease{Offer: offer, ACK: ack, CreationTime: time.Now()}
	k.grant(ack, new(resolver))
	return k, nil
}

func (k *keeper) run(ctx context.Context) {
	for ctx.Err() == nil {
		if k.leased == nil {
			k.renew(ctx)
			continue
		}
		now := time.Now()
		begun, length := k.leased.CreationTime, k.leased.ACK.IPAddressLeaseTime(forever)
		end := begun.Add(length)
		next := begun.Add(k.leased.ACK.IPAddressRenewalTime(length / 2))
		if now.After(next) {
			next = now.Add(min(renewRest, end.Sub(now)/2))
		}
		rest(ctx, min(next.Sub(now), end.Sub(now)))
		until, cancel := context.WithDeadline(ctx, end)
		k.renew(until)
		cancel()
		if !time.Now().Before(end) && ctx.Err() == nil && k.leased != nil && k.leased.CreationTime.Equal(begun) {
			k.lose("it has ended, and nobody has renewed it")
		}
	}
}

// renew renews the lease, or gets another where there is none.
func (k *keeper) renew(ctx context.Context) {
	client, err := k.client()
	if err != nil {
		k.report(fmt.Sprintf("%s: %v", k.Name, err))
		rest(ctx, askRest)
		return
	}
	defer client.Close()
	var lease *nclient4.Lease
	if k.leased != nil {
		lease, err = client.Renew(ctx, k.leased)
	} else {
		lease, err = client.Request(ctx, requested)
	}
	var refused *nclient4.ErrNak
	switch {
	case err == nil:
		k.have(lease)
	case errors.As(err, &refused) && k.leased != nil:
		k.lose("the DHCP server has withdrawn it")
	case k.leased == nil:
		rest(ctx, askRest)
	}
}

// have sets the card up as the lease says.
func (k *keeper) have(lease *nclient4.Lease) {
	before := k.Addresses
	k.leased, k.Addresses, k.Routes, k.MTU = lease, nil, nil, 0
	k.grant(lease.ACK, new(resolver))
	if slices.Equal(before, k.Addresses) {
		return
	}
	k.remove(before)
	if err := k.set(); err != nil {
		k.report(fmt.Sprintf("%s: %v", k.Name, err))
	}
	k.report(fmt.Sprintf("%s: DHCP has given the address %s", k.Name, k.Addresses[0]))
}

// lose takes the address from the card.
func (k *keeper) lose(why string) {
	k.report(fmt.Sprintf("%s: the lease of %s is lost: %s", k.Name, k.Addresses[0], why))
	k.remove(k.Addresses)
	k.leased, k.Addresses = nil, nil
}

func (k *keeper) remove(addresses []netip.Prefix) {
	for _, p := range addresses {
		if err := netlink.AddrDel(k.device, &netlink.Addr{IPNet: ipNet(p)}); err != nil {
			k.report(fmt.Sprintf("%s: address %s: %v", k.Name, p, err))
		}
	}
}

func rest(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
