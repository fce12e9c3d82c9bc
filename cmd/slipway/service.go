package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/endpoints"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/regions"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/services"
	"github.com/spf13/cobra"

	"github.com/slipway-vm/slipway/cmd/internal/cloud"
)

func (c *cli) service() *cobra.Command {
	return group("service", "Offer Slipway in an OpenStack's catalog", c.serviceRegister(), c.serviceDeregister())
}

func (c *cli) serviceRegister() *cobra.Command {
	var region, at string
	cmd := &cobra.Command{
		Use: "register", Short: "Put Slipway's services into Keystone's catalog",
		Long: `Put Slipway's services into the catalog of the Keystone of the configuration
(identity.url), for its users to find. What is there already stays.

A region has one service of a type. Where Nova serves a region already, Slipway
takes another (--region), which gets the endpoints of Keystone, Glance and Neutron too.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := c.registrar(cmd.Context(), region)
			if err != nil {
				return err
			}
			all, err := r.offered(cmd.Context(), cmp.Or(at, c.serviceURL()))
			if err != nil {
				return err
			}
			return r.register(cmd, all)
		},
	}
	cmd.Flags().StringVar(&region, "region", "", "`region` of the catalog (default: that of cloud.name, else RegionOne)")
	cmd.Flags().StringVar(&at, "url", "", "where clients reach Slipway (default: api.public_url, else api.listen)")
	return cmd
}

func (c *cli) serviceDeregister() *cobra.Command {
	var region string
	cmd := &cobra.Command{
		Use: "deregister", Short: "Take Slipway's services out of Keystone's catalog", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := c.registrar(cmd.Context(), region)
			if err != nil {
				return err
			}
			return r.deregister(cmd)
		},
	}
	cmd.Flags().StringVar(&region, "region", "", "`region` of the catalog (default: that of cloud.name, else RegionOne)")
	return cmd
}

// serviceURL is where the configuration says that the network service is.
func (c *cli) serviceURL() string {
	if c.cfg.API.PublicURL != "" {
		return c.cfg.API.PublicURL
	}
	host, port, err := net.SplitHostPort(c.cfg.API.Listen)
	if err != nil {
		return ""
	}
	if ip := net.ParseIP(host); host == "" || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	scheme := "http"
	if c.cfg.API.TLSCert != "" {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

// registrar works on one region of a catalog.
type registrar struct {
	keystone  *gophercloud.ServiceClient
	region    string
	image     string // Glance's URL, or empty
	network   string // Neutron's, likewise
	services  []services.Service
	endpoints []endpoints.Endpoint // of all regions
}

func (c *cli) registrar(ctx context.Context, region string) (*registrar, error) {
	if c.cfg.Identity.URL == "" {
		return nil, errors.New("no Keystone is configured: set identity.url and cloud.name")
	}
	home, err := cloud.Open(c.cfg, "slipway/"+version)
	if err != nil {
		return nil, err
	}
	r := &registrar{region: cmp.Or(region, home.Region, "RegionOne"), image: c.cfg.Image.URL, network: c.cfg.Network.URL}
	if r.keystone, err = home.Keystone(ctx); err != nil {
		return nil, err
	}
	pages, err := services.List(r.keystone, services.ListOpts{}).AllPages(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the services of the catalog: %w", err)
	}
	if r.services, err = services.ExtractServices(pages); err != nil {
		return nil, err
	}
	if pages, err = endpoints.List(r.keystone, endpoints.ListOpts{}).AllPages(ctx); err != nil {
		return nil, fmt.Errorf("list the endpoints of the catalog: %w", err)
	}
	r.endpoints, err = endpoints.ExtractEndpoints(pages)
	return r, err
}

// offer is one service as Slipway lists it.
type offer struct {
	Type string `json:"type"`
	Name string `json:"name"`
	URL  string `json:"url"`
}

// offered asks Slipway itself what it offers, which shows that it is there.
func (r *registrar) offered(ctx context.Context, at string) ([]offer, error) {
	if at == "" {
		return nil, errors.New("where is Slipway's service? set api.listen or api.public_url, or give --url")
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(at, "/")+"/", nil)
	if err != nil {
		return nil, fmt.Errorf("--url %s: %w", at, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		var uerr *url.Error
		if errors.As(err, &uerr) {
			err = uerr.Err
		}
		return nil, fmt.Errorf("no Slipway answers at %s: start slipwayd first, or give --url: %w", at, err)
	}
	defer resp.Body.Close()
	var index struct {
		Slipway  string  `json:"slipway"`
		Services []offer `json:"services"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&index); err != nil || index.Slipway == "" {
		return nil, fmt.Errorf("what answers at %s is not Slipway: give --url", at)
	}
	// These are the cloud's own; a region of Slipway's has them too.
	all := slices.DeleteFunc(index.Services, func(o offer) bool { return o.Type == "identity" || r.image != "" && o.Type == "image" })
	if r.at("identity") == "" {
		all = append(all, offer{"identity", "keystone", strings.TrimSuffix(r.keystone.Endpoint, "/")})
	}
	if r.at("image") == "" && r.image != "" {
		all = append(all, offer{"image", "glance", r.image})
	}
	if r.at("network") == "" && r.network != "" {
		all = append(all, offer{"network", "neutron", r.network})
	}
	return all, nil
}

