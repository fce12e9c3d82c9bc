// Package glance shows the catalog's images as OpenStack's image service does,
// version 2.
//
// Images that were pulled by reference are public and belong to nobody. One that only
// a registry has is found by its name, a reference; it is not listed otherwise.
package glance
