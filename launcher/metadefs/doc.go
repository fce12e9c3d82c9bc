// Package metadefs holds the image service's metadata definitions: what properties
// images, flavors and servers may have, and what they mean, for those who show and
// edit them. Nothing here obeys them.
//
// A namespace holds definitions of properties, objects that group some of them, and
// tags, and is associated with types of resources, whose properties then have a
// prefix. All of one namespace is one record.
package metadefs
