package configure

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/cloudinit"
	"github.com/slipway-vm/slipway/guest/process"
)

func (s *System) writeFiles(_ context.Context, u *cloudinit.UserData) error {
	return s.writeAll(u.Config.WriteFiles, false)
}

// deferredFiles are written once users exist.
func (s *System) deferredFiles(_ context.Context, u *cloudinit.UserData) error {
	return s.writeAll(u.Config.WriteFiles, true)
}

func (s *System) writeAll(files []cloudinit.WriteFile, deferred bool) error {
	var bad []error
	for _, f := range files {
		if f.Defer != deferred {
			continue
		}
		if err := s.write(f); err != nil {
			bad = append(bad, err)
		}
	}
	return errors.Join(bad...)
}

func (s *System) write(f cloudinit.WriteFile) error {
	path := s.path(f.Path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	flags := os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	if f.Append {
		flags = os.O_WRONLY | os.O_CREATE | os.O_APPEND
	}
	file, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(f.Content)
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	// The owner first: changing it takes set-user-ID away.
	if err := s.chown(path, f.Owner); err != nil {
		return fmt.Errorf("%s: %w", f.Path, err)
	}
	return os.Chmod(path, f.Mode)
}

// chown gives a file to user:group of the root.
func (s *System) chown(path, owner string) error {
	id, err := s.identity(owner)
	if err != nil {
		return err
	}
	return os.Lchown(path, int(id.UID), int(id.GID))
}

func (s *System) identity(owner string) (process.Identity, error) {
	root, err := process.OpenRoot(s.Root)
	if err != nil {
		return process.Identity{}, err
	}
	defer root.Close()
	return root.LookupUser(owner)
}

// timezone points /etc/localtime at the image's own description of the zone.
func (s *System) timezone(_ context.Context, u *cloudinit.UserData) error {
	zone := u.Config.Timezone
	if zone == "" {
		return nil
	}
	file := filepath.Join("/usr/share/zoneinfo", zone)
	if _, err := os.Stat(s.path(file)); err != nil {
		return fmt.Errorf("the image does not know %s; it has no %s", zone, file)
	}
	link := s.path("/etc/localtime")
	if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return errors.Join(os.Symlink(file, link), s.writeFile("/etc/timezone", []byte(zone+"\n"), 0o644))
}

// timeServers names them to the clients that Debian's images have. The clock itself
// is the host's to keep.
func (s *System) timeServers(_ context.Context, u *cloudinit.UserData) error {
	ntp := u.Config.NTP
	if !ntp.Enabled || len(ntp.Servers)+len(ntp.Pools) == 0 {
		return nil
	}
	conf := "[Time]\nNTP=" + strings.Join(append(append([]string(nil), ntp.Servers...), ntp.Pools...), " ") + "\n"
	err := s.writeFile("/etc/systemd/timesyncd.conf.d/cloud-init.conf", []byte(conf), 0o644)
	if _, statErr := os.Stat(s.path("/etc/chrony")); statErr != nil {
		return err
	}
	var sources strings.Builder
	for _, server := range ntp.Servers {
		fmt.Fprintf(&sources, "server %s iburst\n", server)
	}
	for _, pool := range ntp.Pools {
		fmt.Fprintf(&sources, "pool %s iburst\n", pool)
	}
	return errors.Join(err, s.writeFile("/etc/chrony/sources.d/cloud-init.sources", []byte(sources.String()), 0o644))
}

// bundles are the files of trusted certificates, Debian's and Alpine's first.
var bundles = []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"}

// trust adds certificates to the bundle that the image's programs read, and where
// the image's own tool will find them when it makes the bundle anew.
func (s *System) trust(_ context.Context, u *cloudinit.UserData) error {
	certs := u.Config.CACerts
	if len(certs.Trusted) == 0 && !certs.RemoveDefaults {
		return nil
	}
	bundle := bundles[0]
	for _, b := range bundles {
		if _, err := os.Stat(s.path(b)); err == nil {
			bundle = b
			break
		}
	}
	var data []byte
	if !certs.RemoveDefaults {
		var err error
		if data, err = os.ReadFile(s.path(bundle)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	for i, cert := range certs.Trusted {
		cert = strings.TrimSpace(cert) + "\n"
		data = append(data, cert...)
		name := fmt.Sprintf("/usr/local/share/ca-certificates/cloud-init-ca-cert-%d.crt", i+1)
		if err := s.writeFile(name, []byte(cert), 0o644); err != nil {
			return err
		}
	}
	return s.writeFile(bundle, data, 0o644)
}

// swap makes the swap file where it is missing, and swaps to it.
func (s *System) swap(_ context.Context, u *cloudinit.UserData) error {
	swap := u.Config.Swap
	if swap == nil {
		return nil
	}
	path := s.path(swap.File)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		size := swap.Size
		if size == cloudinit.SizeAuto {
			size = min(s.Memory, 8<<30)
		}
		if swap.MaxSize > 0 {
			size = min(size, swap.MaxSize)
		}
		if err := makeSwap(path, size); err != nil {
			return errors.Join(err, os.Remove(path))
		}
	}
	if err := s.SwapOn(path); err != nil {
		return fmt.Errorf("swap to %s: %w", swap.File, err)
	}
	return nil
}

// makeSwap writes what mkswap(8) does: version 1, whole pages, the signature at the
// first one's end.
func makeSwap(path string, size int64) (err error) {
	const page = 4096
	pages := size / page
	if pages < 10 {
		return fmt.Errorf("a swap file of %d bytes is too small", size)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, pages*page); err != nil {
		return fmt.Errorf("make a swap file of %d bytes: %w", size, err)
	}
	header := make([]byte, page)
	header[1024] = 1 // version
	for i := range 4 {
		header[1028+i] = byte((pages - 1) >> (8 * i)) // last page
	}
	copy(header[page-10:], "SWAPSPACE2")
	_, err = f.WriteAt(header, 0)
	return err
}
