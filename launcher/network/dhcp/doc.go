// Package dhcp answers DHCPv4 on one network: it tells each guest the address that
// it has been assigned already, and what belongs to it. It hands out nothing of its
// own, and is silent to hardware addresses that it does not know.
package dhcp
