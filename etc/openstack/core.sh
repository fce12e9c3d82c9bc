# shellcheck shell=bash
# Keystone and Glance: uWSGI and Glance's own server, records in SQLite.
# shellcheck disable=SC2034 # used by cloud

core_packages=(keystone glance-api python3-openstackclient uwsgi-core uwsgi-plugin-python3 curl)

# wal FILE: readers of a database, though they dawdle, keep nobody from writing.
wal() { /usr/bin/python3 -c 'import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute("PRAGMA journal_mode=WAL")' "$1"; }

make_keystone() {
	local manage=(keystone-manage --config-file "$DIR/etc/keystone.conf")
	install -d -m 700 "$DIR/keys/fernet" "$DIR/keys/credential"
	"${manage[@]}" db_sync
	wal "$DIR/keystone.db"
	"${manage[@]}" fernet_setup --keystone-user root --keystone-group root
	"${manage[@]}" credential_setup --keystone-user root --keystone-group root
	"${manage[@]}" bootstrap --bootstrap-password "$PASSWORD" --bootstrap-region-id RegionOne \
		--bootstrap-public-url "$IDENTITY" --bootstrap-internal-url "$IDENTITY" --bootstrap-admin-url "$IDENTITY"
}

make_glance() {
	mkdir -p "$DIR/images" "$DIR/staging" "$DIR/tasks"
	glance-manage --config-file "$DIR/etc/glance.conf" db_sync
	wal "$DIR/glance.db"
}

up_keystone() {
	render keystone.conf
	once 'make the records of Keystone' make_keystone
	web keystone "${PORT[identity]}" /usr/bin/keystone-wsgi-public \
		OS_KEYSTONE_CONFIG_DIR="$DIR/etc" OS_KEYSTONE_CONFIG_FILES=keystone.conf
}

up_glance() {
	render glance.conf
	once 'make the records of Glance' make_glance
	launch glance glance-api --config-file "$DIR/etc/glance.conf"
}
