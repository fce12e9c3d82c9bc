package launcher

import (
	"crypto/rand"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/slipway-vm/slipway/guest"
	"github.com/slipway-vm/slipway/launcher/output"
	"github.com/slipway-vm/slipway/rootfs"
)

// nameRE is what a server of the local socket may be called: a host name's characters and a few more,
// so that a name never needs quoting.
var nameRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,254}$`)

// The largest sizes that a request may ask for.
const (
	maxVCPUs  = 255
	maxMemory = 16 << 40
	maxDisk   = 16 << 40
)

// validate refuses what can be known to be wrong before any work.
func (s *Spec) validate() error {
	switch {
	case s.Image == "":
		return errorf(ErrInvalid, "no image is named")
	case !validName(s.Name):
		return invalidName(s.Name)
	case s.Hostname != "" && !validHostname(s.Hostname):
		return errorf(ErrInvalid, "host name %q: use letters, digits and '-', 63 characters at most", s.Hostname)
	case s.RootMode != "" && !validRootMode(s.RootMode):
		return unknownRootMode(s.RootMode)
	case !ValidInitMode(s.InitMode):
		return errorf(ErrInvalid, "init mode %q: use entrypoint or system", s.InitMode)
	case s.Dir != "" && !path.IsAbs(s.Dir):
		return errorf(ErrInvalid, "working directory %q is not an absolute path", s.Dir)
	case s.StopGrace != nil && *s.StopGrace < 0, s.Timeout < 0:
		return errorf(ErrInvalid, "a negative time makes no sense")
	case s.LogBytes != nil && *s.LogBytes != 0 && *s.LogBytes < output.MinBytes:
		return errorf(ErrInvalid, "%d bytes are too few for a log file: use at least %d", *s.LogBytes, output.MinBytes)
	case s.LogFiles < 0:
		return errorf(ErrInvalid, "%d log files: use at least 1", s.LogFiles)
	}
	if _, err := pullPolicy(s.Pull); err != nil {
		return err
	}
	if _, err := guest.ParseSignal(s.StopSignal); err != nil {
		return errorf(ErrInvalid, "stop signal: %v", err)
	}
	if err := errors.Join(s.validateSeed(), s.validatePreload()); err != nil {
		return err
	}
	for _, e := range s.Env {
		if name, _, ok := strings.Cut(e, "="); !ok || name == "" {
			return errorf(ErrInvalid, "environment entry %q: use NAME=VALUE", e)
		}
	}
	for _, v := range s.Volumes {
		if err := v.validate(); err != nil {
			return err
		}
	}
	if err := s.validateNetworks(); err != nil {
		return err
	}
	return s.validateOptions()
}

func (v Volume) validate() error {
	switch {
	case !filepath.IsAbs(v.Host):
		return errorf(ErrInvalid, "volume %s: the host directory is not an absolute path", v.Host)
	case !path.IsAbs(v.Guest):
		return errorf(ErrInvalid, "volume %s: the path in the server, %q, is not absolute", v.Host, v.Guest)
	case path.Clean(v.Guest) == "/":
		return errorf(ErrInvalid, "volume %s: it cannot be the root of the server", v.Host)
	}
	return nil
}

// flavor settles a server's size, and what the flavor says of its boot.
func (s *Spec) flavor(known []Flavor, fallback string) (Flavor, error) {
	f, err := s.named(known, fallback)
	if err != nil {
		return f, err
	}
	s.RootMode = first(s.RootMode, f.ExtraSpecs[SpecRootMode])
	s.Kernel = first(s.Kernel, f.ExtraSpecs[SpecKernel])
	s.BaseVMImage = first(s.BaseVMImage, f.ExtraSpecs[SpecBaseVM])
	s.InitMode = guest.InitMode(first(string(s.InitMode), f.ExtraSpecs[SpecInitMode]))
	if s.VCPUs != 0 {
		f.VCPUs = s.VCPUs
	}
	if s.Memory != 0 {
		f.Memory = s.Memory
	}
	if s.Disk != 0 {
		f.Disk = s.Disk
	}
	return f, f.validate()
}

func (f Flavor) validate() error {
	switch {
	case f.VCPUs < 1 || f.VCPUs > maxVCPUs:
		return errorf(ErrInvalid, "%d processors: use 1 to %d", f.VCPUs, maxVCPUs)
	case f.Memory <= 0 || f.Memory > maxMemory:
		return errorf(ErrInvalid, "%d bytes of memory: out of range", f.Memory)
	case f.Disk < rootfs.MinUpper || f.Disk > maxDisk:
		return errorf(ErrInvalid, "%d bytes of disk: use at least %d MiB", f.Disk, rootfs.MinUpper>>20)
	}
	return nil
}

// validName reports whether a server may be called so. Names of the local socket are
// narrower: see checkLocalName.
func validName(s string) bool {
	return len([]rune(s)) <= 255 && strings.TrimSpace(s) == s &&
		!strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

func invalidName(s string) error {
	return errorf(ErrInvalid, "server name %q: use 255 printable characters at most", s)
}

func checkLocalName(s string) error {
	if !nameRE.MatchString(s) {
		return errorf(ErrInvalid, "server name %q: use letters, digits, '_', '.' and '-', and begin with a letter or digit", s)
	}
	return nil
}

// named returns the flavor that is asked for.
func (s *Spec) named(known []Flavor, fallback string) (Flavor, error) {
	if s.Size != nil {
		return *s.Size, nil
	}
	name := first(s.Flavor, fallback)
	i := slices.IndexFunc(known, func(f Flavor) bool { return f.Name == name })
	if i < 0 {
		var names []string
		for _, f := range known {
			names = append(names, f.Name)
		}
		return Flavor{}, errorf(ErrInvalid, "no flavor %q: there are %s", name, strings.Join(names, ", "))
	}
	return known[i], nil
}

// outputLimit is what the server's output log may take.
func (s *Spec) outputLimit(fallback output.Limit) output.Limit {
	if s.LogBytes != nil {
		fallback.Bytes = *s.LogBytes
	}
	if s.LogFiles != 0 {
		fallback.Files = s.LogFiles
	}
	return fallback
}

// process merges what the user asked for over what the image says, as docker does:
// a new entrypoint drops the image's command.
func (s *Spec) process(cfg *v1.Config, hostname string) (*guest.Spec, error) {
	entrypoint, command := cfg.Entrypoint, cfg.Cmd
	if s.Entrypoint != nil {
		entrypoint, command = *s.Entrypoint, nil
	}
	if len(s.Command) > 0 {
		command = s.Command
	}
	g := &guest.Spec{
		Version:    guest.SpecVersion,
		Hostname:   hostname,
		Args:       slices.Concat(entrypoint, command),
		Env:        mergeEnv(cfg.Env, s.Env),
		User:       first(s.User, cfg.User),
		Dir:        first(s.Dir, cfg.WorkingDir),
		StopSignal: first(s.StopSignal, cfg.StopSignal),
		Stdin:      s.Stdin,
		TTY:        s.TTY,

		Nameservers: s.Nameservers, Search: s.DNSSearch, DNSOptions: s.DNSOptions, Hosts: s.Hosts,
		Options: s.Options,
	}
	if s.StopGrace != nil {
		g.Grace = *s.StopGrace
	}
	if err := s.giveInit(g, cfg.Labels[SpecInitMode]); err != nil {
		return nil, err
	}
	for i, v := range s.Volumes {
		g.Mounts = append(g.Mounts, guest.Mount{
			Source:   fmt.Sprintf("%s/%d", guest.VolumeDir, i),
			Target:   path.Clean(v.Guest),
			ReadOnly: v.ReadOnly,
		})
	}
	g.Mounts = append(g.Mounts, s.preloadMounts()...)
	if len(g.Args) == 0 {
		return nil, errorf(ErrInvalid, "the image names no command: give one after the image")
	}
	if err := g.Validate(); err != nil {
		return nil, errorf(ErrInvalid, "%v", err)
	}
	return g, nil
}

// mergeEnv puts override over base; an entry keeps the place of the one it replaces.
func mergeEnv(base, override []string) []string {
	merged := slices.Clone(base)
	for _, e := range override {
		name, _, _ := strings.Cut(e, "=")
		i := slices.IndexFunc(merged, func(m string) bool { return strings.HasPrefix(m, name+"=") })
		if i < 0 {
			merged = append(merged, e)
		} else {
			merged[i] = e
		}
	}
	return merged
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

func validHostname(s string) bool {
	ok := func(r rune) bool {
		return r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
	}
	return len(s) <= 63 && strings.Trim(s, "-") == s && s != "" &&
		!strings.ContainsFunc(s, func(r rune) bool { return !ok(r) })
}

// Hostname makes a host name of a server's name, as Nova does.
func Hostname(name string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(name) {
		if r == ' ' || r == '_' || r == '.' {
			r = '-'
		}
		if validHostname("x" + string(r) + "x") {
			b.WriteRune(r)
		}
	}
	h := strings.Trim(b.String()[:min(b.Len(), 63)], "-")
	return first(h, "server")
}

// defaultName names a server after its image: "oci:.cache/images/hello:latest"
// gives "hello-3f2a91".
func defaultName(image string) string {
	base := imageStem(image)
	var b [3]byte
	_, _ = rand.Read(b[:])
	return fmt.Sprintf("%s-%x", base[:min(len(base), 40)], b)
}

// imageStem is what an image is called, as a host name, without where it is from.
func imageStem(image string) string {
	base, _, _ := strings.Cut(image, "@")
	base = path.Base(strings.TrimSuffix(base, "/"))
	base, _, _ = strings.Cut(base, ":")
	return Hostname(strings.TrimSuffix(base, ".tar"))
}

// newID returns a random UUID (RFC 9562, version 4).
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
