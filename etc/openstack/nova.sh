# shellcheck shell=bash
# Placement, Neutron and Nova, with the database, the message queue and the libvirtd
# that they need.

# shellcheck disable=SC2034 # used by cloud
nova_packages=(placement-api neutron-server nova-api nova-conductor nova-scheduler nova-compute nova-compute-kvm
	mariadb-server rabbitmq-server python3-pymysql libvirt-daemon-system libvirt-clients
	qemu-system-x86 qemu-utils genisoimage openvswitch-switch neutron-openvswitch-agent)

begin_nova() {
	begin_libvirt
	begin_rabbitmq
	begin_mariadb
}

# A libvirtd that is there already is used, and stays.
begin_libvirt() {
	if virsh -c qemu:///system version >/dev/null 2>&1; then return; fi
	[[ -S /run/libvirt/virtlogd-sock ]] || launch virtlogd virtlogd
	launch libvirtd "$HERE/reaper" libvirtd
}

begin_rabbitmq() {
	local home=$DIR/rabbitmq
	mkdir -p "$home"
	render rabbitmq.conf
	: >"$DIR/etc/enabled_plugins"
	export ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT=${PORT[names]}
	launch epmd /usr/bin/epmd
	# Its cookie lies in its home; one thread of it is enough.
	launch rabbitmq env HOME="$home" RABBITMQ_NODENAME=slipway@localhost RABBITMQ_CONF_ENV_FILE=/dev/null \
		RABBITMQ_CONFIG_FILE="$DIR/etc/rabbitmq.conf" RABBITMQ_ENABLED_PLUGINS_FILE="$DIR/etc/enabled_plugins" \
		RABBITMQ_MNESIA_BASE="$home/mnesia" RABBITMQ_LOG_BASE="$home/log" RABBITMQ_PID_FILE="$home/pid" \
		RABBITMQ_DIST_PORT="${PORT[nodes]}" \
		RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}' \
		/usr/lib/rabbitmq/bin/rabbitmq-server
}

begin_mariadb() {
	once 'make the data directory of MariaDB' mariadb-install-db --no-defaults --user=root \
		--datadir="$DIR/mariadb" --auth-root-authentication-method=normal --skip-test-db
	# Nothing here must survive a power failure.
	launch mariadb mariadbd --no-defaults --user=root --datadir="$DIR/mariadb" --socket="$DIR/mariadb.sock" \
		--pid-file="$DIR/mariadb.pid" --bind-address=127.0.0.1 --port="${PORT[database]}" --max-connections=300 \
		--skip-log-bin --innodb-flush-log-at-trx-commit=0 --innodb-doublewrite=0 --character-set-server=utf8mb3
}

make_databases() {
	local name
	for name in placement neutron nova_api nova nova_cell0; do
		echo "CREATE DATABASE IF NOT EXISTS $name; GRANT ALL ON $name.* TO cloud@'127.0.0.1' IDENTIFIED BY '$PASSWORD';"
		echo "GRANT ALL ON $name.* TO cloud@localhost IDENTIFIED BY '$PASSWORD';"
	done | mariadb --no-defaults -u root -S "$DIR/mariadb.sock"
}

make_nova() {
	local manage=(nova-manage --config-file "$DIR/etc/nova.conf")
	mkdir -p "$DIR/nova/instances" "$DIR/nova/lock"
	"${manage[@]}" api_db sync
	"${manage[@]}" cell_v2 map_cell0 \
		--database_connection "mysql+pymysql://cloud:$PASSWORD@127.0.0.1:${PORT[database]}/nova_cell0?charset=utf8"
	"${manage[@]}" db sync
	"${manage[@]}" cell_v2 list_cells | grep -q cell1 || "${manage[@]}" cell_v2 create_cell --name=cell1
}

make_neutron() {
	mkdir -p "$DIR/neutron/lock" "$DIR/python/slipway_bridge-1.dist-info"
	cp "$HERE/slipway_bridge.py" "$DIR/python/"
	printf 'Metadata-Version: 2.1\nName: slipway-bridge\nVersion: 1\n' >"$DIR/python/slipway_bridge-1.dist-info/METADATA"
	printf '[neutron.ml2.mechanism_drivers]\nslipway_bridge = slipway_bridge:BridgeDriver\n' \
		>"$DIR/python/slipway_bridge-1.dist-info/entry_points.txt"
	neutron-db-manage --config-file "$DIR/etc/neutron.conf" upgrade heads
}

up_nova() {
	local name url=http://127.0.0.1
	for name in placement neutron nova; do
		render "$name.conf"
	done
	# These speak as the user of their own name to other services.
	for name in placement neutron service_user; do
		{ printf '\n[%s]\n' "$name"; login nova; } >>"$DIR/etc/nova.conf"
	done
	listens mariadb "${PORT[database]}"
	once 'make the databases' make_databases
	once 'add Placement, Neutron and Nova to the catalog' catalog placement placement "$url:${PORT[placement]}" \
		neutron network "$url:${PORT[network]}" nova compute "$url:${PORT[compute]}/v2.1"
	once 'make the records of Placement' placement-manage --config-file "$DIR/etc/placement.conf" db sync
	web placement "${PORT[placement]}" /usr/bin/placement-api OS_PLACEMENT_CONFIG_DIR="$DIR/etc"
	once 'make the records of Neutron' make_neutron
	once 'make the records of Nova' make_nova
	listens rabbitmq "${PORT[messages]}"
	launch neutron env PYTHONPATH="$DIR/python" neutron-server --config-file "$DIR/etc/neutron.conf"
	for name in conductor scheduler compute api; do
		launch "nova-$name" "nova-$name" --config-file "$DIR/etc/nova.conf"
	done
	answers placement "$url:${PORT[placement]}/"
	answers neutron "$url:${PORT[network]}/"
	answers nova-api "$url:${PORT[compute]}/"
	once 'wait for the compute host' find_host
	with_admin /usr/bin/python3 "$HERE/reported.py" "$PATIENCE" || die "Nova is not ready; its logs are in $DIR/log"
	once 'make flavors, and a network that leads nowhere' with_admin /usr/bin/python3 "$HERE/resources.py"
}

# find_host: Nova's scheduler sends nothing to a host that its cell does not know.
find_host() {
	local manage=(nova-manage --config-file "$DIR/etc/nova.conf" cell_v2) end=$((SECONDS + PATIENCE))
	until "${manage[@]}" discover_hosts && "${manage[@]}" list_hosts | grep -q "$(hostname)"; do
		runs nova-compute && ((SECONDS < end)) || return 1
		sleep 1
	done
}

# end_guests ends what Nova has started, and removes the bridges made for it.
end_guests() {
	local domain bridge
	runs nova-compute || return 0
	for domain in $(virsh -c qemu:///system list --all --uuid); do
		virsh -c qemu:///system dumpxml "$domain" | grep -qF "$DIR/nova/instances/" || continue
		virsh -c qemu:///system destroy "$domain" >/dev/null 2>&1 || true
		virsh -c qemu:///system undefine "$domain" >/dev/null 2>&1 || true
	done
	while read -r bridge; do
		[[ -d /sys/class/net/$bridge/brif && -z $(ls "/sys/class/net/$bridge/brif") ]] && ip link delete "$bridge"
	done < <(mariadb --no-defaults -N -u root -S "$DIR/mariadb.sock" -e 'SELECT CONCAT("brq", LEFT(id, 11)) FROM neutron.networks')
	return 0
}
