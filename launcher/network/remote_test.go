package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/launchertest"
)

// cloudNet stands for a Neutron with one network, of project p.
type cloudNet struct {
	ports   map[string]Port
	vif     VIF
	created int
}

func (c *cloudNet) Project(context.Context) (string, error) { return "own", nil }

func (c *cloudNet) Networks(_ context.Context, project, ref string) ([]Network, []Subnet, error) {
	if project != "p" || ref != "" && ref != "net" && ref != "lan" {
		return nil, nil, nil
	}
	cidr := netip.MustParsePrefix("10.1.0.0/24")
	return []Network{{Base: Base{ID: "net", Project: "p", Name: "lan"}, MTU: 1450}},
		[]Subnet{{Base: Base{ID: "sub"}, Network: "net", CIDR: cidr, Gateway: cidr.Addr().Next(), Nameservers: []netip.Addr{netip.MustParseAddr("10.1.0.53")}}}, nil
}

func (c *cloudNet) Groups(_ context.Context, project string) ([]SecurityGroup, []Rule, error) {
	return []SecurityGroup{{Base: Base{ID: "g-" + project, Project: project, Name: DefaultName}}}, nil, nil
}

func (c *cloudNet) Port(_ context.Context, id string) (Port, error) {
	p, there := c.ports[id]
	if !there {
		return p, notFound("Port", id)
	}
	return p, nil
}

func (c *cloudNet) Ports(context.Context) ([]Port, error) {
	var all []Port
	for _, p := range c.ports {
		if p.Host != "" {
			all = append(all, p)
		}
	}
	return all, nil
}

func (c *cloudNet) CreatePort(_ context.Context, p Port) (Port, error) {
	c.created++
	p.ID = fmt.Sprintf("%08d-0000", c.created)
	p.MAC, p.Host, p.VIF, p.Made = "fa:16:3e:00:00:01", "here", c.vif, true
	p.FixedIPs = []FixedIP{{"sub", netip.MustParseAddr("10.1.0.7")}}
	p.Status = StatusDown
	c.ports[p.ID] = p
	return p, nil
}

func (c *cloudNet) UpdatePort(_ context.Context, _, p Port, bound bool) (Port, error) {
	p.Status = c.ports[p.ID].Status
	p.Host, p.VIF = "", VIF{Type: vifUnbound}
	if bound {
		p.Host, p.VIF = "here", c.vif
	}
	c.ports[p.ID] = p
	return p, nil
}

func (c *cloudNet) DeletePort(_ context.Context, id string) error {
	delete(c.ports, id)
	return nil
}

// Plug implements Plugger; the agent looks after the port at once.
func (c *cloudNet) Plug(_ context.Context, p Port, mtu int) error {
	if p.Tap != "tap"+p.ID[:11] || mtu != 1450 || p.VIF != c.vif {
		return fmt.Errorf("plugged %+v, MTU %d", p, mtu)
	}
	p.Status = StatusActive
	c.ports[p.ID] = p
	return nil
}

func (c *cloudNet) Unplug(_ context.Context, p Port) error {
	if there, ok := c.ports[p.ID]; ok {
		there.Status = StatusDown
		c.ports[p.ID] = there
	}
	return nil
}

