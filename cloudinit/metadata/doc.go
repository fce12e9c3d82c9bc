// Package metadata answers what guests ask at http://169.254.169.254: OpenStack's
// and EC2's formats of what cloud-init's config drive also holds, in the paths and
// words of Nova's metadata service
// (https://docs.openstack.org/nova/latest/user/metadata.html).
//
// A guest is known by the address of its connection, which must be one that it
// cannot forge. No header of a request is believed.
package metadata
