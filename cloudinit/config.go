package cloudinit

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Config is the part of a cloud-config that a guest without a distribution can
// honour. Keys and their meaning are those of
// https://cloudinit.readthedocs.io/en/latest/reference/modules.html.
type Config struct {
	Hostname string
	FQDN     string
	// PreferFQDN makes FQDN the host's name.
	PreferFQDN bool
	// PreserveHostname leaves the host's name as it is.
	PreserveHostname bool
	// ManageEtcHosts writes the host's names into /etc/hosts.
	ManageEtcHosts bool

	BootCmd []Command // at each boot, early
	RunCmd  []Command // once per instance, late

	WriteFiles []WriteFile
	Mounts     []MountEntry
	Swap       *Swap

	Groups []Group
	Users  []User
	// AuthorizedKeys are ssh keys of the default user, which is root here.
	AuthorizedKeys []string
	Passwords      []Password
	// ExpirePasswords has Passwords be changed at the first login.
	ExpirePasswords bool

	Timezone     string
	NTP          NTP
	CACerts      CACerts
	PhoneHome    *PhoneHome
	PowerState   *PowerState
	FinalMessage string
}

// Command is executed as it is, or by a shell where it is a text.
type Command struct {
	Args  []string
	Shell string
}

// MountEntry is a line of fstab(5); a field that was not given is empty, and a
// FSType of "none" with a MountPoint of "none" is no mount at all.
type MountEntry struct {
	Device, MountPoint, FSType, Options, Dump, Pass string
}

// Swap is a file to make and swap to.
type Swap struct {
	File    string
	Size    int64 // bytes; SizeAuto: chosen by the memory
	MaxSize int64 // bytes; 0: no limit
}

// SizeAuto is a swap file's size that is to be chosen.
const SizeAuto = -1

// NTP names time servers.
type NTP struct {
	Enabled bool
	Servers []string
	Pools   []string
}

// CACerts are certificates to trust, in PEM.
type CACerts struct {
	RemoveDefaults bool
	Trusted        []string
}

// PhoneHome posts facts about the instance to a URL once it is up. $INSTANCE_ID in
// the URL stands for the id.
type PhoneHome struct {
	URL   string
	Post  []string // what to tell; "all" alone: everything
	Tries int
}

// PowerState ends the guest once everything else was done.
type PowerState struct {
	Mode    string // poweroff, halt or reboot
	Delay   time.Duration
	Message string
	Timeout time.Duration // for what still runs
	// Condition decides: a command whose success does, or Always.
	Condition Command
	Always    bool
}

// decoders has for each honoured key how its value is read into a Config.
var decoders map[string]func(*Config, any) error

func init() {
	decoders = map[string]func(*Config, any) error{
		"hostname":                  func(c *Config, v any) error { return hostnameOf(&c.Hostname, v) },
		"fqdn":                      func(c *Config, v any) error { return hostnameOf(&c.FQDN, v) },
		"prefer_fqdn_over_hostname": func(c *Config, v any) error { return boolOf(&c.PreferFQDN, v) },
		"preserve_hostname":         func(c *Config, v any) error { return boolOf(&c.PreserveHostname, v) },
		"manage_etc_hosts":          (*Config).decodeManageEtcHosts,
		"bootcmd":                   func(c *Config, v any) error { return commandsOf(&c.BootCmd, v) },
		"runcmd":                    func(c *Config, v any) error { return commandsOf(&c.RunCmd, v) },
		"write_files":               (*Config).decodeWriteFiles,
		"mounts":                    (*Config).decodeMounts,
		"mount_default_fields":      func(*Config, any) error { return nil }, // with mounts
		"swap":                      (*Config).decodeSwap,
		"groups":                    (*Config).decodeGroups,
		"users":                     (*Config).decodeUsers,
		"ssh_authorized_keys":       func(c *Config, v any) error { return textsOf(&c.AuthorizedKeys, v) },
		"password":                  (*Config).decodePassword,
		"chpasswd":                  (*Config).decodeChpasswd,
		"timezone":                  (*Config).decodeTimezone,
		"ntp":                       (*Config).decodeNTP,
		"ca_certs":                  (*Config).decodeCACerts,
		"ca-certs":                  (*Config).decodeCACerts,
		"phone_home":                (*Config).decodePhoneHome,
		"power_state":               (*Config).decodePowerState,
		"final_message":             func(c *Config, v any) error { return textOf(&c.FinalMessage, v) },
		"launch-index":              func(*Config, any) error { return nil },
	}
}

