# shellcheck shell=bash disable=SC2154
# The images that `make bench` pulls: base, a Debian; nginx, one small layer over
# it; medium, about 150 MB unpacked; large, about 1 GB in seven layers of tens of
# thousands of files. All stand on the same layer. large comes last: where it is,
# all are.

path='"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"'

# add NAME BELOW PACKAGE... makes the layer NAME of packages on top of BELOW, the
# paths of the layers below, top first and with colons between.
add() {
	local name=$1 below=$2
	shift 2
	echo "image: layer $name"
	rm -rf "$work/overlay"
	install_packages "$below" "$work/$name" "$@"
	layer "$work/$name" "$work/$name"
}

echo "image: layer base"
bootstrap "$work/base"
layer "$work/base" "$work/base"
layout base "{\"Env\": [$path], \"Cmd\": [\"sh\"]}" "$work/base"

add nginx "$work/base" nginx-light
layout nginx "{\"Env\": [$path], \"Cmd\": [\"nginx\", \"-g\", \"daemon off;\"], \"StopSignal\": \"SIGQUIT\"}" \
	"$work"/{base,nginx}

add git "$work/base" git ca-certificates
layout medium "{\"Env\": [$path], \"Cmd\": [\"git\", \"version\"]}" "$work"/{base,git}

add c "$work/base" gcc g++ make libc6-dev
add go "$work/c:$work/base" golang-src
add node "$work/go:$work/c:$work/base" nodejs npm
add python "$work/node:$work/go:$work/c:$work/base" python3 git ca-certificates

# A tree of small sources, as an application and its dependencies are.
echo "image: layer tree"
mkdir -p "$work/tree/src"
cp -r "$work/node/usr/share/nodejs" "$work/tree/src/node_modules"
cp -r "$work"/go/usr/share/go-* "$work/tree/src/go"
layer "$work/tree" "$work/tree"

# A layer that deletes, and changes little.
mkdir -p "$work/last/usr/share" "$work/last/src"
: >"$work/last/usr/share/.wh.doc"
echo 'console.log("hello from large")' >"$work/last/src/main.js"
layer "$work/last" "$work/last"
layout large "{\"Env\": [$path, \"NODE_PATH=/src/node_modules\"], \"WorkingDir\": \"/src\", \"Cmd\": [\"sh\"]}" \
	"$work"/{base,c,go,node,python,tree,last}
