package main

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"github.com/slipway-vm/slipway/cmd/internal/format"
	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api"
	"github.com/slipway-vm/slipway/launcher/client"
	"github.com/slipway-vm/slipway/launcher/network"
)

func (c *cli) network() *cobra.Command {
	return group("network", "Look after networks", c.networkCreate(), c.networkList(), c.networkShow(), c.networkDelete())
}

func (c *cli) networkCreate() *cobra.Command {
	var o format.Options
	var body api.NetworkBody
	var subnets, gateways []string
	cmd := &cobra.Command{
		Use: "create [flags] NETWORK", Short: "Create a network, by itself with an IPv4 and an IPv6 subnet", Args: cobra.ExactArgs(1),
		RunE: c.withEngine(func(cmd *cobra.Command, args []string, engine *client.Client) error {
			body.Name = args[0]
			for _, s := range subnets {
				p, err := netip.ParsePrefix(s)
				if err != nil {
					return fmt.Errorf("--subnet %s: use an address and a length, such as 10.9.0.0/24", s)
				}
				body.Subnets = append(body.Subnets, p)
			}
			for _, g := range gateways {
				a, err := netip.ParseAddr(g)
				if err != nil {
					return fmt.Errorf("--gateway %s: not an IP address", g)
				}
				body.Gateways = append(body.Gateways, a)
			}
			n, err := engine.CreateNetwork(cmd.Context(), body)
			if err != nil {
				return err
			}
			return showNetwork(cmd, o, n)
		}),
	}
	o.AddFlags(cmd.Flags())
	cmd.Flags().StringArrayVar(&subnets, "subnet", nil, "`CIDR` of its addresses; can be repeated")
	cmd.Flags().StringArrayVar(&gateways, "gateway", nil, "`address` of the host in a subnet (default: the first); can be repeated")
	cmd.Flags().IntVar(&body.MTU, "mtu", 0, "the largest packet, in `bytes` (default 1500)")
	return cmd
}

func (c *cli) networkList() *cobra.Command {
	var o format.Options
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List networks", Args: cobra.NoArgs,
		RunE: c.withEngine(func(cmd *cobra.Command, _ []string, engine *client.Client) error {
			networks, err := engine.Networks(cmd.Context())
			if err != nil {
				return err
			}
			rows := [][]any{}
			for _, n := range networks {
				rows = append(rows, []any{n.ID, n.Name, subnetsOf(n), len(n.Ports)})
			}
			return format.List(cmd.OutOrStdout(), o, []string{"ID", "Name", "Subnets", "Ports"}, rows)
		}),
	}
	o.AddListFlags(cmd.Flags())
	return cmd
}

func subnetsOf(n api.Network) []string {
	subnets := []string{}
	for _, s := range n.Subnets {
		subnets = append(subnets, s.CIDR.String())
	}
	return subnets
}

func (c *cli) networkShow() *cobra.Command {
	var o format.Options
	cmd := &cobra.Command{
		Use: "show NETWORK", Aliases: []string{"inspect"}, Short: "Show a network", Args: cobra.ExactArgs(1),
		RunE: c.withEngine(func(cmd *cobra.Command, args []string, engine *client.Client) error {
			n, err := engine.Network(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return showNetwork(cmd, o, n)
		}),
	}
	o.AddFlags(cmd.Flags())
	return cmd
}

func showNetwork(cmd *cobra.Command, o format.Options, n api.Network) error {
	gateways, servers := []string{}, []string{}
	for _, s := range n.Subnets {
		if s.Gateway.IsValid() {
			gateways = append(gateways, s.Gateway.String())
		}
	}
	for _, p := range n.Ports {
		servers = append(servers, p.Device)
	}
	return format.Show(cmd.OutOrStdout(), o,
		[]string{"id", "name", "mtu", "is_default", "subnets", "gateways", "bridge", "servers"},
		[]any{n.ID, n.Name, n.MTU, n.Default, subnetsOf(n), gateways, n.Bridge, servers})
}

func (c *cli) networkDelete() *cobra.Command {
	return &cobra.Command{
		Use: "delete NETWORK [NETWORK...]", Aliases: []string{"rm"}, Short: "Delete networks that no server is on", Args: cobra.MinimumNArgs(1),
		RunE: c.withEngine(func(cmd *cobra.Command, args []string, engine *client.Client) error {
			return each(args, func(ref string) error { return engine.DeleteNetwork(cmd.Context(), ref) })
		}),
	}
}

func (c *cli) serverPublish() *cobra.Command {
	return &cobra.Command{
		Use: "publish SERVER [IP:][HOST:]GUEST[/PROTOCOL]...", Args: cobra.MinimumNArgs(2),
		Short: "Publish ports of a server on the host, as boot --publish does; shows what is published",
		RunE: c.withEngine(func(cmd *cobra.Command, args []string, engine *client.Client) error {
			ports, err := parsePublish(args[1:])
			if err != nil {
				return err
			}
			srv, err := engine.Publish(cmd.Context(), args[0], api.PublishBody{Publish: ports})
			for _, p := range srv.Published {
				fmt.Fprintln(cmd.OutOrStdout(), p)
			}
			return err
		}),
	}
}

func (c *cli) serverUnpublish() *cobra.Command {
	return &cobra.Command{
		Use: "unpublish SERVER [IP:][HOST:]GUEST[/PROTOCOL]...", Args: cobra.MinimumNArgs(2),
		Short: "Publish ports of a server no more",
		RunE: c.withEngine(func(cmd *cobra.Command, args []string, engine *client.Client) error {
			ports, err := parsePublish(args[1:])
			if err == nil {
				_, err = engine.Publish(cmd.Context(), args[0], api.PublishBody{Unpublish: ports})
			}
			return err
		}),
	}
}

func parsePublish(texts []string) ([]launcher.Publish, error) {
	var all []launcher.Publish
	for _, t := range texts {
		ports, err := network.ParsePublish(t)
		if err != nil {
			return nil, err
		}
		all = append(all, ports...)
	}
	return all, nil
}

// parseNetwork reads NAME[,ip=ADDRESS][,mac=MAC].
func parseNetwork(text string) (launcher.NetworkRequest, error) {
	name, rest, more := strings.Cut(text, ",")
	r := launcher.NetworkRequest{Network: name}
	if name == "" || strings.Contains(name, "=") {
		return r, fmt.Errorf("--network %s: use NETWORK[,ip=ADDRESS][,mac=MAC], or none", text)
	}
	for more {
		var option string
		option, rest, more = strings.Cut(rest, ",")
		key, value, _ := strings.Cut(option, "=")
		switch key {
		case "ip", "ip6":
			a, err := netip.ParseAddr(value)
			if err != nil {
				return r, fmt.Errorf("--network %s: %q is not an IP address", text, value)
			}
			r.IPs = append(r.IPs, a)
		case "mac":
			if _, err := net.ParseMAC(value); err != nil {
				return r, fmt.Errorf("--network %s: %q is not a MAC address", text, value)
			}
			r.MAC = value
		default:
			return r, fmt.Errorf("--network %s: unknown option %q: use ip=ADDRESS or mac=MAC", text, key)
		}
	}
	return r, nil
}
