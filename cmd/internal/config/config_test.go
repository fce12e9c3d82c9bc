package config

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// load loads a file with the given content ("" for none), environment variables
// NAME=VALUE and command line arguments.
func load(t *testing.T, content string, env []string, args ...string) (*Config, error) {
	t.Helper()
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "SLIPWAY_") {
			t.Setenv(name, "")
		}
	}
	for _, pair := range env {
		name, value, _ := strings.Cut(pair, "=")
		t.Setenv(name, value)
	}
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	f := AddFlags(fs)
	fs.String("root", "virtiofs", "")
	f.Bind("boot.root", fs.Lookup("root"))
	var memory Size
	fs.Var(&memory, "max-unpacked", "")
	f.Bind("images.max_unpacked", fs.Lookup("max-unpacked"))
	fs.StringSlice("insecure", nil, "")
	f.Bind("images.insecure_registries", fs.Lookup("insecure"))
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "slipway.yaml")
	if content != "" {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return f.load(path)
}

// The sample shows every key, each with its default and a comment.
func TestSample(t *testing.T) {
	data, err := os.ReadFile("../../../etc/slipway.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got, err := load(t, string(data), nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := Default(); !reflect.DeepEqual(got, want) {
		t.Errorf("the sample gives\n%+v, the defaults are\n%+v", got, want)
	}

	settings, err := parseFile("etc/slipway.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, s := range settings {
		keys = append(keys, s.key)
	}
	slices.Sort(keys)
	if want := slices.Sorted(keysOf(Default())); !slices.Equal(keys, want) {
		t.Errorf("the sample has the keys\n%v, want\n%v", keys, want)
	}

	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	uncommented(t, doc.Content[0])
}

// uncommented reports the keys without a comment of their own.
func uncommented(t *testing.T, mapping *yaml.Node) {
	t.Helper()
	for i := 0; i < len(mapping.Content); i += 2 {
		key, value := mapping.Content[i], mapping.Content[i+1]
		if value.Kind == yaml.MappingNode && len(value.Content) > 0 {
			uncommented(t, value)
		} else if key.HeadComment == "" {
			t.Errorf("%s has no comment", key.Value)
		}
	}
}

func TestEveryKeyIsChecked(t *testing.T) {
	keys := slices.Sorted(keysOf(Default()))
	if got := slices.Sorted(maps.Keys(checks)); !slices.Equal(got, keys) {
		t.Errorf("checks are for %v, want %v", got, keys)
	}
	env := map[string]string{}
	for _, key := range keys {
		if other, ok := env[envName(key)]; ok {
			t.Errorf("%s and %s have one variable", key, other)
		}
		env[envName(key)] = key
	}
	for key, check := range checks {
		if err := check(Default()); err != nil {
			t.Errorf("the default of %s: %v", key, err)
		}
	}
}

func TestOrder(t *testing.T) {
	const file = "boot: {root: 9p, kernel: mine}\nlog: {level: warn}\nimages:\n"
	c, err := load(t, file, []string{"SLIPWAY_LOG_LEVEL=error", "SLIPWAY_BOOT_KERNEL=theirs", "SLIPWAY_LOG_FORMAT=", "SLIPWAY_TEST_ANYTHING=1"}, "--log-level=debug")
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Boot.Root = "9p"
	want.Boot.Kernel = "theirs"
	want.Log.Level = "debug"
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got\n%+v, want\n%+v", c, want)
	}
}

