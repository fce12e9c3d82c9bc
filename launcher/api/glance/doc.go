// Package glance shows the launcher's images as OpenStack's image service does,
// version 2, as far as choosing an image needs it: listing, showing and deleting.
//
// Images are public and belong to nobody. An image that only a registry has is found
// by its name, a reference; it is not listed otherwise.
package glance
