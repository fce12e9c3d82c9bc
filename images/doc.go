// Package images finds OCI images and gives their bytes.
//
// A reference says where an image is: in a registry, in an OCI layout
// (oci:DIR[:TAG]), in an archive (oci-archive:FILE[:TAG],
// docker-archive:FILE[:TAG]), or in OpenStack's Glance (glance:NAME-OR-ID). [Store.Resolve] makes of it an [Image]: one
// manifest for one platform, its configuration, and its layers, whose bytes are
// only fetched when somebody reads them.
//
// Nothing is believed that a digest could disprove: manifests and
// configurations are checked before they are parsed, layers while they are
// read, and a reader that has not seen io.EOF has seen nothing. Every refusal
// names the digest.
//
// The store remembers images ([Store.Save]) by reference: manifest and
// configuration, not layers, which package rootfs keeps unpacked. A registry
// reference that is remembered is answered without the network.
package images