// ours names the services that are made here, and tells them from others when they go.
const ours = "slipway"

// at is where the region's service of a type is; empty where there is none.
func (r *registrar) at(typ string) string {
	for _, s := range r.services {
		for _, e := range r.endpoints {
			if s.Type == typ && e.ServiceID == s.ID && e.Region == r.region && e.Availability == gophercloud.AvailabilityPublic {
				return e.URL
			}
		}
	}
	return ""
}

func (r *registrar) register(cmd *cobra.Command, all []offer) error {
	for _, o := range all {
		if there := r.at(o.Type); there != "" && there != o.URL {
			return fmt.Errorf("region %s has a service of type %s at %s: give another --region, or deregister that one", r.region, o.Type, there)
		}
	}
	err := regions.Create(cmd.Context(), r.keystone, regions.CreateOpts{ID: r.region}).Err
	if err != nil && !gophercloud.ResponseCodeIs(err, http.StatusConflict) {
		return fmt.Errorf("make region %s: %w", r.region, err)
	}
	for _, o := range all {
		if r.at(o.Type) == o.URL {
			fmt.Fprintf(cmd.OutOrStdout(), "%s in %s is %s already\n", o.Type, r.region, o.URL)
			continue
		}
		if err := r.add(cmd.Context(), o); err != nil {
			return fmt.Errorf("register %s: %w", o.Type, err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s in %s is %s\n", o.Type, r.region, o.URL)
	}
	return nil
}

// add makes the endpoints of a service, and that if need be.
func (r *registrar) add(ctx context.Context, o offer) error {
	n := slices.IndexFunc(r.services, func(s services.Service) bool {
		name, _ := s.Extra["name"].(string)
		return s.Type == o.Type && name == ours
	})
	if n < 0 {
		s, err := services.Create(ctx, r.keystone, services.CreateOpts{
			Type: o.Type, Extra: map[string]any{"name": ours, "description": "Slipway: OCI images as micro-VMs"},
		}).Extract()
		if err != nil {
			return err
		}
		r.services, n = append(r.services, *s), len(r.services)
	}
	for _, interf := range []gophercloud.Availability{gophercloud.AvailabilityPublic, gophercloud.AvailabilityInternal, gophercloud.AvailabilityAdmin} {
		e, err := endpoints.Create(ctx, r.keystone, endpoints.CreateOpts{
			Availability: interf, Name: r.services[n].Type, Region: r.region, URL: o.URL, ServiceID: r.services[n].ID,
		}).Extract()
		if err != nil {
			return err
		}
		r.endpoints = append(r.endpoints, *e)
	}
	return nil
}

// deregister removes the region's endpoints of our services, and those services once
// they have none.
func (r *registrar) deregister(cmd *cobra.Command) error {
	found := false
	for _, s := range r.services {
		if name, _ := s.Extra["name"].(string); name != ours {
			continue
		}
		gone, err := r.remove(cmd.Context(), func(e endpoints.Endpoint) bool { return e.ServiceID == s.ID && e.Region == r.region })
		if err != nil {
			return fmt.Errorf("deregister %s: %w", s.Type, err)
		}
		found = found || gone
		if slices.ContainsFunc(r.endpoints, func(e endpoints.Endpoint) bool { return e.ServiceID == s.ID }) {
			continue
		}
		if err := services.Delete(cmd.Context(), r.keystone, s.ID).ExtractErr(); err != nil {
			return fmt.Errorf("deregister %s: %w", s.Type, err)
		}
	}
	if !found {
		return fmt.Errorf("Slipway is not in the catalog of region %s", r.region) //nolint:staticcheck // a name
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s has no services of Slipway's any more\n", r.region)
	return nil
}

// remove deletes the endpoints that match, and says whether there were any.
func (r *registrar) remove(ctx context.Context, match func(endpoints.Endpoint) bool) (bool, error) {
	var kept []endpoints.Endpoint
	for _, e := range r.endpoints {
		if !match(e) {
			kept = append(kept, e)
			continue
		}
		if err := endpoints.Delete(ctx, r.keystone, e.ID).ExtractErr(); err != nil {
			return false, err
		}
	}
	gone := len(kept) < len(r.endpoints)
	r.endpoints = kept
	return gone, nil
}
