package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/slipway-vm/slipway/cmd/internal/format"
	"github.com/slipway-vm/slipway/guest"
	"github.com/slipway-vm/slipway/launcher/client"
	"github.com/slipway-vm/slipway/launcher/host"
	"github.com/slipway-vm/slipway/launcher/network/dataplane"
)

func (c *cli) host() *cobra.Command {
	return group("host", "Look at this host", c.hostDoctor(), c.hostRootModes())
}

func (c *cli) hostRootModes() *cobra.Command {
	var o format.Options
	cmd := &cobra.Command{
		Use: "root-modes", Short: "Say how a server's root can reach it, and what it then has", Args: cobra.NoArgs,
		RunE: c.withEngine(func(cmd *cobra.Command, _ []string, engine *client.Client) error {
			modes, err := engine.RootModes(cmd.Context())
			if err != nil {
				return err
			}
			columns := []string{"Root Mode", "Root", "File Capabilities", "Other Attributes", "Devices", "Times", "Volumes", "Privileges", "Snapshots"}
			rows := [][]any{}
			for _, m := range modes {
				rows = append(rows, []any{m.Name, m.How, m.Capabilities, m.Attributes, m.Devices, m.Times, m.Volumes, m.Privileges, m.Snapshots})
			}
			return format.List(cmd.OutOrStdout(), o, columns, rows)
		}),
	}
	o.AddListFlags(cmd.Flags())
	return cmd
}

func (c *cli) hostDoctor() *cobra.Command {
	var o format.Options
	cmd := &cobra.Command{
		Use: "doctor", Short: "Say what this host can do, what Slipway will use, and what to install for more", Args: cobra.NoArgs,
		Long: `Say what this host can do, what Slipway will therefore use, and what to install
for more. The exit status is 1 if something is missing that Slipway needs.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			rows, missing, err := c.examine(cmd)
			if err != nil {
				return err
			}
			if err := format.List(cmd.OutOrStdout(), o, []string{"Item", "Status", "Detail", "Advice"}, rows); err != nil {
				return err
			}
			if missing > 0 {
				return &exitError{code: 1}
			}
			return nil
		},
	}
	o.AddListFlags(cmd.Flags())
	return cmd
}

// examine gathers the findings, those of a running engine included, and the choice
// that follows.
func (c *cli) examine(cmd *cobra.Command) (rows [][]any, missing int, err error) {
	h, err := c.newHost()
	if err != nil {
		return nil, 0, err
	}
	findings := append(h.Examine(cmd.Context()), c.engineFinding(cmd))
	if f, told := forwardFinding(); told {
		findings = append(findings, f)
	}
	for _, f := range findings {
		if f.Status == host.Missing {
			missing++
		}
		rows = append(rows, []any{f.Item, string(f.Status), f.Detail, f.Advice})
	}
	choice := h.Choose(cmd.Context())
	for _, r := range [][2]string{
		{"accelerator", choice.Accelerator}, {"root mode", choice.RootMode},
		{"kernel", choice.Kernel}, {"machine", choice.Machine},
	} {
		rows = append(rows, []any{"uses: " + r[0], string(host.OK), r[1], ""})
	}
	return rows, missing, nil
}

func (c *cli) newHost() (*host.Host, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.cfg.StateDir, 0o711); err != nil && !errors.Is(err, os.ErrPermission) {
		return nil, err
	}
	kernels, err := guest.OpenKernels(filepath.Join(c.cfg.StateDir, "kernels"))
	if err != nil {
		return nil, err
	}
	kernels.Prefer(c.cfg.Boot.Kernel)
	return host.New(host.Config{
		Memo: filepath.Join(c.cfg.StateDir, "host.json"), Accel: c.cfg.Libvirt.Accel,
		Kernels: kernels, Init: filepath.Join(filepath.Dir(self), "slipway-init"),
	}), nil
}

// forwardFinding warns of firewalls that keep servers from the network. Who may not
// look is told nothing: his servers are not behind them.
func forwardFinding() (host.Finding, bool) {
	droppers, err := dataplane.Droppers()
	if err != nil {
		return host.Finding{}, false
	}
	f := host.Finding{Item: "forwarding", Status: host.OK, Detail: "no firewall drops what it does not know"}
	if len(droppers) > 0 {
		f.Status, f.Detail = host.Limited, "dropped unless a rule lets it pass: nftables chain "+strings.Join(droppers, ", ")
		f.Advice = "let servers' bridges pass: iptables -I FORWARD -i sb+ -j ACCEPT; iptables -I FORWARD -o sb+ -j ACCEPT (and ip6tables)"
	}
	return f, true
}

// engineFinding starts the engine, which is the proof that libvirt works.
func (c *cli) engineFinding(cmd *cobra.Command) host.Finding {
	const item = "engine"
	engine, err := c.engine(cmd.Context())
	if err != nil {
		return host.Finding{Item: item, Status: host.Missing, Detail: err.Error(), Advice: "see the lines above"}
	}
	info, err := engine.Info(cmd.Context())
	if err != nil {
		return host.Finding{Item: item, Status: host.Missing, Detail: err.Error()}
	}
	detail := fmt.Sprintf("libvirt %s, QEMU %s, %s", info.Libvirt, info.QEMU, info.URI)
	if info.Standby > 0 {
		detail += fmt.Sprintf(", guests standing by: %d", info.Standby)
	}
	return host.Finding{Item: item, Status: host.OK, Detail: detail}
}