// decodeConfig reads a merged cloud-config. Each warning begins with its key and a
// colon; that key, or that entry of its list, is left out.
func decodeConfig(merged map[string]any) (Config, []string) {
	c := Config{ExpirePasswords: true}
	if fields, ok := merged["mount_default_fields"].([]any); ok {
		c.Mounts = []MountEntry{mountEntry(fields)} // taken off by decodeMounts
	}
	var warnings []string
	for _, key := range slices.Sorted(maps.Keys(merged)) {
		decode, ok := decoders[key]
		if !ok {
			warnings = append(warnings, key+": not honoured")
			continue
		}
		if merged[key] == nil {
			continue
		}
		for _, err := range each(decode(&c, merged[key])) {
			warnings = append(warnings, fmt.Sprintf("%s: %v", key, err))
		}
	}
	return c, warnings
}

// each lists the errors that errors.Join joined.
func each(err error) []error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

func (c *Config) decodeManageEtcHosts(v any) error {
	switch strings.ToLower(text(v)) {
	case "true", "template", "localhost":
		c.ManageEtcHosts = true
	case "false":
	default:
		return fmt.Errorf("%q is none of true, false and localhost", text(v))
	}
	return nil
}

func (c *Config) decodeTimezone(v any) error {
	name := text(v)
	if name == "" || strings.HasPrefix(name, "/") || slices.Contains(strings.Split(name, "/"), "..") {
		return fmt.Errorf("%q is no time zone such as Europe/Paris", name)
	}
	c.Timezone = name
	return nil
}

func (c *Config) decodeNTP(v any) error {
	m, err := mapOf(v)
	if err != nil {
		return err
	}
	c.NTP.Enabled = true
	if m["enabled"] != nil {
		if err := boolOf(&c.NTP.Enabled, m["enabled"]); err != nil {
			return fmt.Errorf("enabled: %w", err)
		}
	}
	c.NTP.Servers, c.NTP.Pools = texts(m["servers"]), texts(m["pools"])
	return nil
}

func (c *Config) decodeCACerts(v any) error {
	m, err := mapOf(v)
	if err != nil {
		return err
	}
	for _, key := range []string{"remove_defaults", "remove-defaults"} {
		if m[key] != nil {
			if err := boolOf(&c.CACerts.RemoveDefaults, m[key]); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
		}
	}
	for i, cert := range texts(m["trusted"]) {
		if !strings.Contains(cert, "-----BEGIN CERTIFICATE-----") {
			return fmt.Errorf("trusted: entry %d is no certificate in PEM", i+1)
		}
		c.CACerts.Trusted = append(c.CACerts.Trusted, cert)
	}
	return nil
}

func (c *Config) decodePhoneHome(v any) error {
	m, err := mapOf(v)
	if err != nil {
		return err
	}
	p := PhoneHome{URL: text(m["url"]), Post: texts(m["post"]), Tries: 10}
	if !strings.HasPrefix(p.URL, "http://") && !strings.HasPrefix(p.URL, "https://") {
		return fmt.Errorf("url %q is not http:// or https://", p.URL)
	}
	if len(p.Post) == 0 {
		p.Post = []string{"all"}
	}
	if tries, ok := m["tries"].(int); ok && tries > 0 {
		p.Tries = min(tries, 100)
	}
	c.PhoneHome = &p
	return nil
}

func (c *Config) decodePowerState(v any) error {
	m, err := mapOf(v)
	if err != nil {
		return err
	}
	p := PowerState{Mode: text(m["mode"]), Message: text(m["message"]), Timeout: 30 * time.Second, Always: true}
	switch p.Mode {
	case "poweroff", "halt", "reboot":
	default:
		return fmt.Errorf("mode %q is none of poweroff, halt and reboot", p.Mode)
	}
	if p.Delay, err = shutdownDelay(text(m["delay"])); err != nil {
		return err
	}
	if t, ok := m["timeout"].(int); ok && t >= 0 {
		p.Timeout = time.Duration(t) * time.Second
	}
	switch cond := m["condition"].(type) {
	case nil:
	case bool:
		if !cond {
			return nil
		}
	default:
		p.Always = false
		if p.Condition, err = commandOf(cond); err != nil {
			return fmt.Errorf("condition: %w", err)
		}
	}
	c.PowerState = &p
	return nil
}

// shutdownDelay reads what shutdown(8) takes: now, or a number of minutes.
func shutdownDelay(s string) (time.Duration, error) {
	if s == "" || s == "now" {
		return 0, nil
	}
	var minutes int
	if _, err := fmt.Sscanf(strings.TrimPrefix(s, "+")+"\n", "%d\n", &minutes); err != nil || minutes < 0 || minutes > 365*24*60 {
		return 0, fmt.Errorf("delay %q is neither now nor a number of minutes", s)
	}
	return time.Duration(minutes) * time.Minute, nil
}
