package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Bounds of what a flavor can be; what an image or a kernel needs besides is
// known only when a server is made.
const (
	maxVCPUs  = 255
	minMemory = 64 * MiB
	minDisk   = 16 * MiB
)

// check tells what is wrong with one setting by itself.
func (s setting) check() error {
	c := Default()
	if err := decode(s.value, fields(c)[s.key]); err != nil {
		return err
	}
	return checks[s.key](c)
}

// checks holds the test that each setting must pass.
var checks = map[string]func(*Config) error{
	"state_dir":             func(c *Config) error { return notEmpty(c.StateDir) },
	"log.level":             func(c *Config) error { return oneOf(c.Log.Level, "debug", "info", "warn", "error") },
	"log.format":            func(c *Config) error { return oneOf(c.Log.Format, "text", "json") },
	"engine.idle_timeout":   func(c *Config) error { return atLeast(c.Engine.IdleTimeout, 0) },
	"api.listen":            func(c *Config) error { return address(c.API.Listen) },
	"api.public_url":        func(c *Config) error { return publicURL(c.API.PublicURL) },
	"api.tls_cert":          func(c *Config) error { return absoluteOrEmpty(c.API.TLSCert) },
	"api.tls_key":           func(c *Config) error { return absoluteOrEmpty(c.API.TLSKey) },
	"api.token_life":        func(c *Config) error { return atLeast(c.API.TokenLife, time.Minute) },
	"api.rate_limit":        func(c *Config) error { return atLeast(c.API.RateLimit, 0) },
	"libvirt.uri":           func(c *Config) error { return libvirtURI(c.Libvirt.URI) },
	"libvirt.accel":         func(c *Config) error { return oneOf(c.Libvirt.Accel, "auto", "kvm", "tcg") },
	"boot.root":             func(c *Config) error { return oneOf(c.Boot.Root, "virtiofs", "9p", "block") },
	"boot.flavor":           func(c *Config) error { return notEmpty(c.Boot.Flavor) },
	"boot.kernel":           func(*Config) error { return nil }, // the engine knows which there are
	"boot.base_vm_image":    func(c *Config) error { return absoluteOrEmpty(c.Boot.BaseVM) },
	"boot.timeout":          func(c *Config) error { return atLeast(c.Boot.Timeout, time.Second) },
	"boot.stop_grace":       func(c *Config) error { return atLeast(c.Boot.StopGrace, 0) },
	"boot.standby":          func(c *Config) error { return atLeast(c.Boot.Standby, 0) },
	"logs.max_size":         func(c *Config) error { return zeroOr(c.Logs.MaxSize, 64*KiB) },
	"logs.max_files":        func(c *Config) error { return atLeast(c.Logs.MaxFiles, 1) },
	"logs.max_console":      func(c *Config) error { return zeroOr(c.Logs.MaxConsole, 64*KiB) },
	"images.download_hosts": func(c *Config) error { return each(c.Images.DownloadHosts, host) },
	"images.insecure_registries": func(c *Config) error {
		return each(c.Images.InsecureRegistries, host)
	},
	"images.mirrors": func(c *Config) error {
		for registry, mirrors := range c.Images.Mirrors {
			if err := errors.Join(host(registry), each(mirrors, host)); err != nil {
				return err
			}
			if len(mirrors) == 0 {
				return fmt.Errorf("%s has no mirrors", registry)
			}
		}
		return nil
	},
	"images.ca_files": func(c *Config) error {
		return each(c.Images.CAFiles, func(path string) error {
			if !filepath.IsAbs(path) {
				return fmt.Errorf("%q is not an absolute path", path)
			}
			return nil
		})
	},
	"images.max_unpacked":  func(c *Config) error { return atLeast(c.Images.MaxUnpacked, MiB) },
	"images.max_store":     func(c *Config) error { return atLeast(c.Images.MaxStore, 0) },
	"images.max_memory":    func(c *Config) error { return atLeast(c.Images.MaxMemory, 16*MiB) },
	"images.max_inodes":    func(c *Config) error { return atLeast(c.Images.MaxInodes, 1) },
	"cloud.name":           func(*Config) error { return nil },
	"cloud.file":           func(c *Config) error { return absoluteOrEmpty(c.Cloud.File) },
	"identity.url":         func(c *Config) error { return publicURL(c.Identity.URL) },
	"identity.token_cache": func(c *Config) error { return atLeast(c.Identity.TokenCache, 0) },
	"image.url":            func(c *Config) error { return publicURL(c.Image.URL) },
	"network.url":          func(c *Config) error { return publicURL(c.Network.URL) },
	"network.host":         func(*Config) error { return nil },
	"network.ovsdb":        func(*Config) error { return nil },
	"flavors":              func(c *Config) error { return checkFlavors(c.Flavors) },
}

