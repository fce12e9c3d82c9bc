// Package disk makes self-contained disks: an image with its kernel, initramfs and
// boot loader, which any virtual machine can boot without Slipway.
//
// A disk has a GUID partition table and up to five partitions:
//
//	BIOS boot     GRUB, for machines with a BIOS
//	EFI system    GRUB for UEFI, kernel and initramfs; FAT
//	slipway-seed  what slipway-init reads first: a tar archive
//	slipway-base  the image's file system; EROFS, read-only
//	slipway-upper what is written later; ext4, the last, so that it can grow
//
// A disk for [LayoutNone], whose kernel comes from elsewhere, has the last three.
// Everything is written to a plain file by a user without privileges, and the same
// [Spec] makes the same bytes: identifiers are derived from Spec.ID, and all times
// are the epoch.
package disk
