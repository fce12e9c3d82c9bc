package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"go.yaml.in/yaml/v3"
)

// cloud is a slipwayd of its own, ready to be used.
type cloud struct {
	dir      string // everything is below it
	bin      string
	cmd      *exec.Cmd
	ended    chan error // what cmd.Wait has given
	url      string
	password string
	image    string // ID of one whose servers run until they are stopped
	other    string // and of another like it
	only     string
	web      string // URL of an image for whoever downloads one
	closeWeb func() error
}

// entrypoint of the images: servers of clients' tests must live until they are told
// to end, and have said some lines.
const entrypoint = `trap 'exit 0' TERM; cat /etc/passwd; echo running; while :; do sleep 1 & wait $!; done`

// chpasswdScript is what Debian's busybox lacks.
const chpasswdScript = `#!/bin/sh
while IFS=: read -r user password; do printf '%s\n%s\n' "$password" "$password" | passwd "$user" || exit; done
`

// patience bounds the service's start.
const patience = 2 * time.Minute

func startCloud(ctx context.Context) (_ *cloud, err error) {
	c := &cloud{bin: os.Getenv("SLIPWAY_TEST_BIN")}
	if c.bin == "" {
		return nil, errors.New("SLIPWAY_TEST_BIN is not set: run it by make test-clients")
	}
	if c.dir, err = os.MkdirTemp("/tmp", "slc"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.end())
		}
	}()
	for _, sub := range []string{"s", "home"} {
		if err := os.Mkdir(filepath.Join(c.dir, sub), 0o700); err != nil {
			return nil, err
		}
	}
	if err := c.serveWeb(ctx); err != nil {
		return nil, err
	}
	if err := c.serve(ctx); err != nil {
		return nil, err
	}
	if err := c.slipway(ctx, "kernel", "import", os.Getenv("SLIPWAY_TEST_KERNEL")); err != nil {
		return nil, err
	}
	for name, id := range map[string]*string{"one": &c.image, "two": &c.other} {
		ref, err := c.makeImage(name)
		if err != nil {
			return nil, err
		}
		if err := c.slipway(ctx, "image", "pull", ref); err != nil {
			return nil, err
		}
		out, err := c.command(ctx, "openstack", "image", "show", ref, "-f", "value", "-c", "id").Output()
		if err != nil {
			return nil, fmt.Errorf("find the image %s: %w", ref, err)
		}
		*id = strings.TrimSpace(string(out))
	}
	for _, words := range [][]string{
		{"network", "create", "--share", "private"}, {"subnet", "create", "--network", "private", "--subnet-range", "10.253.0.0/24", "private4"},
	} {
		if out, err := c.runCommand(ctx, words); err != nil {
			return nil, fmt.Errorf("openstack %q: %w\n%s", words, err, out)
		}
	}
	return c, nil
}

// serveWeb answers any request with the data of an image, as the whole web does for
// clients that have it as their proxy.
func (c *cloud) serveWeb(ctx context.Context) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	web := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, 64<<10)) // a disk of zeros
	})}
	go func() { _ = web.Serve(l) }()
	c.web, c.closeWeb = "http://"+l.Addr().String(), web.Close
	return nil
}

// serve starts slipwayd and learns how to log in.
func (c *cloud) serve(ctx context.Context) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(c.dir, "slipwayd.log"))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	c.url = "http://" + address
	c.cmd = exec.Command(filepath.Join(c.bin, "slipwayd"), "--state-dir", filepath.Join(c.dir, "s"), "--listen", address) //nolint:noctx // it is ended by a signal
	c.cmd.Env = append(os.Environ(), "HOME="+filepath.Join(c.dir, "home"), "SUDO_UID=",
		"SLIPWAY_IMAGES_DOWNLOAD_HOSTS="+strings.TrimPrefix(c.web, "http://")+",does-not.exist,download.cirros-cloud.net")
	c.cmd.Stderr = log
	if err := c.cmd.Start(); err != nil {
		c.cmd = nil
		return err
	}
	c.ended = make(chan error, 1)
	go func() { c.ended <- c.cmd.Wait() }()
	for limit := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+"/healthz", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(r)
		if err == nil {
			_ = resp.Body.Close()
			break
		}
		if len(c.ended) > 0 || time.Now().After(limit) {
			text, _ := os.ReadFile(log.Name())
			return fmt.Errorf("slipwayd does not answer: %w\n%s", err, text)
		}
	}
	data, err := os.ReadFile(filepath.Join(c.dir, "s/clouds.yaml"))
	if err != nil {
		return err
	}
	var file struct {
		Clouds map[string]struct {
			Auth struct {
				Password string `yaml:"password"`
			} `yaml:"auth"`
		} `yaml:"clouds"`
	}
	err = yaml.Unmarshal(data, &file)
	c.password = file.Clouds["slipway"].Auth.Password
	return err
}

