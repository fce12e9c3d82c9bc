package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/config"
	"github.com/gophercloud/gophercloud/v2/openstack/config/clouds"
	"github.com/spf13/cobra"

	"github.com/slipway-vm/slipway/launcher/client"
)

// localOnly annotates commands that are about this host's own engine.
const localOnly = "local"

// local makes a command one for the engine of this host alone.
func local(cmd *cobra.Command) *cobra.Command {
	cmd.Annotations = map[string]string{localOnly: "true"}
	return cmd
}

// remote reports whether commands are for a cloud's service: --os-cloud, or the
// openstack client's variables, unless a state directory is named as well.
func (c *cli) remote(cmd *cobra.Command) bool {
	if c.cloud != "" {
		return true
	}
	if f := cmd.Flags().Lookup("cloud"); f != nil && f.Changed {
		return false // this host's engine makes what that cloud gets
	}
	return !cmd.Flags().Changed("state-dir") && (os.Getenv("OS_CLOUD") != "" || os.Getenv("OS_AUTH_URL") != "")
}

// refuseRemote refuses what only an engine of this host can do.
func refuseRemote(cmd *cobra.Command) error {
	for at := cmd; at != nil; at = at.Parent() {
		if at.Annotations[localOnly] != "" {
			return fmt.Errorf("%q is for the engine of this host, not for a cloud's service: give --state-dir, or unset OS_CLOUD and OS_AUTH_URL", cmd.CommandPath())
		}
	}
	return nil
}

// session is a login to a cloud.
type session struct {
	*gophercloud.ProviderClient
	endpoint gophercloud.EndpointOpts
}

// login gets a token from the cloud that is named; empty: from that of the environment.
func login(ctx context.Context, cloud string) (*session, error) {
	auth, endpoint, transport, err := cloudCredentials(cloud)
	if err != nil {
		return nil, err
	}
	auth.AllowReauth = auth.TokenID == ""
	provider, err := config.NewProviderClient(ctx, auth, config.WithTLSConfig(transport))
	if err != nil {
		return nil, fmt.Errorf("log in at %s: %w", auth.IdentityEndpoint, plainly(err))
	}
	provider.UserAgent.Prepend("slipway/" + version)
	return &session{provider, endpoint}, nil
}

// cloudCredentials are those of a cloud of clouds.yaml, or of the environment.
func cloudCredentials(cloud string) (gophercloud.AuthOptions, gophercloud.EndpointOpts, *tls.Config, error) {
	if cloud = cmp.Or(cloud, os.Getenv("OS_CLOUD")); cloud != "" {
		return clouds.Parse(clouds.WithCloudName(cloud))
	}
	return environmentCredentials(os.Getenv)
}

// environmentCredentials reads the openstack client's variables. The user's domain
// and the project's may differ.
func environmentCredentials(env func(string) string) (auth gophercloud.AuthOptions, endpoint gophercloud.EndpointOpts, transport *tls.Config, err error) {
	first := func(names ...string) string {
		for _, name := range names {
			if v := env(name); v != "" {
				return v
			}
		}
		return ""
	}
	auth = gophercloud.AuthOptions{
		IdentityEndpoint: env("OS_AUTH_URL"),
		Username:         env("OS_USERNAME"), UserID: env("OS_USER_ID"), Password: env("OS_PASSWORD"), Passcode: env("OS_PASSCODE"),
		TokenID:                     first("OS_TOKEN", "OS_AUTH_TOKEN"),
		ApplicationCredentialID:     env("OS_APPLICATION_CREDENTIAL_ID"),
		ApplicationCredentialName:   env("OS_APPLICATION_CREDENTIAL_NAME"),
		ApplicationCredentialSecret: env("OS_APPLICATION_CREDENTIAL_SECRET"),
	}
	if auth.UserID == "" && (auth.Username != "" || auth.ApplicationCredentialName != "") {
		if auth.DomainID = first("OS_USER_DOMAIN_ID", "OS_DOMAIN_ID", "OS_DEFAULT_DOMAIN"); auth.DomainID == "" {
			auth.DomainName = first("OS_USER_DOMAIN_NAME", "OS_DOMAIN_NAME")
		}
	}
	if auth.ApplicationCredentialSecret == "" {
		scope := &gophercloud.AuthScope{ProjectID: first("OS_PROJECT_ID", "OS_TENANT_ID")}
		if scope.ProjectID == "" {
			scope.ProjectName = first("OS_PROJECT_NAME", "OS_TENANT_NAME")
			if scope.DomainID = first("OS_PROJECT_DOMAIN_ID", "OS_DOMAIN_ID", "OS_DEFAULT_DOMAIN"); scope.DomainID == "" {
				scope.DomainName = first("OS_PROJECT_DOMAIN_NAME", "OS_DOMAIN_NAME")
			}
		}
		if scope.ProjectID == "" && scope.ProjectName == "" {
			return auth, endpoint, nil, errors.New("no project is named: set OS_PROJECT_NAME, or name a cloud of clouds.yaml by --os-cloud")
		}
		auth.Scope = scope
	}
	endpoint = gophercloud.EndpointOpts{Region: env("OS_REGION_NAME"), Availability: availability(first("OS_INTERFACE", "OS_ENDPOINT_TYPE"))}
	transport, err = environmentTLS(env)
	return auth, endpoint, transport, err
}

