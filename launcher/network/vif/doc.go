// Package vif joins the ports of a Neutron to this host, as os-vif does it for Nova: a
// tap that Neutron's agent knows by its name, on a Linux bridge, on Open vSwitch, or on
// a Linux bridge of its own that a pair of interfaces leads to Open vSwitch from. What
// passes there is the agent's to rule.
package vif