func TestValues(t *testing.T) {
	tests := []struct {
		name, file string
		env, args  []string
		want       func(*Config)
	}{
		{"empty file", "# nothing\n", nil, nil, func(*Config) {}},
		{"kernel that looks like a number", "boot: {kernel: 6.1}", nil, nil, func(c *Config) { c.Boot.Kernel = "6.1" }},
		{"size as a number", "images: {max_unpacked: 1073741824}", nil, nil, func(c *Config) { c.Images.MaxUnpacked = GiB }},
		{"size by variable", "", []string{"SLIPWAY_IMAGES_MAX_UNPACKED=512M"}, nil, func(c *Config) { c.Images.MaxUnpacked = 512 * MiB }},
		{"size by flag", "", nil, []string{"--max-unpacked=3g"}, func(c *Config) { c.Images.MaxUnpacked = 3 * GiB }},
		{"number by variable", "", []string{"SLIPWAY_IMAGES_MAX_INODES=77"}, nil, func(c *Config) { c.Images.MaxInodes = 77 }},
		{"duration", "engine: {idle_timeout: 0s}", []string{"SLIPWAY_BOOT_TIMEOUT=1m30s"}, nil, func(c *Config) {
			c.Engine.IdleTimeout = 0
			c.Boot.Timeout = 90 * time.Second
		}},
		{
			"mirrors", "images:\n  mirrors:\n    docker.io: [mirror.example.org, '10.0.0.1:5000']\n    quay.io: [m]\n", nil, nil,
			func(c *Config) {
				c.Images.Mirrors = map[string][]string{"docker.io": {"mirror.example.org", "10.0.0.1:5000"}, "quay.io": {"m"}}
			},
		},
		{"mirrors by variable", "", []string{"SLIPWAY_IMAGES_MIRRORS={docker.io: [m]}"}, nil, func(c *Config) {
			c.Images.Mirrors = map[string][]string{"docker.io": {"m"}}
		}},
		{"list by variable", "", []string{"SLIPWAY_IMAGES_INSECURE_REGISTRIES=a:5000,b"}, nil, func(c *Config) {
			c.Images.InsecureRegistries = []string{"a:5000", "b"}
		}},
		{"list by flag", "", []string{"SLIPWAY_IMAGES_INSECURE_REGISTRIES=c"}, []string{"--insecure=a:5000", "--insecure=b"}, func(c *Config) {
			c.Images.InsecureRegistries = []string{"a:5000", "b"}
		}},
		{"flavors replace", "flavors: [{name: m1.tiny, vcpus: 2, memory: 1G, disk: 1073741824}]", nil, nil, func(c *Config) {
			c.Flavors = []Flavor{{"m1.tiny", 2, GiB, GiB}}
		}},
		{"flavors by variable", "", []string{"SLIPWAY_FLAVORS=[{name: m1.tiny, vcpus: 2, memory: 1G, disk: 1G}]"}, nil, func(c *Config) {
			c.Flavors = []Flavor{{"m1.tiny", 2, GiB, GiB}}
		}},
		{"state directory by variable", "state_dir: /one", []string{"SLIPWAY_STATE_DIR=/two"}, nil, func(c *Config) { c.StateDir = "/two" }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := load(t, tt.file, tt.env, tt.args...)
			if err != nil {
				t.Fatal(err)
			}
			want := Default()
			tt.want(want)
			if !reflect.DeepEqual(c, want) {
				t.Errorf("got\n%+v, want\n%+v", c, want)
			}
		})
	}
}

// A relative directory is that of whoever wrote it: the shell's for a flag.
func TestStateDirIsAbsolute(t *testing.T) {
	t.Chdir(t.TempDir())
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	c, err := load(t, "", nil, "--state-dir=state")
	if err != nil || c.StateDir != filepath.Join(here, "state") {
		t.Errorf("got %q, %v", c.StateDir, err)
	}
}

