package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/flavors"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/keypairs"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/slipway-vm/slipway/images/glance"
	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api"
	"github.com/slipway-vm/slipway/launcher/client"
	"github.com/slipway-vm/slipway/rootfs/disk"
)

// cloudFlags are those of a boot on an OpenStack's Nova.
type cloudFlags struct {
	name, layout, keyName string
	noDrive               bool // asked for
}

func (o *cloudFlags) add(f *pflag.FlagSet) {
	f.StringVar(&o.name, "cloud", "", "`cloud` of clouds.yaml whose Nova boots the image, as a disk that is uploaded if it is not there")
	f.StringVar(&o.layout, "layout", string(disk.LayoutBoth), "with --cloud: firmware that boots the disk: bios, uefi, both, or none: kernel and ramdisk are images beside it")
	f.StringVar(&o.keyName, "key-name", "", "with --cloud: key pair to put into the server")
}

// notOnCloud are flags that only this host's engine can honour.
var notOnCloud = []string{
	"vcpus", "memory", "disk", "volume", "root", "interactive", "log-opt", "publish", "seed-disk", "preload", "base-vm-image", "detach-keys", "timeline",
}

func (o *cloudFlags) check(f *pflag.FlagSet) error {
	o.noDrive = f.Changed("config-drive")
	if o.name == "" {
		for _, name := range []string{"layout", "key-name"} {
			if f.Changed(name) {
				return fmt.Errorf("--%s is for a cloud's Nova: name one by --cloud", name)
			}
		}
		return nil
	}
	for _, name := range notOnCloud {
		if f.Changed(name) {
			return fmt.Errorf("--%s is for this host's engine: a server of --cloud has what its flavor and its cloud give it", name)
		}
	}
	return nil
}

// novaBoot boots an image on a Nova.
type novaBoot struct {
	*bootFlags
	session *session
	compute *gophercloud.ServiceClient
	show    *progress
	id      string // of the server
}

// bootOnCloud exports the image, uploads it where it is not there, has Nova boot it and
// stays with it.
func (b *bootFlags) bootOnCloud(cmd *cobra.Command, engine *client.Client) error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	ctx, cancel := context.WithCancelCause(cmd.Context())
	defer cancel(nil)
	s, err := login(ctx, b.on.name)
	if err != nil {
		return err
	}
	n := &novaBoot{bootFlags: b, session: s, show: newProgress(os.Stderr, b.progress)}
	defer n.show.done()
	if n.compute, err = openstack.NewComputeV2(s.ProviderClient, s.endpoint); err != nil {
		return fmt.Errorf("the cloud at %s has no compute service: %w", s.IdentityEndpoint, plainly(err))
	}
	n.compute.Microversion = "2.61" // flavors with their extra specs; networks auto and none
	w := &novaWatch{novaBoot: n}
	ready := make(chan error, 1)
	go func() { ready <- n.create(ctx, engine) }()
	select {
	case err = <-ready:
	case <-signals:
		cancel(errors.New("interrupted"))
		err = <-ready
	}
	if err == nil {
		err = w.follow(ctx, signals)
	}
	return err
}

// create has a server made of the image's disk.
func (n *novaBoot) create(ctx context.Context, engine *client.Client) error {
	// Mistakes are to cost no upload.
	nics, err := n.nics(ctx)
	if err != nil {
		return err
	}
	var flavor string
	if n.spec.Flavor != "" {
		if flavor, err = findFlavor(ctx, n.compute, n.spec.Flavor); err != nil {
			return err
		}
	}
	img, err := n.upload(ctx, engine)
	if err != nil {
		return err
	}
	if flavor == "" {
		if flavor, err = n.smallest(ctx, img); err != nil {
			return err
		}
	}
	// It says who the guest is without a network, and without a wait.
	drive := n.spec.WithConfigDrive || !n.on.noDrive
	opts := servers.CreateOpts{
		Name: cmp.Or(n.spec.Name, baseName(n.spec.Image)), ImageRef: img.ID, FlavorRef: flavor, Networks: nics,
		UserData: n.spec.CloudInit, ConfigDrive: &drive,
	}
	n.show.show("create server")
	// What has been asked for is waited for: else nobody would know what to delete.
	made, err := servers.Create(context.WithoutCancel(ctx), n.compute, keypairs.CreateOptsExt{CreateOptsBuilder: opts, KeyName: n.on.keyName}, nil).Extract()
	if err != nil {
		return fmt.Errorf("create server %s: %w", opts.Name, plainly(err))
	}
	n.id = made.ID
	if err := context.Cause(ctx); err != nil {
		return errors.Join(err, n.remove(ctx))
	}
	return nil
}

