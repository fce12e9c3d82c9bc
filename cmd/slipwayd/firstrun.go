package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"go.yaml.in/yaml/v3"

	"github.com/slipway-vm/slipway/images/content"
	"github.com/slipway-vm/slipway/launcher/api/nova"
	"github.com/slipway-vm/slipway/launcher/identity"
)

// cloudName is what the service is called in clouds.yaml: openstack --os-cloud
// slipway.
const cloudName = "slipway"

// firstRun makes the first user, writes down how to log in as him, and says so,
// once. The files come first: a user whose password nobody knows is of no use.
func (s *service) firstRun(ctx context.Context, stateDir string) error {
	password := identity.NewPassword()
	clouds, err := s.clouds(password)
	if err != nil {
		return err
	}
	for name, text := range map[string][]byte{"clouds.yaml": clouds, "openrc": s.openrc(password)} {
		if err := writePrivate(stateDir, name, text); err != nil {
			return fmt.Errorf("write down the first user: %w", err)
		}
	}
	if err := s.dir.Bootstrap(ctx, password); err != nil {
		return fmt.Errorf("make the first user: %w", err)
	}
	path := filepath.Join(stateDir, "clouds.yaml")
	next := "export OS_CLIENT_CONFIG_FILE=" + path + "\n  "
	written, err := offerClouds(clouds)
	switch {
	case err != nil:
		s.log.Warn("the user's clouds.yaml is not written", "err", err)
	case written != "":
		path, next = written, ""
	}
	fmt.Fprintf(os.Stderr, "slipwayd: made the user admin of the project admin, with the password\n  %s\n"+
		"It stands in %s, and for shells in %s. Now try\n  %sopenstack --os-cloud %s token issue\n",
		password, path, filepath.Join(stateDir, "openrc"), next, cloudName)
	return nil
}

// clouds is the clouds.yaml for this service.
func (s *service) clouds(password string) ([]byte, error) {
	cloud := map[string]any{
		"auth": map[string]any{
			"auth_url": s.localURL() + "/identity/v3", "username": "admin", "password": password,
			"project_name": "admin", "user_domain_name": "Default", "project_domain_name": "Default",
		},
		"region_name": "RegionOne", "identity_api_version": "3",
		"compute_api_version": nova.MaxVersion.String(),
	}
	if s.cfg.TLSCert != "" {
		cloud["cacert"] = s.cfg.TLSCert
	}
	return yaml.Marshal(map[string]any{"clouds": map[string]any{cloudName: cloud}})
}

// openrc says the same as clouds, for a shell to read.
func (s *service) openrc(password string) []byte {
	text := fmt.Sprintf(`export OS_AUTH_URL=%s/identity/v3
export OS_USERNAME=admin
export OS_PASSWORD=%s
export OS_PROJECT_NAME=admin
export OS_USER_DOMAIN_NAME=Default
export OS_PROJECT_DOMAIN_NAME=Default
export OS_REGION_NAME=RegionOne
export OS_IDENTITY_API_VERSION=3
export OS_COMPUTE_API_VERSION=%s
`, s.localURL(), password, nova.MaxVersion)
	if s.cfg.TLSCert != "" {
		text += "export OS_CACERT=" + s.cfg.TLSCert + "\n"
	}
	return []byte(text)
}

// writePrivate puts a file in place that nobody else can read.
func writePrivate(dir, name string, text []byte) error {
	f, err := os.CreateTemp(dir, ".new-")
	if err != nil {
		return err
	}
	if _, err = f.Write(text); err == nil {
		err = content.Commit(f, filepath.Join(dir, name))
	}
	if err != nil {
		content.Discard(f)
		return err
	}
	return f.Close()
}

// offerClouds writes ~/.config/openstack/clouds.yaml for whoever has started the
// service, through sudo as well, where there is none: what a user has written
// himself is left alone. It returns the path where it has written.
func offerClouds(clouds []byte) (path string, err error) {
	home, uid, gid := os.Getenv("HOME"), -1, -1
	if u, g := os.Getenv("SUDO_UID"), os.Getenv("SUDO_GID"); u != "" && os.Getenv("SUDO_HOME") != "" {
		home = os.Getenv("SUDO_HOME")
		if uid, err = strconv.Atoi(u); err != nil {
			return "", err
		}
		if gid, err = strconv.Atoi(g); err != nil {
			return "", err
		}
	}
	if home == "" || home == "/" {
		return "", nil // started by no person
	}
	// Nothing below a home leads out of it: it is not ours.
	root, err := os.OpenRoot(home)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	const dir = ".config/openstack"
	for _, d := range []string{".config", dir} {
		err := root.Mkdir(d, 0o700)
		if err == nil {
			err = root.Lchown(d, uid, gid)
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return "", err
		}
	}
	f, err := root.OpenFile(dir+"/clouds.yaml", os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if _, err = f.Write(clouds); err == nil {
		err = f.Chown(uid, gid)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, root.Remove(dir+"/clouds.yaml"))
	}
	return filepath.Join(home, dir, "clouds.yaml"), nil
}
