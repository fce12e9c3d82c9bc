package neutron

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/portsbinding"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/portsecurity"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"

	"github.com/slipway-vm/slipway/launcher/network"
)

// mark is the key of a port's binding profile that says whose it is.
const mark = "slipway"

// port is a port with what extensions say of it.
type port struct {
	ports.Port
	portsbinding.PortsBindingExt
	portsecurity.PortSecurityExt
}

func (c *Client) view(p *port) (network.Port, error) {
	v := network.Port{
		Base:    network.Base{ID: p.ID, Project: p.ProjectID, Name: p.Name, Description: p.Description, Tags: p.Tags, Created: p.CreatedAt, Updated: p.UpdatedAt, Revision: p.RevisionNumber},
		Network: p.NetworkID, MAC: p.MACAddress, SecurityGroups: p.SecurityGroups, NoPortSecurity: !p.PortSecurityEnabled,
		Device: p.DeviceID, Owner: p.DeviceOwner, Down: !p.AdminStateUp, Status: network.Status(p.Status),
		Host: p.HostID, VNICType: p.VNICType, Profile: p.Profile,
	}
	for _, f := range p.FixedIPs {
		ip, err := netip.ParseAddr(f.IPAddress)
		if err != nil {
			return v, fmt.Errorf("port %s: %w", p.ID, err)
		}
		v.FixedIPs = append(v.FixedIPs, network.FixedIP{Subnet: f.SubnetID, IP: ip})
	}
	v.VIF = network.VIF{Type: p.VIFType}
	v.VIF.Bridge, _ = p.VIFDetails["bridge_name"].(string)
	v.VIF.Hybrid, _ = p.VIFDetails["ovs_hybrid_plug"].(bool)
	if v.VIF.Type == network.VIFBridge && v.VIF.Bridge == "" {
		v.VIF.Bridge = "brq" + p.NetworkID[:11]
	}
	// Who else made it binding:profile's owner is told apart by the mark.
	v.Made = p.Profile[mark] == c.cfg.Identity+" made"
	return v, nil
}

// profile is a port's binding profile with the mark of this state directory.
func (c *Client) profile(p *network.Port, made bool) map[string]any {
	all := map[string]any{}
	for k, v := range p.Profile {
		all[k] = v
	}
	all[mark] = c.cfg.Identity
	if made {
		all[mark] = c.cfg.Identity + " made"
	}
	return all
}

// Port implements network.Neutron.
func (c *Client) Port(ctx context.Context, id string) (network.Port, error) {
	service, err := c.service(ctx)
	if err != nil {
		return network.Port{}, err
	}
	var p port
	if err := ports.Get(ctx, service, id).ExtractInto(&p); err != nil {
		return network.Port{}, told(err)
	}
	return c.view(&p)
}

// Ports implements network.Neutron.
func (c *Client) Ports(ctx context.Context) ([]network.Port, error) {
	service, err := c.service(ctx)
	if err != nil {
		return nil, err
	}
	pages, err := ports.List(service, ports.ListOpts{DeviceOwner: network.OwnerServer}).AllPages(ctx)
	if err != nil {
		return nil, told(err)
	}
	var all []port
	if err := ports.ExtractPortsInto(pages, &all); err != nil {
		return nil, err
	}
	var list []network.Port
	for i := range all {
		text, _ := all[i].Profile[mark].(string)
		if all[i].HostID != c.cfg.Host || text != c.cfg.Identity && text != c.cfg.Identity+" made" {
			continue
		}
		p, err := c.view(&all[i])
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}

// fixed are addresses as a request names them.
func fixed(all []network.FixedIP) []map[string]string {
	list := []map[string]string{}
	for _, f := range all {
		one := map[string]string{}
		if f.Subnet != "" {
			one["subnet_id"] = f.Subnet
		}
		if f.IP.IsValid() {
			one["ip_address"] = f.IP.String()
		}
		list = append(list, one)
	}
	return list
}

// CreatePort implements network.Neutron.
func (c *Client) CreatePort(ctx context.Context, p network.Port) (network.Port, error) {
	service, err := c.service(ctx)
	if err != nil {
		return network.Port{}, err
	}
	opts := ports.CreateOpts{
		NetworkID: p.Network, ProjectID: p.Project, MACAddress: p.MAC, DeviceID: p.Device, DeviceOwner: p.Owner,
	}
	if p.FixedIPs != nil {
		opts.FixedIPs = fixed(p.FixedIPs)
	}
	if p.SecurityGroups != nil {
		opts.SecurityGroups = &p.SecurityGroups
	}
	var made port
	err = ports.Create(ctx, service, portsbinding.CreateOptsExt{
		CreateOptsBuilder: opts, HostID: c.cfg.Host, Profile: c.profile(&p, true),
	}).ExtractInto(&made)
	if err != nil {
		return network.Port{}, told(err)
	}
	return c.view(&made)
}

// UpdatePort implements network.Neutron.
func (c *Client) UpdatePort(ctx context.Context, old, p network.Port, bound bool) (network.Port, error) {
	service, err := c.service(ctx)
	if err != nil {
		return network.Port{}, err
	}
	opts := ports.UpdateOpts{}
	if p.Device != old.Device {
		opts.DeviceID, opts.DeviceOwner = &p.Device, &p.Owner
	}
	if !equal(p.SecurityGroups, old.SecurityGroups) {
		opts.SecurityGroups = &p.SecurityGroups
	}
	if !slices.Equal(p.FixedIPs, old.FixedIPs) {
		opts.FixedIPs = fixed(p.FixedIPs)
	}
	binding := portsbinding.UpdateOptsExt{UpdateOptsBuilder: opts}
	if host := map[bool]string{true: c.cfg.Host}[bound]; host != old.Host {
		binding.HostID, binding.Profile = &host, map[string]any{}
		if bound {
			binding.Profile = c.profile(&p, false)
		}
	}
	var changed port
	if err := ports.Update(ctx, service, p.ID, binding).ExtractInto(&changed); err != nil {
		return network.Port{}, told(err)
	}
	return c.view(&changed)
}

// DeletePort implements network.Neutron.
func (c *Client) DeletePort(ctx context.Context, id string) error {
	service, err := c.service(ctx)
	if err != nil {
		return err
	}
	if err := ports.Delete(ctx, service, id).ExtractErr(); err != nil && !gophercloud.ResponseCodeIs(err, 404) {
		return told(err)
	}
	return nil
}