func (n *novaBoot) upload(ctx context.Context, engine *client.Client) (glance.Image, error) {
	auth, err := credentials(ctx, n.spec.Image)
	if err != nil {
		return glance.Image{}, err
	}
	body := api.DiskBody{Credentials: auth}
	body.Spec, body.Layout, body.Format = n.spec, disk.Layout(n.on.layout), disk.FormatQCOW2
	// These Nova is told, so that they make no other disk.
	body.Spec.Name, body.Spec.CloudInit, body.Spec.Flavor, body.Spec.Networks = "", nil, "", nil
	body.Spec.WithConfigDrive, body.Spec.AutoRemove, body.Spec.Timeout = false, false, 0
	client, err := n.session.glance()
	if err != nil {
		return glance.Image{}, err
	}
	n.show.show("export disk")
	u := &uploader{glance: client, engine: engine, say: n.show.show, visibility: "private"}
	return u.disk(ctx, body, "", baseName(n.spec.Image))
}

// baseName is what a reference is called by, without where it is from.
func baseName(ref string) string {
	name, _, _ := strings.Cut(path.Base(ref), "@")
	name = strings.Trim(regexp.MustCompile(`[^A-Za-z0-9.-]+`).ReplaceAllString(name, "-"), "-.")
	return cmp.Or(name, "slipway")
}

// leastMemory is what a guest whose flavor was not named gets at least, in MiB.
const leastMemory = 256

// smallest is the smallest flavor that will do.
func (n *novaBoot) smallest(ctx context.Context, img glance.Image) (string, error) {
	page, err := flavors.ListDetail(n.compute, nil).AllPages(ctx)
	if err != nil {
		return "", fmt.Errorf("list flavors: %w", plainly(err))
	}
	all, err := flavors.ExtractFlavors(page)
	if err != nil {
		return "", err
	}
	fits := slices.DeleteFunc(all, func(f flavors.Flavor) bool {
		return f.RAM < leastMemory || f.Disk > 0 && f.Disk < img.MinDisk
	})
	if len(fits) == 0 {
		return "", fmt.Errorf("no flavor has %d MiB of memory and %d GiB of disk: name one by --flavor", leastMemory, img.MinDisk)
	}
	smallest := slices.MinFunc(fits, func(a, b flavors.Flavor) int {
		return cmp.Or(cmp.Compare(a.RAM, b.RAM), cmp.Compare(a.VCPUs, b.VCPUs), cmp.Compare(a.Disk, b.Disk))
	})
	return smallest.ID, nil
}

// nics finds the networks that are named: as Nova thinks best where none is.
func (n *novaBoot) nics(ctx context.Context) (any, error) {
	switch {
	case len(n.spec.Networks) == 0:
		return "auto", nil
	case len(n.spec.Networks) == 1 && n.spec.Networks[0].Network == launcher.NetworkNone:
		return "none", nil
	}
	neutron, err := openstack.NewNetworkV2(n.session.ProviderClient, n.session.endpoint)
	if err != nil {
		return nil, fmt.Errorf("the cloud at %s has no network service: %w", n.session.IdentityEndpoint, plainly(err))
	}
	page, err := networks.List(neutron, nil).AllPages(ctx)
	if err != nil {
		return nil, fmt.Errorf("list networks: %w", plainly(err))
	}
	all, err := networks.ExtractNetworks(page)
	if err != nil {
		return nil, err
	}
	var list []servers.Network
	for _, want := range n.spec.Networks {
		if want.Network == launcher.NetworkNone {
			return nil, errors.New("--network none excludes other networks")
		}
		var found []string
		for _, net := range all {
			if net.ID == want.Network || net.Name == want.Network {
				found = append(found, net.ID)
			}
		}
		if len(found) != 1 {
			return nil, fmt.Errorf("%d networks have the name or ID %s", len(found), want.Network)
		}
		nic := servers.Network{UUID: found[0]}
		if want.MAC != "" || len(want.IPs) > 1 {
			return nil, fmt.Errorf("network %s: Nova takes one ip=ADDRESS, and no mac=MAC", want.Network)
		}
		for _, ip := range want.IPs {
			nic.FixedIP = ip.String()
		}
		list = append(list, nic)
	}
	return list, nil
}

// gone reports whether an error says that there is no such server.
func gone(err error) bool { return gophercloud.ResponseCodeIs(err, http.StatusNotFound) }

// remove deletes the server, and waits until it is gone.
func (n *novaBoot) remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
	defer cancel()
	if err := servers.Delete(ctx, n.compute, n.id).ExtractErr(); err != nil && !gone(err) {
		return fmt.Errorf("delete server %s: %w", n.id, plainly(err))
	}
	for {
		_, err := servers.Get(ctx, n.compute, n.id).Extract()
		if gone(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("delete server %s: %w", n.id, plainly(err))
		}
		time.Sleep(consoleInterval)
	}
}
