// Package cloud logs in to the OpenStack that Slipway is configured to belong to.
package cloud

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	gopherstack "github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/config/clouds"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/projects"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"

	"github.com/slipway-vm/slipway/cmd/internal/config"
	"github.com/slipway-vm/slipway/images/glance"
	"github.com/slipway-vm/slipway/launcher/network/neutron"
)

// Cloud is that OpenStack, logged in to when it is first needed: it may come up later
// than the engine.
type Cloud struct {
	// IdentityURL is where Keystone is, with its version.
	IdentityURL string
	// Region is where Slipway's own user is at home; may be empty.
	Region string

	options gophercloud.AuthOptions
	agent   string
	http    http.Client

	mu       sync.Mutex
	provider *gophercloud.ProviderClient
}

// Open reads as whom Slipway logs in; nil where it belongs to no cloud. The agent is
// what its requests say that it is.
func Open(cfg *config.Config, agent string) (*Cloud, error) {
	if cfg.Identity.URL == "" && cfg.Image.URL == "" && cfg.Network.URL == "" {
		return nil, nil
	}
	choose := []clouds.ParseOption{clouds.WithCloudName(cfg.Cloud.Name)}
	if cfg.Cloud.File != "" {
		choose = append(choose, clouds.WithLocations(cfg.Cloud.File))
	}
	options, endpoint, tlsConfig, err := clouds.Parse(choose...)
	if err != nil {
		return nil, fmt.Errorf("cloud.name, cloud.file: %w", err)
	}
	options.AllowReauth = true
	if cfg.Identity.URL != "" {
		options.IdentityEndpoint = cfg.Identity.URL
	}
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:       tlsConfig,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 2 * time.Minute, // Glance answers when it has put data away
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       time.Minute,
		DisableCompression:    true,
		ForceAttemptHTTP2:     true,
	}
	return &Cloud{
		IdentityURL: identityV3(options.IdentityEndpoint), Region: endpoint.Region,
		options: options, agent: agent, http: http.Client{Transport: transport},
	}, nil
}

// identityV3 is the URL of the one version of Keystone's that there is.
func identityV3(url string) string {
	return strings.TrimSuffix(strings.TrimRight(url, "/"), "/v3") + "/v3"
}

// Login gives the client of Slipway's own user. Its token is renewed by itself.
func (c *Cloud) Login(ctx context.Context) (*gophercloud.ProviderClient, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.provider != nil {
		return c.provider, nil
	}
	p, err := gopherstack.NewClient(c.options.IdentityEndpoint)
	if err != nil {
		return nil, err
	}
	p.HTTPClient = c.http
	p.UserAgent.Prepend(c.agent)
	p.UseTokenLock()
	if err := gopherstack.Authenticate(ctx, p, c.options); err != nil {
		return nil, fmt.Errorf("log in at %s: %w", c.options.IdentityEndpoint, err)
	}
	c.provider = p
	return p, nil
}

// Project is that of Slipway's own user.
func (c *Cloud) Project(ctx context.Context) (string, error) {
	p, err := c.Login(ctx)
	if err != nil {
		return "", err
	}
	answer, ok := p.GetAuthResult().(tokens.CreateResult)
	if !ok {
		return "", errors.New("keystone's answer is none of version 3")
	}
	project, err := answer.ExtractProject()
	if err != nil {
		return "", err
	}
	if project == nil {
		return "", errors.New("cloud.name: it names no project")
	}
	return project.ID, nil
}

// Glance is the cloud's image service; nil where none is configured.
func (c *Cloud) Glance(cfg config.Image) *glance.Client {
	if c == nil || cfg.URL == "" {
		return nil
	}
	return glance.New(glance.Config{URL: cfg.URL, Login: c.Login, Project: c.Project, HTTP: c.http})
}

// Neutron is the cloud's network service; nil where none is configured.
func (c *Cloud) Neutron(cfg config.Network, host, identity string) *neutron.Client {
	if c == nil || cfg.URL == "" {
		return nil
	}
	return neutron.New(neutron.Config{URL: cfg.URL, Host: cmp.Or(cfg.Host, host), Identity: identity, Login: c.Login, Project: c.Project})
}

// Keystone is the cloud's identity service.
func (c *Cloud) Keystone(ctx context.Context) (*gophercloud.ServiceClient, error) {
	p, err := c.Login(ctx)
	if err != nil {
		return nil, err
	}
	return &gophercloud.ServiceClient{ProviderClient: p, Endpoint: c.IdentityURL + "/", Type: "identity"}, nil
}

// ProjectExists asks Keystone.
func (c *Cloud) ProjectExists(ctx context.Context, id string) (bool, error) {
	keystone, err := c.Keystone(ctx)
	if err != nil {
		return false, err
	}
	_, err = projects.Get(ctx, keystone, id).Extract()
	if gophercloud.ResponseCodeIs(err, http.StatusNotFound) {
		return false, nil
	}
	return err == nil, err
}