// end ends the service, and removes all there is of it. Servers that tests have left
// are deleted.
func (c *cloud) end() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var errs []error
	if c.cmd != nil && len(c.ended) == 0 {
		out, err := c.slipwayCommand(ctx, "server", "list", "-f", "value", "-c", "ID").Output()
		errs = append(errs, err)
		if ids := strings.Fields(string(out)); len(ids) > 0 {
			errs = append(errs, c.slipway(ctx, append([]string{"server", "delete"}, ids...)...))
		}
		errs = append(errs, c.cmd.Process.Signal(syscall.SIGTERM), <-c.ended)
	}
	if c.closeWeb != nil {
		errs = append(errs, c.closeWeb())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w; what there is of it is in %s", err, c.dir)
	}
	return os.RemoveAll(c.dir)
}

func (c *cloud) slipwayCommand(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, "slipway"), args...)
	cmd.Env = append(os.Environ(), "SLIPWAY_STATE_DIR="+filepath.Join(c.dir, "s"))
	return cmd
}

func (c *cloud) slipway(ctx context.Context, args ...string) error {
	if out, err := c.slipwayCommand(ctx, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("slipway %q: %w\n%s", args, err, out)
	}
	return nil
}

// command is one of a client that finds the cloud in its environment.
func (c *cloud) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	// What it has started ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "OS_") && !strings.HasPrefix(e, "SLIPWAY_") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Env = append(cmd.Env, "OS_AUTH_URL="+c.url+"/identity/v3", "OS_USERNAME=admin", "OS_PASSWORD="+c.password,
		"OS_PROJECT_NAME=admin", "OS_USER_DOMAIN_NAME=Default", "OS_PROJECT_DOMAIN_NAME=Default", "OS_REGION_NAME=RegionOne",
		"OS_IDENTITY_API_VERSION=3", "OS_COMPUTE_API_VERSION=2.90")
	return cmd
}

// makeImage makes an image of busybox whose servers stay, and returns its reference.
func (c *cloud) makeImage(name string) (string, error) {
	from, err := layout.ImageIndexFromPath(filepath.Join(os.Getenv("SLIPWAY_TEST_IMAGES"), "busybox"))
	if err != nil {
		return "", err
	}
	manifest, err := from.IndexManifest()
	if err != nil {
		return "", err
	}
	img, err := from.Image(manifest.Manifests[0].Digest)
	if err != nil {
		return "", err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return "", err
	}
	config = config.DeepCopy()
	config.Config.Entrypoint, config.Config.Cmd = []string{"/bin/sh", "-c", entrypoint, name}, nil
	if img, err = mutate.ConfigFile(img, config); err != nil {
		return "", err
	}
	chpasswd, err := layerOf("usr/local/bin/chpasswd", chpasswdScript)
	if err != nil {
		return "", err
	}
	if img, err = mutate.AppendLayers(img, chpasswd); err != nil {
		return "", err
	}
	dir := filepath.Join(c.dir, name)
	to, err := layout.Write(dir, empty.Index)
	if err != nil {
		return "", err
	}
	return "oci:" + dir, to.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "latest"}))
}

// layerOf makes a layer of one program.
func layerOf(path, text string) (v1.Layer, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{Name: path, Mode: 0o755, Size: int64(len(text))})
	if err == nil {
		_, err = w.Write([]byte(text))
	}
	if err := errors.Join(err, w.Close()); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
}
