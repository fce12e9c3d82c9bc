package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// Flags are the flags of a program that give settings.
type Flags struct {
	file  string
	bound []boundFlag
}

type boundFlag struct {
	key  string
	flag *pflag.Flag
}

// AddFlags adds the flags that every command has: --config, --state-dir,
// --log-level and --log-format.
func AddFlags(fs *pflag.FlagSet) *Flags {
	d := Default()
	f := &Flags{}
	fs.StringVar(&f.file, "config", "", "configuration `file` (instead of "+DefaultFile+")")
	fs.String("state-dir", d.StateDir, "`directory` for everything Slipway keeps")
	fs.String("log-level", d.Log.Level, "what is logged: debug, info, warn or error")
	fs.String("log-format", d.Log.Format, "how it is logged: text or json")
	for flag, key := range map[string]string{"state-dir": "state_dir", "log-level": "log.level", "log-format": "log.format"} {
		f.Bind(key, fs.Lookup(flag))
	}
	return f
}

// File is the configuration file that was named, empty if none was.
func (f *Flags) File() string { return f.file }

// Bind makes a command's own flag the last source of a setting. A flag that was
// not given is no source. It panics where there is no such key or flag.
func (f *Flags) Bind(key string, flag *pflag.Flag) {
	if _, ok := fields(Default())[key]; !ok || flag == nil {
		panic(fmt.Sprintf("config: binding flag %v to %q", flag, key))
	}
	f.bound = append(f.bound, boundFlag{key, flag})
}

// Load reads all sources. The error joins everything that is wrong, a line each.
func (f *Flags) Load() (*Config, error) { return f.load(DefaultFile) }

// A setting is one value as a source gives it.
type setting struct {
	key    string
	origin string // how to name its place to the user
	value  any    // as YAML decodes it, or a text
}

func (f *Flags) load(defaultFile string) (*Config, error) {
	file, err := readFile(f.file, defaultFile)
	if err != nil {
		return nil, err
	}
	env, err := readEnviron(os.Environ())
	if err != nil {
		return nil, err
	}
	var flags []setting
	for _, b := range f.bound {
		if !b.flag.Changed {
			continue
		}
		flags = append(flags, setting{b.key, "--" + b.flag.Name, b.flag.Value.String()})
	}

	// Each value on its own first, while its origin is known.
	var problems []error
	origins := map[string]string{}
	for _, s := range append(append(file, env...), flags...) {
		if err := s.check(); err != nil {
			problems = append(problems, fmt.Errorf("%s: %s: %w", s.origin, s.key, err))
		}
		origins[s.key] = s.origin
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}

	v, err := merge(file, env, flags)
	if err != nil {
		return nil, err
	}
	c := Default()
	if os.Geteuid() != 0 {
		c.ofUser()
	}
	for key, field := range fields(c) {
		if !v.IsSet(key) {
			continue
		}
		if err := decode(v.Get(key), field); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", origins[key], key, err)
		}
	}
	if c.StateDir, err = filepath.Abs(c.StateDir); err != nil {
		return nil, fmt.Errorf("state_dir: %w", err)
	}
	if err := c.checkTogether(origins); err != nil {
		return nil, err
	}
	return c, nil
}

// merge hands the sources to viper, each on the level that viper has for it.
func merge(file, env, flags []setting) (*viper.Viper, error) {
	v := viper.New()
	nested := map[string]any{}
	for _, s := range file {
		section, name, ok := strings.Cut(s.key, ".")
		if !ok {
			nested[section] = s.value
			continue
		}
		if nested[section] == nil {
			nested[section] = map[string]any{}
		}
		nested[section].(map[string]any)[name] = s.value
	}
	if err := v.MergeConfigMap(nested); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	for _, s := range env {
		if err := v.BindEnv(s.key, envName(s.key)); err != nil {
			return nil, fmt.Errorf("%s: %w", s.origin, err)
		}
	}
	for _, s := range flags {
		v.Set(s.key, s.value)
	}
	return v, nil
}

// readFile reads the file that was named, which must be there, or the default
// one, which need not.
func readFile(named, standard string) ([]setting, error) {
	path := named
	if path == "" {
		path = standard
	}
	data, err := os.ReadFile(path)
	if named == "" && errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return parseFile(path, data)
}

func envName(key string) string {
	return "SLIPWAY_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// readEnviron returns the settings among NAME=VALUE pairs.
func readEnviron(environ []string) ([]setting, error) {
	keys := map[string]string{}
	for key := range fields(Default()) {
		keys[envName(key)] = key
	}
	var settings []setting
	var problems []error
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, "SLIPWAY_") || strings.HasPrefix(name, "SLIPWAY_TEST_") || value == "" {
			continue
		}
		key, ok := keys[name]
		if !ok {
			problems = append(problems, fmt.Errorf("environment variable %s: no setting has this name", name))
			continue
		}
		settings = append(settings, setting{key, "environment variable " + name, value})
	}
	return settings, errors.Join(problems...)
}
