// Package process turns the process that an image or a user asks for into one
// that can be executed: which file, as which user, in which directory, with
// which environment.
//
// It is used by the host before a boot, on the mounted root or on another view of the
// same files, where the content is hostile; and by slipway-init in the guest, where the
// host has not found what it needs to start. Root therefore resolves every path as if its
// directory were /, by openat2's RESOLVE_IN_ROOT: no symbolic link, absolute or
// with any number of "..", leads out of it. Files that are read are regular and
// bounded in size; nothing is opened that could block.
package process
