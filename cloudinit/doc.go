// Package cloudinit holds the codecs of cloud-init's NoCloud data source:
// meta-data, user-data, vendor-data and network-config. It is pure: bytes in,
// bytes out. The host encodes; the guest reads what it needs.
//
// A Seed is what one server is told about itself. Formats follow
// https://cloudinit.readthedocs.io/en/latest/reference/datasources/nocloud.html.
package cloudinit