// checkTogether tests what one setting asks of another.
func (c *Config) checkTogether(origins map[string]string) error {
	for key, other := range map[string]string{"api.tls_cert": c.API.TLSKey, "api.tls_key": c.API.TLSCert} {
		if origin, ok := origins[key]; ok && other == "" && c.API.TLSCert+c.API.TLSKey != "" {
			return fmt.Errorf("%s: api.tls_cert and api.tls_key are needed together", origin)
		}
	}
	for key, url := range map[string]string{"identity.url": c.Identity.URL, "image.url": c.Image.URL, "network.url": c.Network.URL} {
		if url != "" && c.Cloud.Name == "" {
			return fmt.Errorf("%s: %s needs cloud.name: as whom Slipway logs in", origins[key], key)
		}
	}
	if c.Network.URL != "" && c.Identity.URL == "" {
		return fmt.Errorf("%s: network.url needs identity.url: Neutron knows the projects of its Keystone", origins["network.url"])
	}
	var names []string
	for _, f := range c.Flavors {
		names = append(names, f.Name)
	}
	if slices.Contains(names, c.Boot.Flavor) {
		return nil
	}
	origin, ok := origins["boot.flavor"]
	if !ok {
		origin = origins["flavors"]
	}
	return fmt.Errorf("%s: boot.flavor: %q is not one of the flavors %s", origin, c.Boot.Flavor, strings.Join(names, ", "))
}

func checkFlavors(flavors []Flavor) error {
	if len(flavors) == 0 {
		return errors.New("there must be one at least")
	}
	seen := map[string]bool{}
	return each(flavors, func(f Flavor) error {
		defer func() { seen[f.Name] = true }()
		switch {
		case !flavorName.MatchString(f.Name):
			return fmt.Errorf("%q cannot be a name: it takes letters, digits and . _ - ", f.Name)
		case seen[f.Name]:
			return fmt.Errorf("%s stands there twice", f.Name)
		case f.VCPUs < 1 || f.VCPUs > maxVCPUs:
			return fmt.Errorf("%s: vcpus %d is not between 1 and %d", f.Name, f.VCPUs, maxVCPUs)
		case f.Memory < minMemory || f.Memory%MiB != 0:
			return fmt.Errorf("%s: memory %s is less than %s or not whole MiB", f.Name, f.Memory, minMemory)
		case f.Disk < minDisk || f.Disk%MiB != 0:
			return fmt.Errorf("%s: disk %s is less than %s or not whole MiB", f.Name, f.Disk, minDisk)
		}
		return nil
	})
}

var (
	flavorName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	hostPort   = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?$`)
)

func each[T any](list []T, check func(T) error) error {
	for _, item := range list {
		if err := check(item); err != nil {
			return err
		}
	}
	return nil
}

func notEmpty(s string) error {
	if strings.TrimSpace(s) == "" {
		return errors.New("it is empty")
	}
	return nil
}

func oneOf(s string, words ...string) error {
	if !slices.Contains(words, s) {
		return fmt.Errorf("%q is not one of %s", s, strings.Join(words, ", "))
	}
	return nil
}

func atLeast[T time.Duration | Size | int64](v, least T) error {
	if v < least {
		return fmt.Errorf("%v is less than %v", v, least)
	}
	return nil
}

// zeroOr takes 0 for no limit.
func zeroOr(v, least Size) error {
	if v == 0 {
		return nil
	}
	return atLeast(v, least)
}

func host(s string) error {
	if !hostPort.MatchString(s) {
		return fmt.Errorf("%q is not a host or host:port", s)
	}
	return nil
}

func address(s string) error {
	if s == "" {
		return nil
	}
	if _, port, err := net.SplitHostPort(s); err != nil || port == "" {
		return fmt.Errorf("%q is not an address such as 127.0.0.1:8774 or :8774", s)
	}
	return nil
}

func publicURL(s string) error {
	if s == "" {
		return nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.User != nil {
		return fmt.Errorf("%q is not a URL such as https://cloud.example.org", s)
	}
	return nil
}

func absoluteOrEmpty(path string) error {
	if path != "" && !filepath.IsAbs(path) {
		return fmt.Errorf("%q is not an absolute path", path)
	}
	return nil
}

func libvirtURI(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Path == "" || u.Scheme != "qemu" && !strings.HasPrefix(u.Scheme, "qemu+") {
		return fmt.Errorf("%q is not a libvirt URI such as qemu:///embed or qemu:///system", s)
	}
	return nil
}
