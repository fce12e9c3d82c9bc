# shellcheck shell=bash
# shellcheck disable=SC2154 # work and dir are build's
# Sourced by build: the steps that image descriptions are made of. A layer is
# known by a path STEM: STEM.blob is its compressed archive, STEM.desc its
# descriptor (with the diff ID added), as JSON.

# The time of everything in an image that is newer.
export SOURCE_DATE_EPOCH=1735689600

# sum FILE prints FILE's digest.
sum() { echo "sha256:$(sha256sum "$1" | cut -d ' ' -f 1)"; }

# layer ROOT STEM archives the directory ROOT as a layer.
layer() {
	tar -C "$1" -c --format=pax --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime \
		--sort=name --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" --clamp-mtime \
		--xattrs --xattrs-include='security.*' . >"$2.tar"
	gzip -n -c "$2.tar" >"$2.blob"
	jq -n --arg digest "$(sum "$2.blob")" --argjson size "$(stat -c %s "$2.blob")" --arg diff "$(sum "$2.tar")" \
		'{mediaType: "application/vnd.oci.image.layer.v1.tar+gzip", $digest, $size, $diff}' >"$2.desc"
	rm "$2.tar"
}

# put LAYOUT FILE MEDIATYPE moves FILE into LAYOUT and prints its descriptor.
put() {
	local digest size
	digest=$(sum "$2") size=$(stat -c %s "$2")
	mv "$2" "$1/blobs/sha256/${digest#*:}"
	jq -n --arg mediaType "$3" --arg digest "$digest" --argjson size "$size" '{$mediaType, $digest, $size}'
}

# layout NAME CONFIG STEM... writes the OCI layout NAME of the given layers and
# of CONFIG, the part of the image's configuration that says how to run it.
layout() {
	local name=$1 config=$2 new=$work/$1.layout oci=application/vnd.oci.image stem
	shift 2
	mkdir -p "$new/blobs/sha256"
	echo '{"imageLayoutVersion": "1.0.0"}' >"$new/oci-layout"
	for stem; do
		cp "$stem.blob" "$new/blobs/sha256/$(jq -r '.digest[7:]' "$stem.desc")"
	done
	local -a layers=("${@/%/.desc}")
	jq -s --argjson config "$config" --arg arch "$(dpkg --print-architecture)" \
		--arg created "$(date -u -d "@$SOURCE_DATE_EPOCH" +%FT%TZ)" '{
			$created, architecture: $arch, os: "linux", $config,
			rootfs: {type: "layers", diff_ids: map(.diff)},
			history: map({$created, created_by: "etc/images/build"})
		}' "${layers[@]}" >"$new/config"
	put "$new" "$new/config" $oci.config.v1+json >"$new/config.desc"
	jq -s --arg type $oci.manifest.v1+json '{
			schemaVersion: 2, mediaType: $type, config: .[0], layers: .[1:] | map(del(.diff))
		}' "$new/config.desc" "${layers[@]}" >"$new/manifest"
	put "$new" "$new/manifest" $oci.manifest.v1+json |
		jq --arg type $oci.index.v1+json '{
			schemaVersion: 2, mediaType: $type,
			manifests: [. + {annotations: {"org.opencontainers.image.ref.name": "latest"}}]
		}' >"$new/index.json"
	rm "$new/config.desc"
	rm -rf "${dir:?}/$name"
	# A layout without its index is none, so the index comes last.
	mv "$new/index.json" "$work/index.json"
	cp -r "$new" "$dir/$name"
	cp "$work/index.json" "$dir/$name/index.json"
}

# debian_sources prints the machine's own Debian sources, one a line.
debian_sources() {
	local -a targets=(apt-get indextargets 'Created-By: Packages' 'Origin: Debian' "Architecture: $(dpkg --print-architecture)")
	[[ -n $("${targets[@]}") ]] || apt-get -q update >&2
	# shellcheck disable=SC2016 # the placeholders are for apt
	"${targets[@]}" --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' | sort -u
}

# bootstrap ROOT makes a small Debian of the machine's release in ROOT, without
# manuals; the package index goes to $work/lists, for install.
bootstrap() {
	local release
	# shellcheck source=/dev/null
	release=$(. /etc/os-release && echo "$VERSION_CODENAME")
	debian_sources >"$work/sources"
	mmdebstrap --quiet --mode=root --variant=minbase --format=directory --skip=cleanup/apt/lists \
		--aptopt='Acquire::Languages "none"' --dpkgopt=force-unsafe-io \
		--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
		--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
		"$release" "$1" "$work/sources" 2> >(grep -v '^W: .*consider' >&2)
	mkdir -p "$work/lists"
	mv "$1"/var/lib/apt/lists/* "$work/lists/"
	rm -f "$1"/var/cache/debconf/*-old "$1"/var/lib/dpkg/*-old
	: >"$1/etc/resolv.conf"
}

# install_packages BASE UPPER PACKAGE... installs packages on top of the root BASE; what
# that changes is left in UPPER, with deletions in the image format's way.
install_packages() {
	local base=$1 upper=$2 root=$work/root path
	shift 2
	mkdir -p "$upper" "$work/overlay" "$root" "$work/cache/archives/partial"
	mount -t overlay image-build -o "lowerdir=$base,upperdir=$upper,workdir=$work/overlay" "$root"
	mount --bind "$work/lists" "$root/var/lib/apt/lists"
	mount --bind "$work/cache" "$root/var/cache/apt"
	mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
	mount --bind /dev "$root/dev"
	mount -t proc proc "$root/proc"
	mount -t tmpfs tmpfs "$root/tmp"
	env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
		http_proxy="${http_proxy-}" chroot "$root" \
		apt-get -qq -o Dpkg::Use-Pty=0 install -y --no-install-recommends "$@" >"$work/install.log" 2>&1 ||
		{ cat "$work/install.log" >&2; return 1; }
	rm -rf "$root"/var/log/{apt,dpkg.log,alternatives.log} "$root"/var/cache/{ldconfig/aux-cache,debconf/*-old} "$root"/var/lib/dpkg/*-old
	umount "$root"/{tmp,proc,dev,etc/resolv.conf,var/cache/apt,var/lib/apt/lists} "$root"
	find "$upper" -type c -print0 | while IFS= read -r -d '' path; do
		[[ $(stat -c %t,%T "$path") = 0,0 ]] || continue
		rm "$path"
		: >"${path%/*}/.wh.${path##*/}"
	done
}
