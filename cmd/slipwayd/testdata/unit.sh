#!/bin/bash
# unit.sh DIR: run systemd as the first process of its own namespaces, on a copy of this
# machine's root, with the unit in DIR/slipwayd.service and the programs in DIR/bin. It
# starts the service and then DIR/inside, whose output is in DIR/inside.log.
set -euo pipefail
dir=$1 root=$1/root
mkdir -p "$dir/top" "$root"
mount -t tmpfs tmpfs "$dir/top"
mkdir "$dir/top/upper" "$dir/top/work"
mount -t overlay -o "lowerdir=/,upperdir=$dir/top/upper,workdir=$dir/top/work" overlay "$root"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs tmpfs "$root/run"
mount --bind "$dir" "$root/mnt"

# Nothing of this machine's own is started.
units=$root/etc/systemd/system
rm -rf "$units"/*.wants "$root/var/lib/slipway" "$root/etc/slipway"
: >"$root/etc/fstab"
for unit in apparmor console-setup dbus keyboard-setup systemd-binfmt systemd-firstboot systemd-logind \
	systemd-modules-load systemd-networkd systemd-random-seed systemd-remount-fs systemd-resolved systemd-sysctl \
	systemd-timesyncd systemd-tmpfiles-setup systemd-udev-trigger systemd-udevd; do
	ln -sf /dev/null "$units/$unit.service"
done
for unit in dev-hugepages.mount dev-mqueue.mount proc-sys-fs-binfmt_misc.automount sys-fs-fuse-connections.mount \
	sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount; do
	ln -sf /dev/null "$units/$unit"
done

cp "$dir"/bin/* "$root/usr/local/bin/"
cp "$dir/slipwayd.service" "$units/"
mkdir "$units/slipwayd.service.d"
cat >"$units/slipwayd.service.d/test.conf" <<-'end'
	[Service]
	Environment=SLIPWAY_API_LISTEN=127.0.0.1:0 SLIPWAY_BOOT_TIMEOUT=10m
	WatchdogSec=6s
	StandardOutput=append:/mnt/slipwayd.log
	StandardError=append:/mnt/slipwayd.log
end
cat >"$units/inside.service" <<-'end'
	[Unit]
	Wants=slipwayd.service
	After=slipwayd.service
	[Service]
	Type=oneshot
	ExecStart=/bin/bash -euxo pipefail /mnt/inside
	ExecStopPost=/bin/systemctl exit 0
	StandardOutput=append:/mnt/inside.log
	StandardError=append:/mnt/inside.log
	TimeoutStartSec=10min
end
exec env -i container=lxc PATH=/usr/sbin:/usr/bin:/sbin:/bin \
	chroot "$root" /lib/systemd/systemd --system --unit=inside.service --log-target=console --show-status=0
