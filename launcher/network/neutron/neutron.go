package neutron

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/dns"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/external"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/mtu"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/portsecurity"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/rbacpolicies"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/groups"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/network"
)

// Config says how the service is reached.
type Config struct {
	URL string // of the service: http://127.0.0.1:9696
	// Host is what this host is called in Neutron, whose agents report it.
	Host string
	// Identity marks the ports of this state directory.
	Identity string
	// Login gives a client that is logged in as Slipway's own user.
	Login func(context.Context) (*gophercloud.ProviderClient, error)
	// Project is that of Slipway's own user.
	Project func(context.Context) (string, error)
}

// Client speaks to one network service. It implements network.Neutron.
type Client struct{ cfg Config }

// New makes a client. It connects when it is first used.
func New(cfg Config) *Client {
	cfg.URL = strings.TrimRight(strings.TrimSuffix(strings.TrimRight(cfg.URL, "/"), "/v2.0"), "/") + "/"
	return &Client{cfg}
}

func (c *Client) service(ctx context.Context) (*gophercloud.ServiceClient, error) {
	provider, err := c.cfg.Login(ctx)
	if err != nil {
		return nil, err
	}
	return &gophercloud.ServiceClient{ProviderClient: provider, Endpoint: c.cfg.URL, ResourceBase: c.cfg.URL + "v2.0/", Type: "network"}, nil
}

// Project implements network.Neutron.
func (c *Client) Project(ctx context.Context) (string, error) { return c.cfg.Project(ctx) }

// found is a network with what extensions say of it.
type found struct {
	networks.Network
	external.NetworkExternalExt
	mtu.NetworkMTUExt
	dns.NetworkDNSExt
	portsecurity.PortSecurityExt
}

// Networks implements network.Neutron.
func (c *Client) Networks(ctx context.Context, project, ref string) ([]network.Network, []network.Subnet, error) {
	service, err := c.service(ctx)
	if err != nil {
		return nil, nil, err
	}
	all, err := listNetworks(ctx, service, ref)
	if err != nil {
		return nil, nil, told(err)
	}
	given, err := givenTo(ctx, service, project)
	if err != nil {
		return nil, nil, told(err)
	}
	var list []network.Network
	var parts []network.Subnet
	for _, n := range all {
		if n.ProjectID != project && !n.Shared && !n.External && !given[n.ID] {
			continue
		}
		list = append(list, viewNetwork(n))
		subs, err := subnetsOf(ctx, service, n.ID)
		if err != nil {
			return nil, nil, told(err)
		}
		parts = append(parts, subs...)
	}
	return list, parts, nil
}

// listNetworks finds networks by ID or else by name.
func listNetworks(ctx context.Context, service *gophercloud.ServiceClient, ref string) ([]found, error) {
	asked := []networks.ListOpts{{}}
	if ref != "" {
		asked = []networks.ListOpts{{ID: ref}, {Name: ref}}
	}
	for _, opts := range asked {
		pages, err := networks.List(service, opts).AllPages(ctx)
		if err != nil {
			return nil, err
		}
		var all []found
		if err := networks.ExtractNetworksInto(pages, &all); err != nil || len(all) > 0 {
			return all, err
		}
	}
	return nil, nil
}

// givenTo are the networks of other projects that one may use.
func givenTo(ctx context.Context, service *gophercloud.ServiceClient, project string) (map[string]bool, error) {
	pages, err := rbacpolicies.List(service, rbacpolicies.ListOpts{
		ObjectType: "network", Action: rbacpolicies.ActionAccessShared, TargetTenant: project,
	}).AllPages(ctx)
	if err != nil {
		return nil, err
	}
	policies, err := rbacpolicies.ExtractRBACPolicies(pages)
	if err != nil {
		return nil, err
	}
	given := map[string]bool{}
	for _, p := range policies {
		given[p.ObjectID] = true
	}
	return given, nil
}

func viewNetwork(n found) network.Network {
	return network.Network{
		Base: network.Base{ID: n.ID, Project: n.ProjectID, Name: n.Name, Description: n.Description, Tags: n.Tags, Created: n.CreatedAt, Updated: n.UpdatedAt, Revision: n.RevisionNumber},
		MTU:  n.MTU, Shared: n.Shared, External: n.External, Down: !n.AdminStateUp,
		NoPortSecurity: !n.PortSecurityEnabled, DNSDomain: strings.TrimSuffix(n.DNSDomain, "."),
	}
}

func subnetsOf(ctx context.Context, service *gophercloud.ServiceClient, id string) ([]network.Subnet, error) {
	pages, err := subnets.List(service, subnets.ListOpts{NetworkID: id}).AllPages(ctx)
	if err != nil {
		return nil, err
	}
	all, err := subnets.ExtractSubnets(pages)
	if err != nil {
		return nil, err
	}
	var list []network.Subnet
	for i := range all {
		v, err := viewSubnet(&all[i])
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

// Groups implements network.Neutron. (Asked for those of a project, Neutron makes its
// default one where it is not there yet.)
func (c *Client) Groups(ctx context.Context, project string) ([]network.SecurityGroup, []network.Rule, error) {
	service, err := c.service(ctx)
	if err != nil {
		return nil, nil, err
	}
	pages, err := groups.List(service, groups.ListOpts{ProjectID: project}).AllPages(ctx)
	if err != nil {
		return nil, nil, told(err)
	}
	all, err := groups.ExtractGroups(pages)
	if err != nil {
		return nil, nil, err
	}
	var list []network.SecurityGroup
	var parts []network.Rule
	for i := range all {
		g := &all[i]
		list = append(list, network.SecurityGroup{
			Base:      network.Base{ID: g.ID, Project: g.ProjectID, Name: g.Name, Description: g.Description, Created: g.CreatedAt, Updated: g.UpdatedAt, Revision: g.RevisionNumber},
			Stateless: !g.Stateful,
		})
		for j := range g.Rules {
			r, err := viewRule(&g.Rules[j])
			if err != nil {
				return nil, nil, err
			}
			parts = append(parts, r)
		}
	}
	return list, parts, nil
}

// told turns an answer of Neutron's into an error of the launcher's kinds, with its own
// words.
func told(err error) error {
	var code gophercloud.ErrUnexpectedResponseCode
	if !errors.As(err, &code) {
		return err
	}
	kinds := map[int]error{
		http.StatusBadRequest: launcher.ErrInvalid, http.StatusForbidden: launcher.ErrForbidden,
		http.StatusNotFound: launcher.ErrNotFound, http.StatusConflict: launcher.ErrConflict,
		http.StatusServiceUnavailable: launcher.ErrUnavailable,
	}
	kind, known := kinds[code.Actual]
	if !known {
		return err
	}
	var body struct {
		Error struct {
			Message string `json:"message"`
		} `json:"NeutronError"`
	}
	text := strings.TrimSpace(string(code.Body))
	if json.Unmarshal(code.Body, &body) == nil && body.Error.Message != "" {
		text = body.Error.Message
	}
	return launcher.Errorf(kind, "%s", text)
}

// equal compares lists whose order means nothing.
func equal(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(a, b)
}
