// Package catalog is the image service's: images as OpenStack has them, with owners,
// visibility, members, properties and data.
//
// An image of the catalog has an ID of its own and, once it is active, either data of
// its own, which was uploaded or imported, or a reference to a registry. What of it
// can be booted, archives by docker and of OCI, is handed to the launcher, which
// unpacks it before the image becomes active. Beside the catalog's stand the images
// that the launcher pulled by reference; they are everybody's, and enter the catalog
// when an administrator changes something of them.
//
// An image is queued, while data is written saving or uploading (staged for an
// import), importing, then active, and perhaps deactivated. A state that a restart
// has cut short goes back to queued; files without a record are removed.
package catalog
