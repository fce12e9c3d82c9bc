package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api"
	"github.com/slipway-vm/slipway/launcher/api/glance"
	"github.com/slipway-vm/slipway/launcher/api/neutron"
	"github.com/slipway-vm/slipway/launcher/api/nova"
	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/catalog"
	"github.com/slipway-vm/slipway/launcher/compute"
	"github.com/slipway-vm/slipway/launcher/host"
	"github.com/slipway-vm/slipway/launcher/identity"
	"github.com/slipway-vm/slipway/launcher/metadefs"
	"github.com/slipway-vm/slipway/launcher/network"
)

// openCompute reads what stands around servers.
func (s *service) openCompute(ctx context.Context, e *engine) (err error) {
	if s.host, err = os.Hostname(); err != nil {
		return fmt.Errorf("find this host's name: %w", err)
	}
	s.compute, err = compute.Open(ctx, compute.Config{
		Store: e.store, Flavors: flavors(e.cfg), DefaultFlavor: e.cfg.Boot.Flavor,
		Servers: e.manager.Each, Images: e.manager, Glance: e.glance(), Host: s.host, Log: e.log,
	})
	if err != nil {
		return err
	}
	s.images, err = catalog.Open(ctx, catalog.Config{
		Dir: e.path("catalog"), Store: e.store.Images(), Launcher: e.manager, Referred: s.compute.Images,
		Download: catalog.Download{Hosts: e.cfg.Images.DownloadHosts}, Log: e.log,
	})
	if err != nil {
		return err
	}
	s.metadefs, err = metadefs.Open(ctx, e.store.Images())
	return err
}

// glance is a Glance that is configured, or nil.
func (e *engine) glance() compute.Glance {
	if client := e.cloud.Glance(e.cfg.Image); client != nil {
		return client
	}
	return nil
}

// computeMount is Nova.
func (s *service) computeMount(e *engine) mount {
	return mount{
		typ: "compute", name: "nova", about: "Slipway's servers",
		prefix: "/compute", version: "/v2.1", dialect: openstack.Compute, public: nova.Public,
		handler: nova.New(nova.Config{
			Manager: e.manager, Images: nova.ImagesOf(s.images), Catalog: s.images, Compute: s.compute, Networks: e.networks,
			Figures: e.figures, ProjectExists: s.projectExists, LocalProject: s.adminProject(), Host: s.host, Log: e.log,
		}),
	}
}

// imageMount is Glance.
func (s *service) imageMount(e *engine) mount {
	return mount{
		typ: "image", name: "glance", about: "Slipway's images",
		prefix: "/image", dialect: openstack.Image, public: glance.Public, uploads: true,
		handler: glance.New(glance.Config{Images: s.images, Metadefs: s.metadefs, Log: e.log}),
	}
}

// slipwayMount is what OpenStack has no word for.
func (s *service) slipwayMount(e *engine) mount {
	return mount{
		typ: "slipway", name: "slipway", about: "What else Slipway's servers can do",
		prefix: "/slipway", version: api.NetworkVersion, dialect: openstack.Slipway, public: api.NetworkPublic, uploads: true,
		handler: api.NewNetwork(api.NetworkConfig{
			Manager: e.manager, Networks: e.networks, Kernels: e.kernels, Compute: s.compute, Images: s.images,
			DefaultFlavor: e.cfg.Boot.Flavor, LocalProject: s.adminProject(), Version: version, Log: e.log,
		}),
	}
}

// networkMount is Neutron. Its clients add the version to the catalog's URL.
func (s *service) networkMount(e *engine) mount {
	return mount{
		typ: "network", name: "neutron", about: "Slipway's networks",
		prefix: "/network", dialect: openstack.Network, public: neutron.Public,
		handler: neutron.New(neutron.Config{Networks: e.networks, DeletePort: e.deletePort, LocalProject: s.adminProject(), Host: s.host, Domain: network.DefaultDomain, Log: e.log}),
	}
}

// deletePort removes a port, and its interface from the server that has it.
func (e *engine) deletePort(ctx context.Context, id string) error {
	p, err := e.networks.Port(id)
	if err == nil && p.Tap != "" {
		err = e.manager.DetachInterface(ctx, p.Device, id)
		if err == nil && p.Made {
			return nil // it has gone with its interface
		}
	}
	if err != nil {
		return err
	}
	return e.networks.DeletePort(ctx, id)
}

func (s *service) projectExists(ctx context.Context, id string) (bool, error) {
	if s.keystone != nil {
		return s.keystone.ProjectExists(ctx, id)
	}
	_, err := s.dir.Project(id)
	if errors.Is(err, launcher.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// adminProject is the ID of the first project, which the servers of the local socket
// are shown in; empty if it was deleted.
func (s *service) adminProject() string {
	if s.keystone != nil {
		return ""
	}
	for _, p := range s.dir.Projects(func(p identity.Project) bool { return p.Name == "admin" && !p.IsDomain }) {
		return p.ID
	}
	return ""
}

// figures says how large this host is, and what runs servers on it.
func (e *engine) figures(ctx context.Context) (nova.Figures, error) {
	f, err := host.ReadFigures(ctx, e.cfg.StateDir)
	if err != nil {
		return nova.Figures{}, err
	}
	version, err := e.virt.HypervisorVersion()
	return nova.Figures{Figures: f, Address: address(), Version: version}, err
}

// address is one that this host has on a network, or the loopback interface's.
func address() string {
	all, err := net.InterfaceAddrs()
	if err == nil {
		for _, a := range all {
			if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() && n.IP.To4() != nil {
				return n.IP.String()
			}
		}
	}
	return "127.0.0.1"
}
