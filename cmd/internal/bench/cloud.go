package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/config"
	"github.com/gophercloud/gophercloud/v2/openstack/config/clouds"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
)

// A real OpenStack is what the benchmark of pushes to Glance needs: that of `make
// openstack`, which is started for it where it does not run, and then ended too.

// cloudScript brings it up.
const cloudScript = "etc/openstack/cloud"

// openStack is one that is up, as one of its users has it.
type openStack struct {
	clouds  string // the file of users' passwords
	user    string // a cloud in it
	glance  *gophercloud.ServiceClient
	before  map[string]bool // IDs of the images that were there
	started bool
}

// openCloud starts what is missing of a cloud: core or all.
func openCloud(ctx context.Context, o options, what, user string) (_ *openStack, err error) {
	running, err := exec.CommandContext(ctx, cloudScript, "status").Output()
	if err != nil {
		return nil, fmt.Errorf("%s status: %w", cloudScript, err)
	}
	c := &openStack{clouds: filepath.Join(o.openstack, "clouds.yaml"), user: user, started: len(bytes.TrimSpace(running)) == 0}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close(context.WithoutCancel(ctx)))
		}
	}()
	up := exec.CommandContext(ctx, cloudScript, "up", what)
	up.Stdout, up.Stderr = os.Stderr, os.Stderr
	if err := up.Run(); err != nil {
		return nil, fmt.Errorf("%s up: %w", cloudScript, err)
	}
	auth, endpoint, transport, err := clouds.Parse(clouds.WithCloudName(user), clouds.WithLocations(c.clouds))
	if err != nil {
		return nil, err
	}
	provider, err := config.NewProviderClient(ctx, auth, config.WithTLSConfig(transport))
	if err != nil {
		return nil, err
	}
	glance, err := openstack.NewImageV2(provider, endpoint)
	if err != nil {
		return nil, err
	}
	all, err := list(ctx, glance)
	if err != nil {
		return nil, err
	}
	c.before = map[string]bool{}
	for _, i := range all {
		c.before[i.ID] = true
	}
	c.glance = glance
	return c, nil
}

// list gives the images that the user sees, hidden ones too.
func list(ctx context.Context, glance *gophercloud.ServiceClient) (all []images.Image, err error) {
	for _, hidden := range []bool{false, true} {
		pages, err := images.List(glance, images.ListOpts{Hidden: hidden}).AllPages(ctx)
		if err != nil {
			return nil, err
		}
		found, err := images.ExtractImages(pages)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// clear deletes the images that were not there before.
func (c *openStack) clear(ctx context.Context) error {
	all, err := list(ctx, c.glance)
	if err != nil {
		return err
	}
	for _, i := range all {
		if !c.before[i.ID] {
			err = errors.Join(err, images.Delete(ctx, c.glance, i.ID).ExtractErr())
		}
	}
	return err
}

// close leaves the cloud as it was found.
func (c *openStack) close(ctx context.Context) (err error) {
	if c.glance != nil {
		err = c.clear(ctx)
	}
	if c.started {
		err = errors.Join(err, runCommand(ctx, cloudScript, "down"))
	}
	return err
}
