// Package config reads the settings of Slipway's programs. It is the only
// package that knows viper, and lies under cmd so that no library can reach it:
// libraries take what they need through their constructors.
//
// A setting has a key such as "boot.root" (a section and a name, or a name
// alone). The sources of its value, the later overriding the earlier:
//
//   - the default, which etc/slipway.yaml shows and explains
//   - /etc/slipway/slipway.yaml, where it is there, or the file that --config names
//   - the environment: SLIPWAY_ and the key in capitals, dots as underscores
//     (SLIPWAY_BOOT_ROOT); an empty variable counts as none
//   - flags
//
// A text (an environment variable or a flag) gives a list of words with commas
// between them, and any other list or a map as YAML: "{docker.io: [mirror:5000]}".
//
// Nothing is ignored: a key, a SLIPWAY_ variable or a value that means nothing is
// an error which names it and where it stands, also when another source overrides
// it. Only SLIPWAY_TEST_ variables are left alone; they belong to the tests.
package config

import (
	"os"
	"path/filepath"
	"time"
)

// DefaultFile is read where it exists and no other file is named.
const DefaultFile = "/etc/slipway/slipway.yaml"

// Config is what Slipway can be told. Each field's meaning stands in
// etc/slipway.yaml.
type Config struct {
	StateDir string   `key:"state_dir"`
	Log      Log      `key:"log"`
	Engine   Engine   `key:"engine"`
	API      API      `key:"api"`
	Libvirt  Libvirt  `key:"libvirt"`
	Boot     Boot     `key:"boot"`
	Logs     Logs     `key:"logs"`
	Images   Images   `key:"images"`
	Cloud    Cloud    `key:"cloud"`
	Identity Identity `key:"identity"`
	Image    Image    `key:"image"`
	Network  Network  `key:"network"`
	Flavors  []Flavor `key:"flavors"`
}

// Log says what is logged and how.
type Log struct {
	Level  string `key:"level"`  // debug, info, warn or error
	Format string `key:"format"` // text or json
}

// Engine is about the life of slipwayd.
type Engine struct {
	IdleTimeout time.Duration `key:"idle_timeout"` // 0: it does not end by itself
}

// API is about the network service.
type API struct {
	Listen    string        `key:"listen"`     // host:port, empty: none
	PublicURL string        `key:"public_url"` // empty: as each client reaches it
	TLSCert   string        `key:"tls_cert"`   // path
	TLSKey    string        `key:"tls_key"`    // path
	TokenLife time.Duration `key:"token_life"`
	RateLimit int64         `key:"rate_limit"` // requests a second of a project, 0: any
}

// Libvirt says where and how domains run.
type Libvirt struct {
	URI   string `key:"uri"`
	Accel string `key:"accel"` // auto, kvm or tcg
}

// Boot holds what a server gets unless it is asked for otherwise.
type Boot struct {
	Root      string        `key:"root"` // virtiofs, 9p or block
	Flavor    string        `key:"flavor"`
	Kernel    string        `key:"kernel"`
	BaseVM    string        `key:"base_vm_image"` // path, empty: none
	Timeout   time.Duration `key:"timeout"`
	StopGrace time.Duration `key:"stop_grace"`
	Standby   int64         `key:"standby"` // 0: no guest stands by
}

// Logs bounds what is kept of servers' output and consoles.
type Logs struct {
	MaxSize    Size  `key:"max_size"` // of one file; 0: no limit
	MaxFiles   int64 `key:"max_files"`
	MaxConsole Size  `key:"max_console"` // 0: no limit
}

// Images is about registries and about what an image may take.
type Images struct {
	InsecureRegistries []string            `key:"insecure_registries"`
	Mirrors            map[string][]string `key:"mirrors"`
	CAFiles            []string            `key:"ca_files"`
	MaxUnpacked        Size                `key:"max_unpacked"`
	MaxInodes          int64               `key:"max_inodes"`
	MaxMemory          Size                `key:"max_memory"`
	DownloadHosts      []string            `key:"download_hosts"`
	MaxStore           Size                `key:"max_store"` // 0: no limit
}

// Cloud says as whom Slipway logs in to an OpenStack.
type Cloud struct {
	Name string `key:"name"` // in clouds.yaml
	File string `key:"file"` // path of that; empty: where the openstack client looks
}

// Identity is about the Keystone that governs the API.
type Identity struct {
	URL        string        `key:"url"`         // empty: Slipway's own
	TokenCache time.Duration `key:"token_cache"` // how long an answer about a token is believed
}

// Image is about the Glance that has images.
type Image struct {
	URL string `key:"url"` // empty: none
}

// Network is about the Neutron that has networks.
type Network struct {
	URL  string `key:"url"`  // empty: Slipway's own
	Host string `key:"host"` // this host's name there; empty: its own
	// OVSDB is Open vSwitch's database, as ovs-vsctl takes it; empty: its default.
	OVSDB string `key:"ovsdb"`
}

// Flavor is a named size of server.
type Flavor struct {
	Name   string `yaml:"name"`
	VCPUs  int    `yaml:"vcpus"`
	Memory Size   `yaml:"memory"`
	Disk   Size   `yaml:"disk"`
}

// ofUser changes the defaults to those of who may not mount: an ordinary user, whose
// state is his own.
func (c *Config) ofUser() {
	c.Boot.Root = "block"
	dir := os.Getenv("XDG_STATE_HOME")
	if home, err := os.UserHomeDir(); dir == "" && err == nil {
		dir = filepath.Join(home, ".local", "state")
	}
	if filepath.IsAbs(dir) {
		c.StateDir = filepath.Join(dir, "slipway")
	}
}

// Default returns the settings of a machine where nothing is configured.
func Default() *Config {
	return &Config{
		StateDir: "/var/lib/slipway",
		Log:      Log{Level: "info", Format: "text"},
		Engine:   Engine{IdleTimeout: time.Minute},
		API:      API{Listen: "127.0.0.1:8774", TokenLife: time.Hour},
		Libvirt:  Libvirt{URI: "qemu:///embed", Accel: "auto"},
		Boot: Boot{
			Root:      "virtiofs",
			Flavor:    "m1.tiny",
			Timeout:   2 * time.Minute,
			StopGrace: 10 * time.Second,
			Standby:   1,
		},
		Logs: Logs{MaxSize: 20 * MiB, MaxFiles: 5, MaxConsole: 4 * MiB},
		Images: Images{
			InsecureRegistries: []string{},
			DownloadHosts:      []string{},
			Mirrors:            map[string][]string{},
			CAFiles:            []string{},
			MaxUnpacked:        64 * GiB,
			MaxInodes:          8_000_000,
			MaxMemory:          96 * MiB,
		},
		Identity: Identity{TokenCache: 10 * time.Second},
		Flavors: []Flavor{
			{Name: "m1.nano", VCPUs: 1, Memory: 256 * MiB, Disk: 1 * GiB},
			{Name: "m1.tiny", VCPUs: 1, Memory: 512 * MiB, Disk: 1 * GiB},
			{Name: "m1.small", VCPUs: 1, Memory: 2 * GiB, Disk: 20 * GiB},
			{Name: "m1.medium", VCPUs: 2, Memory: 4 * GiB, Disk: 40 * GiB},
			{Name: "m1.large", VCPUs: 4, Memory: 8 * GiB, Disk: 80 * GiB},
		},
	}
}
