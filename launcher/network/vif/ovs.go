package vif

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"time"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/network"
)

// ovsTime is how long Open vSwitch may take.
const ovsTime = 30 * time.Second

// onSwitch has Open vSwitch take an interface; its agent finds the port by the ID that
// is noted there.
func (v *Plugger) onSwitch(ctx context.Context, p *network.Port, name string, mtu int) error {
	return v.vsctl(ctx, "--if-exists", "del-port", p.VIF.Bridge, name,
		"--", "add-port", p.VIF.Bridge, name,
		"--", "set", "Interface", name,
		"external_ids:iface-id="+p.ID, "external_ids:iface-status=active",
		fmt.Sprintf("external_ids:attached-mac=%q", p.MAC), "external_ids:vm-uuid="+p.Device,
		"mtu_request="+strconv.Itoa(mtu))
}

// vsctl runs ovs-vsctl, which has no library of a size that one transaction is worth.
func (v *Plugger) vsctl(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, ovsTime)
	defer cancel()
	all := []string{"--timeout=" + strconv.Itoa(int(ovsTime.Seconds()))}
	if v.cfg.OVSDB != "" {
		all = append(all, "--db="+v.cfg.OVSDB)
	}
	out, err := exec.CommandContext(ctx, "ovs-vsctl", append(append(all, "--"), args...)...).CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return launcher.Errorf(launcher.ErrUnavailable, "Neutron has bound a port to Open vSwitch, which this host lacks: install openvswitch-switch")
	}
	if err != nil {
		return launcher.Errorf(launcher.ErrUnavailable, "Open vSwitch: %s: %s", err, message(out))
	}
	return nil
}
