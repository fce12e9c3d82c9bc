package share

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"strings"
	"time"

	"github.com/slipway-vm/slipway/guest/process"
)

// SpecVersion is the version of Spec that Marshal writes. slipway-init
// refuses a newer one by name instead of guessing.
const SpecVersion = 2

// DefaultGrace is how long a process may take to end after its stop signal.
const DefaultGrace = 10 * time.Second

// ErrInvalidSpec is matched by every error of Spec.Validate and ParseSpec.
var ErrInvalidSpec = errors.New("invalid process specification")

// Spec is what slipway-init runs: the entrypoint and its surroundings. Its
// strings have the forms that an image's config gives them.
type Spec struct {
	Version int `json:"version"`
	// InstanceID and Hostname are the seed's; where one is empty, the guest reads the
	// seed's meta-data for it.
	InstanceID string   `json:"instanceID,omitempty"`
	Hostname   string   `json:"hostname,omitempty"`
	Args       []string `json:"args"`
	Env        []string `json:"env,omitempty"`
	// User is a name or uid, optionally followed by a colon and a group name
	// or gid; empty means root.
	User string `json:"user,omitempty"`
	// Dir is the working directory, created where it is missing.
	Dir string `json:"dir,omitempty"`
	// StopSignal is a name (SIGTERM, TERM) or a number; empty means SIGTERM.
	StopSignal string `json:"stopSignal,omitempty"`
	// Grace separates the stop signal from SIGKILL; zero means DefaultGrace.
	Grace time.Duration `json:"grace,omitempty"`
	// Stdin keeps the entrypoint's standard input open for an attached host;
	// without it the entrypoint reads /dev/null.
	Stdin  bool    `json:"stdin,omitempty"`
	TTY    bool    `json:"tty,omitempty"`
	Mounts []Mount `json:"mounts,omitempty"`
	// Nameservers, Search and DNSOptions become /etc/resolv.conf, Hosts the
	// lines added to /etc/hosts.
	Nameservers []string `json:"nameservers,omitempty"`
	Search      []string `json:"search,omitempty"`
	DNSOptions  []string `json:"dnsOptions,omitempty"`
	Hosts       []Host   `json:"hosts,omitempty"`
	// Interfaces are set up before the entrypoint starts.
	Interfaces []Interface `json:"interfaces,omitempty"`
	// Entropy, fresh for each boot, is what the guest's random numbers begin with.
	Entropy  []byte   `json:"entropy,omitempty"`
	InitMode InitMode `json:"initMode,omitempty"`
	// Found is what the host found in the root for the entrypoint's first start; without
	// it the guest looks for itself.
	Found *process.Found `json:"found,omitempty"`
	// Linger is how long a guest that no engine hears goes on after its entrypoint: its
	// cloud shows a console only as long as that.
	Linger time.Duration `json:"linger,omitempty"`
	Options
}

// InitMode says what the entrypoint is.
type InitMode string

// The init modes. Empty is InitEntrypoint.
const (
	// InitEntrypoint is a program, in surroundings such as docker's.
	InitEntrypoint InitMode = "entrypoint"
	// InitSystem is the image's own init. It gets what
	// https://systemd.io/CONTAINER_INTERFACE asks for: a terminal as its console, a
	// cgroup to divide, /run and /tmp in memory, its variables.
	InitSystem InitMode = "system"
)

// Mount binds a directory or file of the share into the root.
type Mount struct {
	Source   string `json:"source"` // below the share, such as volumes/0
	Target   string `json:"target"` // absolute, inside the root
	ReadOnly bool   `json:"readOnly,omitempty"`
}

// Host is one line of /etc/hosts.
type Host struct {
	Address string   `json:"address"`
	Names   []string `json:"names"`
}

// Interface is a network interface, found by its MAC.
type Interface struct {
	Name      string         `json:"name"` // such as eth0
	MAC       string         `json:"mac"`
	MTU       int            `json:"mtu,omitempty"`
	Addresses []netip.Prefix `json:"addresses,omitempty"`
	Routes    []Route        `json:"routes,omitempty"`
}

// Route leads to a destination by another host of the link.
type Route struct {
	To  netip.Prefix `json:"to"`
	Via netip.Addr   `json:"via"`
}

// Request is the entrypoint's process.
func (s *Spec) Request() process.Request {
	return process.Request{
		Args: s.Args, Env: s.Env, User: s.User, Groups: s.GroupAdd, Dir: s.Dir, Hostname: s.Hostname, TTY: s.TTY,
	}
}

// ParseSpec reads and validates a Spec.
func ParseSpec(data []byte) (*Spec, error) {
	var s Spec
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidSpec, err)
	}
	if err := s.Validate(); err != nil {
		return nil, err
	}
	return &s, nil
}

// Marshal validates the Spec and returns the bytes of SpecFile, stamped with
// the version of this package.
func (s *Spec) Marshal() ([]byte, error) {
	out := *s
	out.Version = SpecVersion
	if err := out.Validate(); err != nil {
		return nil, err
	}
	return json.MarshalIndent(&out, "", "  ")
}

// Validate checks what can be known without the root file system.
func (s *Spec) Validate() error {
	switch {
	case s.Version < 1 || s.Version > SpecVersion:
		return fmt.Errorf("%w: version %d, this guest knows 1 to %d", ErrInvalidSpec, s.Version, SpecVersion)
	case len(s.Args) == 0 || s.Args[0] == "":
		return fmt.Errorf("%w: no command", ErrInvalidSpec)
	case s.Dir != "" && !path.IsAbs(s.Dir):
		return fmt.Errorf("%w: working directory %q is not absolute", ErrInvalidSpec, s.Dir)
	case s.Grace < 0:
		return fmt.Errorf("%w: negative grace period %s", ErrInvalidSpec, s.Grace)
	}
	for _, list := range [][]string{s.Args, s.Env} {
		for _, v := range list {
			if strings.IndexByte(v, 0) >= 0 {
				return fmt.Errorf("%w: %q contains a zero byte", ErrInvalidSpec, v)
			}
		}
	}
	if _, err := ParseSignal(s.StopSignal); err != nil {
		return fmt.Errorf("%w: stop signal: %w", ErrInvalidSpec, err)
	}
	if err := s.validateInit(); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidSpec, err)
	}
	if err := s.Options.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidSpec, err)
	}
	for _, m := range s.Mounts {
		if err := m.validate(); err != nil {
			return fmt.Errorf("%w: mount %q: %w", ErrInvalidSpec, m.Target, err)
		}
	}
	return nil
}

func (s *Spec) validateInit() error {
	switch s.InitMode {
	case "", InitEntrypoint:
		return nil
	case InitSystem:
	default:
		return fmt.Errorf("init mode %q: use entrypoint or system", s.InitMode)
	}
	switch {
	case s.Init:
		return errors.New("an image's own init cannot have another one before it: leave out --init, or use --init-mode entrypoint")
	case !s.TTY:
		return errors.New("an image's own init needs a terminal")
	}
	return nil
}

func (m Mount) validate() error {
	switch {
	case !path.IsAbs(m.Target) || path.Clean(m.Target) == "/":
		return errors.New("target must be an absolute path below the root")
	case m.Source == "" || path.IsAbs(m.Source) || path.Clean(m.Source) != m.Source || strings.HasPrefix(m.Source, ".."):
		return fmt.Errorf("source %q must be a clean path below the share", m.Source)
	}
	return nil
}