func TestRemote(t *testing.T) {
	given := Port{Base: Base{ID: "99999999-9999", Project: "p"}, Network: "net", MAC: "fa:16:3e:00:00:02", FixedIPs: []FixedIP{{"sub", netip.MustParseAddr("10.1.0.9")}}}
	c := &cloudNet{ports: map[string]Port{given.ID: given}, vif: VIF{Type: VIFOVS, Bridge: "br-int"}}
	store := launchertest.NewSection()
	s, err := Open(t.Context(), Config{Store: store, Identity: "0123456789", Neutron: c, VIF: c})
	if err != nil {
		t.Fatal(err)
	}
	srv := &launcher.Server{ID: "srv", Project: "p", Spec: launcher.Spec{Name: "web", Networks: []launcher.NetworkRequest{{Network: "lan"}, {Port: given.ID}}}}
	if srv.NICs, err = s.Allocate(t.Context(), srv); err != nil || len(srv.NICs) != 2 {
		t.Fatalf("%v, %v", srv.NICs, err)
	}
	plugged, err := s.Plug(t.Context(), srv)
	if err != nil {
		t.Fatal(err)
	}
	link := plugged.Config.Links[0]
	if plugged.NICs[1].Tap != "tap99999999-99" || link.Addresses[0].String() != "10.1.0.7/24" || link.MTU != 1450 || link.Nameservers[0].String() != "10.1.0.53" {
		t.Errorf("plugged %+v, %+v", plugged.NICs, link)
	}
	if _, err := s.Attach(t.Context(), srv, launcher.NetworkRequest{Port: "nosuch"}); !errors.Is(err, launcher.ErrNotFound) {
		t.Errorf("a port that is not there: %v", err)
	}
	if err := s.Publish(t.Context(), srv, []launcher.Publish{{GuestPort: 80}}); !errors.Is(err, launcher.ErrUnsupported) {
		t.Errorf("publish: %v", err)
	}
	// Another engine finds the same, and nothing to give back.
	if s, err = Open(t.Context(), Config{Store: store, Identity: "0123456789", Neutron: c, VIF: c}); err != nil {
		t.Fatal(err)
	}
	if err := s.Reconcile(t.Context(), map[string]bool{"srv": true}); err != nil || len(s.PortsOf("srv")) != 2 || s.PortsOf("srv")[0].Tap == "" {
		t.Fatalf("%v, %v", s.PortsOf("srv"), err)
	}
	// A port that was deleted in Neutron is no more when the server boots again.
	if err := s.Unplug(t.Context(), "srv"); err != nil {
		t.Fatal(err)
	}
	delete(c.ports, s.PortsOf("srv")[0].ID)
	plugged, err = s.Plug(t.Context(), srv)
	if err != nil || len(plugged.NICs) != 1 || len(s.NICs(srv)) != 1 || plugged.NICs[0].MAC != given.MAC {
		t.Fatalf("%+v, %v", plugged, err)
	}
	if err := s.Release(t.Context(), "srv"); err != nil {
		t.Fatal(err)
	}
	if p := c.ports[given.ID]; len(c.ports) != 1 || p.Device != "" || p.Host != "" || p.Status != StatusDown || len(s.Ports(nil)) != 0 {
		t.Errorf("released: %+v, %+v", c.ports, s.Ports(nil))
	}
}

// A port that Neutron cannot bind, or was made for a server that never came to be, goes.
func TestRemoteLeavesNothing(t *testing.T) {
	c := &cloudNet{ports: map[string]Port{}, vif: VIF{Type: vifFailed}}
	s, err := Open(t.Context(), Config{Store: launchertest.NewSection(), Identity: "0123456789", Neutron: c, VIF: c})
	if err != nil {
		t.Fatal(err)
	}
	for want, requests := range map[string][]launcher.NetworkRequest{
		"Binding failed for port":          {{Network: "lan"}},
		"no network with a name or ID":     {{Network: "nosuch"}},
		"Port nosuch could not be found":   {{Port: "nosuch"}},
		"Security group nosuch not found ": {{Network: "net", SecurityGroups: []string{"nosuch"}}},
	} {
		_, err := s.Allocate(t.Context(), &launcher.Server{ID: "srv", Project: "p", Spec: launcher.Spec{Networks: requests}})
		if err == nil || !strings.Contains(err.Error(), want) || len(c.ports) != 0 {
			t.Errorf("%v; want %s; Neutron has %v", err, want, c.ports)
		}
	}
	if _, err := s.Allocate(t.Context(), &launcher.Server{ID: "srv", Spec: launcher.Spec{Networks: []launcher.NetworkRequest{{Network: "lan"}}}}); err == nil {
		t.Error("a network of another project's is used")
	}
	c.ports["left"] = Port{Base: Base{ID: "left"}, Device: "gone", Host: "here", Made: true}
	if err := s.Reconcile(t.Context(), map[string]bool{}); err != nil || len(c.ports) != 0 {
		t.Errorf("%v; Neutron has %v", err, c.ports)
	}
	if _, err := s.CreateWithSubnets(t.Context(), Network{}, nil, nil); !errors.Is(err, launcher.ErrUnsupported) {
		t.Errorf("networks are made here: %v", err)
	}
	if all, err := s.Usable(t.Context(), "p"); err != nil || !slices.ContainsFunc(all, func(n Network) bool { return n.Name == "lan" }) {
		t.Errorf("%v, %v", all, err)
	}
}
