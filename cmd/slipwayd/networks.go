package main

import (
	"context"
	"fmt"
	"os"

	"github.com/slipway-vm/slipway/launcher/network"
	"github.com/slipway-vm/slipway/launcher/network/dataplane"
	"github.com/slipway-vm/slipway/launcher/network/dns"
	"github.com/slipway-vm/slipway/launcher/network/passt"
	"github.com/slipway-vm/slipway/launcher/network/responder"
	"github.com/slipway-vm/slipway/launcher/network/vif"
)

// openNetworks opens the records of networks, and where this engine may make them,
// what makes them and answers there.
func (e *engine) openNetworks(ctx context.Context) (*responder.Responder, error) {
	answers := responder.New(responder.Config{
		Networks: func() responder.Networks { return e.networks }, MetadataPort: dataplane.MetadataPort,
		Upstream: func() []string { return dns.HostResolvers("/etc/resolv.conf") }, Log: e.log,
	})
	plane := dataplane.New(dataplane.Config{Identity: identityOf(e.cfg), Log: e.log})
	cfg := network.Config{
		Store: e.store.Networks(), Identity: identityOf(e.cfg), HostPrefixes: dataplane.HostPrefixes,
		Plane: plane, Ports: plane, Responder: answers, Log: e.log,
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("find this host's name: %w", err)
	}
	if client := e.cloud.Neutron(e.cfg.Network, host, identityOf(e.cfg)); client != nil {
		cfg.Neutron, cfg.Responder = client, nil
		cfg.VIF = vif.New(vif.Config{Identity: identityOf(e.cfg), OVSDB: e.cfg.Network.OVSDB})
	}
	if e.networks, err = network.Open(ctx, cfg); err != nil {
		return nil, err
	}
	e.onClose(e.networks.Close)
	e.hostUser = passt.New(plane)
	return answers, nil
}
