package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/flavors"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/keypairs"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/spf13/cobra"

	"github.com/slipway-vm/slipway/cmd/internal/format"
	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api"
	"github.com/slipway-vm/slipway/launcher/client"
)

// createFlags are those of the openstack client's server create.
type createFlags struct {
	image, flavor, keyName, userData, description, zone, hostname string
	properties, nics, networks, ports, groups, tags, hints        []string
	preload                                                       []string
	configDrive, noNetwork, autoNetwork, wait                     bool
	min, max                                                      int
	output                                                        format.Options
}

func (c *cli) serverCreate() *cobra.Command {
	var o createFlags
	cmd := &cobra.Command{
		Use: "create --image IMAGE [flags] NAME", Short: "Make a server, as the openstack client does", Args: cobra.ExactArgs(1),
		Long: `Make a server, as the openstack client does. On this host, "slipway boot" can say
more: its server is the same.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if c.onCloud {
				return c.createRemote(cmd, &o, args[0])
			}
			return c.createLocal(cmd, &o, args[0])
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.image, "image", "", "`image` to boot: its ID, name or registry reference, or an archive or directory of this host as \"slipway image pull\" takes it")
	f.StringVar(&o.flavor, "flavor", "", "`flavor` of the server, its ID or name")
	f.StringVar(&o.keyName, "key-name", "", "key pair to put into the server")
	f.StringVar(&o.userData, "user-data", "", "`file` of user data for cloud-init")
	f.StringVar(&o.description, "description", "", "description of the server")
	f.StringVar(&o.zone, "availability-zone", "", "availability `zone`")
	f.StringVar(&o.hostname, "hostname", "", "host name, where it is not the server's")
	f.StringArrayVar(&o.properties, "property", nil, "`KEY=VALUE` for the server's metadata; can be repeated")
	f.StringArrayVar(&o.nics, "nic", nil, "`net-id=ID,port-id=ID,v4-fixed-ip=ADDRESS`, auto or none; can be repeated")
	f.StringArrayVar(&o.networks, "network", nil, "`network` to be in, its ID or name; can be repeated")
	f.StringArrayVar(&o.ports, "port", nil, "`port` to have, by its ID; can be repeated")
	f.BoolVar(&o.noNetwork, "no-network", false, "the same as --nic none")
	f.BoolVar(&o.autoNetwork, "auto-network", false, "the same as --nic auto, the default")
	f.StringArrayVar(&o.groups, "security-group", nil, "security group; can be repeated")
	f.StringArrayVar(&o.tags, "tag", nil, "tag of the server; can be repeated")
	f.StringArrayVar(&o.hints, "hint", nil, "group=ID, a hint for the scheduler")
	f.StringArrayVar(&o.preload, "preload", nil, "on this host: disk `file` of \"slipway image preload\", whose images the server's dockerd finds; can be repeated")
	f.BoolVar(&o.configDrive, "config-drive", false, "give the server a config drive")
	f.BoolVar(&o.configDrive, "use-config-drive", false, "the same")
	f.IntVar(&o.min, "min", 1, "how many servers at least")
	f.IntVar(&o.max, "max", 1, "how many servers at most")
	f.BoolVar(&o.wait, "wait", false, "wait until the server runs")
	o.output.AddFlags(f)
	_ = cmd.MarkFlagRequired("image")
	return cmd
}

// createLocal makes the server by this host's engine.
func (c *cli) createLocal(cmd *cobra.Command, o *createFlags, name string) error {
	for _, flag := range []string{"key-name", "availability-zone", "nic", "network", "port", "no-network", "auto-network", "security-group", "tag", "hint", "config-drive", "use-config-drive", "min", "max", "property", "description"} {
		if cmd.Flags().Changed(flag) {
			return fmt.Errorf("--%s is for a cloud's service: name one by --os-cloud", flag)
		}
	}
	engine, err := c.engine(cmd.Context())
	if err != nil {
		return err
	}
	spec := launcher.Spec{Name: name, Flavor: o.flavor, Hostname: o.hostname}
	if spec.Image, err = absoluteImage(o.image); err != nil {
		return err
	}
	spec.Preload = o.preload
	if err := absolute(spec.Preload); err != nil {
		return err
	}
	if o.userData != "" {
		if spec.CloudInit, err = os.ReadFile(o.userData); err != nil {
			return err
		}
	}
	srv, err := engine.Create(cmd.Context(), api.CreateBody{Spec: spec})
	if err != nil {
		return err
	}
	return c.showCreated(cmd, engine, o, srv.ID)
}

// createRemote asks Nova.
func (c *cli) createRemote(cmd *cobra.Command, o *createFlags, name string) error {
	ctx := cmd.Context()
	s, err := login(ctx, c.cloud)
	if err != nil {
		return err
	}
	compute, err := openstack.NewComputeV2(s.ProviderClient, s.endpoint)
	if err != nil {
		return err
	}
	compute.Microversion = "2.67"
	engine, err := s.service()
	if err != nil {
		return err
	}
	image, err := findOrSend(ctx, s, engine, o.image)
	if err != nil {
		return err
	}
	opts, hints, err := o.options(ctx, s, compute, image, name)
	if err != nil {
		return err
	}
	made, err := servers.Create(ctx, compute, opts, hints).Extract()
	if err != nil {
		return fmt.Errorf("create server %s: %w", name, plainly(err))
	}
	return c.showCreated(cmd, engine, o, made.ID)
}

// showCreated shows a new server, and waits for it where that is asked for.
func (c *cli) showCreated(cmd *cobra.Command, engine *client.Client, o *createFlags, id string) error {
	srv, err := engine.Server(cmd.Context(), id)
	if err == nil && o.wait {
		w := &watcher{engine: engine, id: id, show: newProgress(os.Stderr, "auto")}
		srv, err = w.started(cmd.Context())
	}
	if err != nil {
		return err
	}
	if o.wait && srv.VMState == launcher.VMError {
		return fmt.Errorf("error creating server %s: %s", srv.Name, srv.Fault)
	}
	fields, values := serverFields(srv)
	return format.Show(cmd.OutOrStdout(), o.output, fields, values)
}

// options are Nova's request for what the flags say.
func (o *createFlags) options(ctx context.Context, s *session, compute *gophercloud.ServiceClient, image, name string) (servers.CreateOptsBuilder, servers.SchedulerHintOptsBuilder, error) {
	opts := servers.CreateOpts{
		Name: name, ImageRef: image, AvailabilityZone: o.zone, SecurityGroups: o.groups, Tags: o.tags, Hostname: o.hostname, Min: o.min, Max: max(o.min, o.max),
	}
	var err error
	if opts.FlavorRef, err = findFlavor(ctx, compute, o.flavor); err != nil {
		return nil, nil, err
	}
	if o.userData != "" {
		if opts.UserData, err = os.ReadFile(o.userData); err != nil {
			return nil, nil, err
		}
	}
	if o.configDrive {
		opts.ConfigDrive = &o.configDrive
	}
	if opts.Metadata, err = keyValues("--property", o.properties); err != nil {
		return nil, nil, err
	}
	list, err := o.interfaces()
	if err != nil {
		return nil, nil, err
	}
	if opts.Networks, err = withNetworkIDs(ctx, s, list); err != nil {
		return nil, nil, err
	}
	hint, err := keyValues("--hint", o.hints)
	if err != nil {
		return nil, nil, err
	}
	var hints servers.SchedulerHintOpts
	for key, value := range hint {
		if key != "group" {
			return nil, nil, fmt.Errorf("--hint %s: there is group=ID", key)
		}
		hints.Group = value
	}
	return described{keypairs.CreateOptsExt{CreateOptsBuilder: opts, KeyName: o.keyName}, o.description}, hints, nil
}

// described adds what the library has no member for.
type described struct {
	servers.CreateOptsBuilder
	description string
}

// ToServerCreateMap implements servers.CreateOptsBuilder.
func (d described) ToServerCreateMap() (map[string]any, error) {
	m, err := d.CreateOptsBuilder.ToServerCreateMap()
	if server, ok := m["server"].(map[string]any); ok && d.description != "" {
		server["description"] = d.description
	}
	return m, err
}

// keyValues reads KEY=VALUE.
func keyValues(flag string, list []string) (map[string]string, error) {
	m := map[string]string{}
	for _, s := range list {
		key, value, ok := strings.Cut(s, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("%s %q: use KEY=VALUE", flag, s)
		}
		m[key] = value
	}
	return m, nil
}

// interfaces are what the flags say of the server's networks.
func (o *createFlags) interfaces() (any, error) {
	flags := o.nics
	for _, id := range o.ports {
		flags = append(flags, "port-id="+id)
	}
	switch {
	case o.noNetwork && o.autoNetwork, (o.noNetwork || o.autoNetwork) && len(flags)+len(o.networks) > 0:
		return nil, errors.New("--no-network and --auto-network exclude other networks")
	case o.noNetwork:
		return "none", nil
	case o.autoNetwork:
		return "auto", nil
	}
	return nics(flags, o.networks)
}

// withNetworkIDs puts IDs into the place of networks' names.
func withNetworkIDs(ctx context.Context, s *session, asked any) (any, error) {
	list, ok := asked.([]servers.Network)
	if !ok {
		return asked, nil
	}
	service, err := s.service()
	if err != nil {
		return nil, err
	}
	for i, n := range list {
		if n.UUID == "" {
			continue
		}
		found, err := service.Network(ctx, n.UUID)
		if err != nil {
			return nil, err
		}
		list[i].UUID = found.ID
	}
	return list, nil
}

// nics are the networks of a request: auto or none, or a list. Nova's default is
// auto.
func nics(flags, networks []string) (any, error) {
	if len(flags) == 0 && len(networks) == 0 {
		return "auto", nil
	}
	if len(flags) == 1 && len(networks) == 0 && (flags[0] == "auto" || flags[0] == "none") {
		return flags[0], nil
	}
	var list []servers.Network
	for _, id := range networks {
		list = append(list, servers.Network{UUID: id})
	}
	for _, nic := range flags {
		var n servers.Network
		for part := range strings.SplitSeq(nic, ",") {
			key, value, _ := strings.Cut(part, "=")
			to := map[string]*string{"net-id": &n.UUID, "port-id": &n.Port, "v4-fixed-ip": &n.FixedIP, "v6-fixed-ip": &n.FixedIP, "tag": &n.Tag}[key]
			if to == nil || value == "" {
				return nil, fmt.Errorf("--nic %q: use net-id=ID, port-id=ID, v4-fixed-ip=ADDRESS, auto or none", nic)
			}
			*to = value
		}
		list = append(list, n)
	}
	return list, nil
}

// findOrSend is findImage, but an image that the cloud does not have and this host's
// files do is sent there.
func findOrSend(ctx context.Context, s *session, engine *client.Client, ref string) (string, error) {
	id, err := findImage(ctx, s, ref)
	if !errors.Is(err, launcher.ErrNotFound) {
		return id, err
	}
	loaded, img, sent := loadArchive(ctx, engine, ref, func(launcher.PullProgress) {})
	switch {
	case sent != nil:
		return "", sent
	case !loaded:
		return "", err
	}
	return findImage(ctx, s, img.Reference)
}

// findImage returns the ID of an image that is named by its ID, name or reference.
func findImage(ctx context.Context, s *session, ref string) (string, error) {
	glance, err := openstack.NewImageV2(s.ProviderClient, s.endpoint)
	if err != nil {
		return "", err
	}
	if img, err := images.Get(ctx, glance, ref).Extract(); err == nil {
		return img.ID, nil
	}
	page, err := images.List(glance, images.ListOpts{Name: ref}).AllPages(ctx)
	if err != nil {
		return "", fmt.Errorf("find image %s: %w", ref, plainly(err))
	}
	list, err := images.ExtractImages(page)
	switch {
	case err != nil:
		return "", err
	case len(list) == 0:
		return "", launcher.Errorf(launcher.ErrNotFound, "no image with a name or ID of '%s' exists", ref)
	case len(list) > 1:
		return "", fmt.Errorf("more than one image exists with the name '%s': use an ID", ref)
	}
	return list[0].ID, nil
}

func findFlavor(ctx context.Context, compute *gophercloud.ServiceClient, ref string) (string, error) {
	page, err := flavors.ListDetail(compute, nil).AllPages(ctx)
	if err != nil {
		return "", fmt.Errorf("find flavor %s: %w", ref, plainly(err))
	}
	list, err := flavors.ExtractFlavors(page)
	if err != nil {
		return "", err
	}
	var names []string
	for _, f := range list {
		if f.ID == ref || f.Name == ref {
			return f.ID, nil
		}
		names = append(names, f.Name)
	}
	if ref == "" {
		return "", errors.New("no flavor is named: give --flavor, of " + strings.Join(names, ", "))
	}
	return "", fmt.Errorf("no flavor with a name or ID of '%s' exists: there are %s", ref, strings.Join(names, ", "))
}

// faultMessage finds what an OpenStack service says to the user: {"WORD":
// {"message": ...}}.
func faultMessage(body []byte) string {
	var words map[string]struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(body, &words) != nil {
		return ""
	}
	for _, w := range words {
		if w.Message != "" {
			return w.Message
		}
	}
	return ""
}
