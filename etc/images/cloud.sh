# shellcheck shell=bash disable=SC2154
# cloud, a cloud image such as Debian's own: a disk with a boot loader, a kernel,
# systemd and the real cloud-init, as DIR/cloud.qcow2. It is put together of files,
# without mounting any: a FAT partition that SYSLINUX boots, and an ext4 root.

# shellcheck source=/dev/null
release=$(. /etc/os-release && echo "$VERSION_CODENAME")
debian_sources >"$work/sources"
root=$work/root
# shellcheck disable=SC2016 # the hook's own variable
# The initramfs holds what the root's disk takes, and no more.
mmdebstrap --quiet --mode=root --variant=minbase --format=directory \
	--aptopt='Acquire::Languages "none"' --dpkgopt=force-unsafe-io \
	--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
	--dpkgopt='path-exclude=/usr/share/doc/*' \
	--essential-hook='mkdir -p "$1/etc/initramfs-tools/conf.d" && echo MODULES=list >"$1/etc/initramfs-tools/conf.d/slipway" &&
		printf "%s\n" virtio_pci virtio_blk ext4 >"$1/etc/initramfs-tools/modules"' \
	--include=systemd-sysv,dbus,udev,kmod,initramfs-tools,linux-image-amd64,cloud-init,ifupdown,iproute2,netbase,ca-certificates \
	"$release" "$root" "$work/sources" 2> >(grep -v '^W: .*consider' >&2)

: >"$root/etc/machine-id"
: >"$root/etc/resolv.conf"
rm -f "$root/etc/hostname" "$root/var/lib/dbus/machine-id"
echo 'LABEL=root / ext4 errors=remount-ro 0 1' >"$root/etc/fstab"

boot=$work/boot
mkdir "$boot"
mv "$root"/boot/vmlinuz-* "$boot/vmlinuz"
mv "$root"/boot/initrd.img-* "$boot/initrd.img"
rm -f "$root"/{vmlinuz,initrd.img}* "$root"/boot/*
cat >"$boot/syslinux.cfg" <<-'CFG'
	DEFAULT linux
	LABEL linux
	KERNEL vmlinuz
	# An emulated timer may come too late for the kernel, which then panics.
	APPEND initrd=initrd.img root=LABEL=root ro console=ttyS0,115200 no_timer_check tsc=reliable mitigations=off panic=1
CFG

echo "image: packing"
mkfs.vfat -C "$work/boot.fat" $((96 << 10)) >/dev/null
mcopy -i "$work/boot.fat" "$boot"/* ::
syslinux --install "$work/boot.fat"
mke2fs -q -t ext4 -L root -d "$root" "$work/root.ext4" 3G

# One MiB for the partition table, then both partitions.
disk=$work/disk
truncate -s $((1 + 96 + 3072 + 1))M "$disk"
sfdisk -q "$disk" <<-'PARTITIONS'
	label: dos
	start=1MiB, size=96MiB, type=c, bootable
	start=97MiB, type=83
PARTITIONS
put_at() { dd if="$1" of="$disk" bs=1M seek="$2" conv=notrunc,sparse status=none; }
put_at "$work/boot.fat" 1
put_at "$work/root.ext4" 97
dd if=/usr/lib/syslinux/mbr/mbr.bin of="$disk" conv=notrunc status=none
qemu-img convert -q -O qcow2 "$disk" "$work/cloud.qcow2"
cp --sparse=always "$work/cloud.qcow2" "$dir/cloud.qcow2.new"
mv "$dir/cloud.qcow2.new" "$dir/cloud.qcow2"
