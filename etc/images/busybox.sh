# shellcheck shell=bash disable=SC2154
# busybox, the image that tests boot: one layer, and something for each thing
# that an entrypoint's start depends on.

root=$work/busybox
mkdir -p "$root"/{bin,dev,etc,home,proc,root,srv,sys,var}
mkdir -m 1777 "$root/tmp"
install -m 755 /bin/busybox "$root/bin/busybox"
for applet in $(/bin/busybox --list); do
	[[ $applet = busybox ]] || ln -s busybox "$root/bin/$applet"
done

# Users found by name and by ID, with ids beyond 16 bits, groups that name them,
# and a home of their own.
printf '%s\n' root:x:0:0:root:/root:/bin/sh \
	app:x:1000:1000:App:/home/app:/bin/sh \
	big:x:70000:70001:Big:/home/big:/bin/sh \
	nobody:x:65534:65534:nobody:/:/bin/false >"$root/etc/passwd"
printf '%s\n' root:x:0: app:x:1000: extra:x:2000:app,nobody more:x:2001:app \
	big:x:70001: huge:x:70002:big nogroup:x:65534: >"$root/etc/group"
install -d -m 750 -o 1000 -g 1000 "$root/home/app"
install -d -m 750 -o 70000 -g 70001 "$root/home/big"

# Programs that cannot be started, each for its own reason.
echo 'not a program' >"$root/bin/not-executable"
printf '#!/bin/nowhere\n' >"$root/bin/no-interpreter"
printf '\177ELF of nothing' >"$root/bin/not-a-program"
ln -s loop "$root/bin/loop"
chmod 755 "$root"/bin/no{-interpreter,t-a-program}

layer "$root" "$work/busybox"
layout busybox '{
	"Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "FROM_IMAGE=a value with spaces"],
	"Cmd": ["sh"]
}' "$work/busybox"
