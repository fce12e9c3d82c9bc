# shellcheck shell=bash
# What the parts of the cloud have in common: processes by record, waiting, templates.

say() { printf 'openstack: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# started tells when a process began, which tells it from a later one of its number.
started() { sed -n 's/.*) //p' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

# runs NAME: the process that was started under that name still is.
runs() {
	local pid since
	[[ -f $DIR/run/$1 ]] || return 1
	read -r pid since <"$DIR/run/$1"
	[[ -n $since && $(started "$pid") == "$since" ]]
}

# launch NAME COMMAND...: in a session of its own, recorded, its output in a log.
launch() {
	local name=$1 pid
	shift
	if runs "$name"; then return; fi
	# 9 is the lock of this script, which its processes must not keep.
	setsid "$@" </dev/null >>"$DIR/log/$name.out" 2>&1 9>&- &
	pid=$!
	disown "$pid"
	echo "$pid $(started "$pid")" >"$DIR/run/$name"
}

# finish NAME: end it and what it started, the hard way after a while.
finish() {
	local pid
	if runs "$1"; then
		read -r pid _ <"$DIR/run/$1"
		kill -TERM "-$pid" 2>/dev/null || kill -TERM "$pid"
		for _ in {1..100}; do
			runs "$1" || break
			sleep 0.1
		done
		# What is left of its session, too.
		kill -KILL "-$pid" 2>/dev/null || true
		say "$1 ended"
	fi
	rm -f "$DIR/run/$1"
}

# answers NAME URL: wait until a service answers, and show why it does not.
answers() {
	local code end=$((SECONDS + PATIENCE))
	while :; do
		code=$(curl -s -o /dev/null -m 10 -w '%{http_code}' "$2" || true)
		# Another program may have its port.
		runs "$1" || { tail -n 20 "$DIR/log/$1.out" >&2; die "$1 has ended; its logs are in $DIR/log"; }
		case $code in 2?? | 3?? | 401) say "$1 answers at $2"; return ;; esac
		((SECONDS < end)) || die "$1 does not answer at $2 within $PATIENCE s (the last answer: $code); its logs are in $DIR/log"
		sleep 0.3
	done
}

# taken PORT: something listens on it.
taken() { (: >"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# listens NAME PORT: wait until it does.
listens() {
	local end=$((SECONDS + PATIENCE))
	until taken "$2"; do
		runs "$1" || { tail -n 20 "$DIR/log/$1.out" >&2; die "$1 has ended; its logs are in $DIR/log"; }
		((SECONDS < end)) || die "$1 does not listen on port $2 within $PATIENCE s; its logs are in $DIR/log"
		sleep 0.2
	done
}

# once NAME COMMAND...: what is done to make a cloud, not each time it is started.
once() {
	local name=$1
	shift
	if [[ -e $DIR/done/$name ]]; then return; fi
	say "$name"
	"$@" >>"$DIR/log/setup.out" 2>&1 || { tail -n 20 "$DIR/log/setup.out" >&2; die "$name failed; see $DIR/log/setup.out"; }
	touch "$DIR/done/$name"
}

# render NAME: a service's settings from their template.
# shellcheck disable=SC2153 # PORT is of cloud
render() {
	sed -e "s|@DIR@|$DIR|g; s|@PASSWORD@|$PASSWORD|g; s|@IDENTITY@|$IDENTITY|g; s|@IMAGE@|$IMAGE|g" \
		-e "s|@COMPUTE_PORT@|${PORT[compute]}|g; s|@IMAGE_PORT@|${PORT[image]}|g; s|@NETWORK_PORT@|${PORT[network]}|g" \
		-e "s|@DATABASE@|127.0.0.1:${PORT[database]}|g; s|@MESSAGES@|127.0.0.1:${PORT[messages]}|g" \
		-e "s|@MESSAGES_PORT@|${PORT[messages]}|g; s|@HOST@|$(hostname)|g" \
		"$HERE/$1" >"$DIR/etc/$1"
	# How a service finds out whose a token is.
	if grep -q '^\[keystone_authtoken\]' "$DIR/etc/$1"; then
		cat >>"$DIR/etc/$1" <<END
www_authenticate_uri = $IDENTITY
service_token_roles = service
service_token_roles_required = true
END
		login "${1%%[-.]*}" >>"$DIR/etc/$1"
	fi
}

# login USER: the settings by which a service logs in.
login() {
	cat <<END
auth_type = password
auth_url = $IDENTITY
username = $1
password = $PASSWORD
project_name = service
user_domain_id = default
project_domain_id = default
region_name = RegionOne
END
}

# web NAME PORT WSGI-SCRIPT [VARIABLE=VALUE...]: a service under uWSGI.
web() {
	local name=$1 port=$2 script=$3
	shift 3
	launch "$name" env "$@" uwsgi --plugins python3 --http-socket "127.0.0.1:$port" --wsgi-file "$script" \
		--master --need-app --lazy-apps --die-on-term --enable-threads --processes 1 --threads 4 --buffer-size 65535 \
		--add-header 'Connection: close'
}
