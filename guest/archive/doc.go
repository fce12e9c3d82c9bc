// Package archive copies files and trees out of and into a root directory as
// tar streams, keeping links, modes, owners, times and extended attributes.
//
// It is used at both ends of a copy, and at each end one side is hostile: the
// guest's files and the archive that a guest sends. Every name is resolved
// inside a process.Root, an entry never replaces what leads to it, and an
// archive that tries to climb out by ".." is refused.
package archive
