# shellcheck shell=bash disable=SC2154
# hello, the image that `make boot` boots: a Debian, a layer of packages, and a
# small application with a user of its own that says where it runs.

bootstrap "$work/debian"
echo "image: packing"
layer "$work/debian" "$work/debian"

install_packages "$work/debian" "$work/packages" procps
layer "$work/packages" "$work/packages"

app=$work/app
mkdir -p "$app"/{etc,srv,usr/local/bin}
install -d -o 1000 -g 1000 "$app/srv/hello"
: >"$app/etc/.wh.motd"
for file in passwd group; do
	cp "$work/debian/etc/$file" "$app/etc/"
	[[ ! -e $work/packages/etc/$file ]] || cp "$work/packages/etc/$file" "$app/etc/"
done
echo 'hello:x:1000:1000:Hello:/srv/hello:/bin/sh' >>"$app/etc/passwd"
printf '%s\n' 'hello:x:1000:' 'greeters:x:1001:hello' >>"$app/etc/group"
cat >"$app/usr/local/bin/hello" <<-'SCRIPT'
	#!/bin/sh
	# Says where it runs.
	set -eu
	. /etc/os-release
	row() { printf '  %-8s %s\n' "$@"; }
	echo "$GREETING"
	row system "$PRETTY_NAME"
	row kernel "$(uname -sr) on $(nproc) CPU(s), up $(cut -d ' ' -f 1 /proc/uptime) s"
	row memory "$(free -m | awk '/^Mem/ { printf "%d MiB, %d MiB available", $2, $7 }')"
	row process "PID $$ of $(ps -e --no-headers -o pid | wc -l), as $(id -un) ($(id -u):$(id -g), groups $(id -Gn))"
	row host "$(uname -n)"
	row place "$(pwd), on $(awk '$2 == "/" { print $3; exit }' /proc/self/mounts)"
SCRIPT
chmod 755 "$app/usr/local/bin/hello"
layer "$app" "$work/app"

layout hello '{
	"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "GREETING=Hello from a micro-VM."],
	"User": "hello", "WorkingDir": "/srv/hello", "Entrypoint": ["hello"]
}' "$work/debian" "$work/packages" "$work/app"
