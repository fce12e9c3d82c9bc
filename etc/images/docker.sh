# shellcheck shell=bash disable=SC2154
# docker, an image that brings its own init and Debian's dockerd, for servers with
# preloaded images.

bootstrap "$work/debian"
layer "$work/debian" "$work/debian"

system=$work/system
install_packages "$work/debian" "$system" systemd-sysv dbus docker.io iptables ca-certificates
# Each server gets an ID and a name of its own.
: >"$system/etc/machine-id"
rm -f "$system/var/lib/dbus/machine-id"
layer "$system" "$work/system"

layout docker '{"Entrypoint": ["/sbin/init"]}' "$work/debian" "$work/system"
