# shellcheck shell=bash disable=SC2154
# systemd, an image that brings its own init: a Debian whose entrypoint is
# /sbin/init, with what it takes to log in as root, whose password is "slipway".

bootstrap "$work/debian"
layer "$work/debian" "$work/debian"

system=$work/system
install_packages "$work/debian" "$system" systemd-sysv dbus libpam-systemd login
# Each server gets an ID and a name of its own.
: >"$system/etc/machine-id"
rm -f "$system/var/lib/dbus/machine-id"
sed 's,^root:[^:]*:,root:'"$(openssl passwd -6 -salt slipway slipway)"':,' "$work/debian/etc/shadow" >"$work/shadow"
[[ ! -e $system/etc/shadow ]] || sed -i 's,^root:[^:]*:,root:'"$(openssl passwd -6 -salt slipway slipway)"':,' "$system/etc/shadow"
layer "$system" "$work/system"

layout systemd '{"Entrypoint": ["/sbin/init"]}' "$work/debian" "$work/system"