func availability(name string) gophercloud.Availability {
	switch name {
	case "internal", "internalURL":
		return gophercloud.AvailabilityInternal
	case "admin", "adminURL":
		return gophercloud.AvailabilityAdmin
	}
	return gophercloud.AvailabilityPublic
}

func environmentTLS(env func(string) string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if s := env("OS_INSECURE"); s != "" {
		insecure, err := strconv.ParseBool(s)
		if err != nil {
			return nil, fmt.Errorf("OS_INSECURE: %q is neither true nor false", s)
		}
		c.InsecureSkipVerify = insecure // whoever sets the variable asks for it
	}
	if file := env("OS_CACERT"); file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("OS_CACERT: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("OS_CACERT: there is no certificate in %s", file)
		}
	}
	return c, nil
}

// service makes a client of Slipway's own API in the cloud.
func (s *session) service() (*client.Client, error) {
	opts := s.endpoint
	opts.ApplyDefaults("slipway")
	url, err := s.EndpointLocator(opts)
	if err != nil {
		return nil, fmt.Errorf("the cloud at %s has no service of type slipway: %w", s.IdentityEndpoint, plainly(err))
	}
	return client.NewRemote(url, &http.Client{Transport: authenticated{s.ProviderClient}}), nil
}

// authenticated sends requests with the session's token, and gets another when that
// has expired.
type authenticated struct{ provider *gophercloud.ProviderClient }

func (a authenticated) RoundTrip(r *http.Request) (*http.Response, error) {
	transport := a.provider.HTTPClient.Transport
	if transport == nil {
		transport = http.DefaultTransport
	}
	send := func() (*http.Response, string, error) {
		token := a.provider.Token()
		r = r.Clone(r.Context())
		r.Header.Set("X-Auth-Token", token)
		r.Header.Set("User-Agent", a.provider.UserAgent.Join())
		resp, err := transport.RoundTrip(r)
		return resp, token, err
	}
	resp, token, err := send()
	again := r.Body == nil || r.Body == http.NoBody || r.GetBody != nil
	if err != nil || resp.StatusCode != http.StatusUnauthorized || a.provider.ReauthFunc == nil || !again {
		return resp, err
	}
	_ = resp.Body.Close()
	if err := a.provider.Reauthenticate(r.Context(), token); err != nil {
		return nil, fmt.Errorf("log in again: %w", plainly(err))
	}
	if r.GetBody != nil {
		if r.Body, err = r.GetBody(); err != nil {
			return nil, err
		}
	}
	resp, _, err = send()
	return resp, err
}

// plainly leaves of an answer's error what was said to the user.
func plainly(err error) error {
	var answered gophercloud.ErrUnexpectedResponseCode
	if !errors.As(err, &answered) {
		return err
	}
	if message := faultMessage(answered.Body); message != "" {
		return fmt.Errorf("%s (HTTP %d)", message, answered.Actual)
	}
	return fmt.Errorf("HTTP %d: %s", answered.Actual, answered.Body)
}