// Each error names the key and where it stands.
func TestErrors(t *testing.T) {
	tests := []struct {
		name, file string
		env, args  []string
		want       []string // parts of the error
	}{
		{"unknown section", "log: {}\nbot: {}", nil, nil, []string{"slipway.yaml:2: unknown key bot (known here: api, boot, cloud, engine, "}},
		{"unknown key", "boot:\n  rot: 9p", nil, nil, []string{"slipway.yaml:2: unknown key boot.rot (known here: base_vm_image, flavor, kernel, root, "}},
		{"wrong case", "Boot: {root: 9p}", nil, nil, []string{"slipway.yaml:1: unknown key Boot"}},
		{"section without keys", "boot: 9p", nil, nil, []string{"slipway.yaml:1: boot: not a mapping"}},
		{"not a mapping", "- boot", nil, nil, []string{"slipway.yaml: not a mapping"}},
		{"no YAML", "a: [", nil, nil, []string{"slipway.yaml: yaml:"}},
		{"twice", "log: {level: info}\nlog: {level: info}", nil, nil, []string{"slipway.yaml: ", "log", "already defined"}},
		{"bad word", "boot:\n  root: nfs", nil, nil, []string{`slipway.yaml:2: boot.root: "nfs" is not one of virtiofs, 9p`}},
		{"bad type", "boot: {root: [9p]}", nil, nil, []string{"slipway.yaml:1: boot.root: ", "not a text"}},
		{"bad duration", "boot: {timeout: 30}", nil, nil, []string{"boot.timeout: 30 is not a duration"}},
		{"short duration", "boot: {timeout: 1ms}", nil, nil, []string{"boot.timeout: 1ms is less than 1s"}},
		{"negative duration", "boot: {stop_grace: -1s}", nil, nil, []string{"boot.stop_grace: -1s is less than 0s"}},
		{"bad size", "images: {max_unpacked: much}", nil, nil, []string{`images.max_unpacked: "much" is not a size`}},
		{"bad number", "images: {max_inodes: 1.5}", nil, nil, []string{"images.max_inodes: 1.5 is not a whole number"}},
		{"bad list", "images: {ca_files: {a: b}}", nil, nil, []string{"images.ca_files: cannot unmarshal"}},
		{"relative file", "images: {ca_files: [ca.pem]}", nil, nil, []string{`images.ca_files: "ca.pem" is not an absolute path`}},
		{"relative directory", "state_dir: state", nil, nil, []string{`slipway.yaml:1: state_dir: "state" is not an absolute path`}},
		{"empty", "state_dir: ''", nil, nil, []string{"slipway.yaml:1: state_dir: "}},
		{"bad registry", "images: {insecure_registries: ['http://a']}", nil, nil, []string{`"http://a" is not a host`}},
		{"bad mirrors", "images: {mirrors: {docker.io: []}}", nil, nil, []string{"images.mirrors: docker.io has no mirrors"}},
		{"bad uri", "libvirt: {uri: embed}", nil, nil, []string{`libvirt.uri: "embed" is not a libvirt URI`}},
		{"bad address", "api: {listen: '8774'}", nil, nil, []string{`slipway.yaml:1: api.listen: "8774" is not an address`}},
		{"bad public URL", "api: {public_url: cloud.example.org}", nil, nil, []string{`api.public_url: "cloud.example.org" is not a URL`}},
		{"certificate without key", "api: {tls_cert: /c.pem}", nil, nil, []string{"slipway.yaml:1: api.tls_cert and api.tls_key are needed together"}},
		{"short tokens", "api: {token_life: 1s}", nil, nil, []string{"api.token_life: 1s is less than 1m0s"}},
		{"no flavors", "flavors: []", nil, nil, []string{"slipway.yaml:1: flavors: there must be one"}},
		{"unknown key of a flavor", "flavors: [{name: m1.tiny, cpus: 1}]", nil, nil, []string{"slipway.yaml:1: flavors: field cpus not found in a flavor"}},
		{"bad flavor", "flavors: [{name: m1.tiny, vcpus: 0, memory: 1G, disk: 1G}]", nil, nil, []string{"flavors: m1.tiny: vcpus 0"}},
		{"default flavor is gone", "flavors: [{name: big, vcpus: 1, memory: 1G, disk: 1G}]", nil, nil, []string{`slipway.yaml:1: boot.flavor: "m1.tiny" is not one of the flavors big`}},
		{"unknown flavor", "boot: {flavor: huge}", nil, nil, []string{`slipway.yaml:1: boot.flavor: "huge" is not one of the flavors m1.nano, `}},
		{"unknown variable", "", []string{"SLIPWAY_ROOT=9p"}, nil, []string{"environment variable SLIPWAY_ROOT: "}},
		{"bad variable", "", []string{"SLIPWAY_BOOT_ROOT=nfs"}, nil, []string{"environment variable SLIPWAY_BOOT_ROOT: boot.root: "}},
		{"bad flag", "", nil, []string{"--root=nfs"}, []string{"--root: boot.root: "}},
		{"bad but overridden", "boot: {root: nfs}", nil, []string{"--root=9p"}, []string{"slipway.yaml:1: boot.root"}},
		{"no such file", "", nil, []string{"--config=/nowhere/slipway.yaml"}, []string{"/nowhere/slipway.yaml"}},
		{"all at once", "boot: {root: nfs, timeout: soon}", []string{"SLIPWAY_LOG_LEVEL=loud"}, nil, []string{"boot.root: ", "\n", "boot.timeout: ", "SLIPWAY_LOG_LEVEL"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := load(t, tt.file, tt.env, tt.args...)
			if err == nil {
				t.Fatalf("no error, but %+v", c)
			}
			for _, part := range tt.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error is\n%v\nwithout %q", err, part)
				}
			}
		})
	}
}

func TestSize(t *testing.T) {
	good := map[string]Size{
		"0": 0, "1": 1, "1073741824": GiB, "512M": 512 * MiB, "512m": 512 * MiB, "512MB": 512 * MiB, "512MiB": 512 * MiB,
		"2 GiB": 2 * GiB, "3k": 3 * KiB, "1T": TiB, "7b": 7, "9223372036854775807": 1<<63 - 1,
	}
	for text, want := range good {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", text, got, err, want)
		}
		if got, err := ParseSize(want.String()); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", want, got, err, want)
		}
	}
	for _, text := range []string{"", "M", "-1", "+1", "1.5G", "1X", "1MM", "1 2", "9223372036854775808", "9000000T", "0x10", "1e3"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %d, want an error", text, got)
		}
	}
	if got := (1536 * MiB).String(); got != "1536MiB" {
		t.Errorf("String() = %s", got)
	}
}
