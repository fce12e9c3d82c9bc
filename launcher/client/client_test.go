package client_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/slipway-vm/slipway/guest"
	"github.com/slipway-vm/slipway/guest/agent"
	"github.com/slipway-vm/slipway/images"
	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api"
	"github.com/slipway-vm/slipway/launcher/client"
	"github.com/slipway-vm/slipway/launcher/launchertest"
	"github.com/slipway-vm/slipway/launcher/output"
	"github.com/slipway-vm/slipway/rootfs"
)

// newEngine serves a manager with a fake hypervisor, and returns a client of it
// and an image that it can boot.
func newEngine(t *testing.T) (*client.Client, string) {
	t.Helper()
	ctx := t.Context()
	dir, err := os.MkdirTemp("/tmp", "slw") //nolint:usetesting // t.TempDir is too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	roots, err := rootfs.Open(ctx, rootfs.Config{Dir: filepath.Join(dir, "rootfs")})
	if err != nil {
		t.Fatal(err)
	}
	pulled, err := images.Open(images.Config{Dir: filepath.Join(dir, "images")})
	if err != nil {
		t.Fatal(err)
	}
	kernels, err := guest.OpenKernels(filepath.Join(dir, "kernels"))
	if err != nil {
		t.Fatal(err)
	}
	programs := map[string]launchertest.Program{"/wait": func(ctx context.Context, p *launchertest.Process) agent.Exit {
		p.Write(ctx, agent.Stdout, "one\ntwo\n")
		p.Write(ctx, agent.Stderr, "three\n")
		select {
		case <-p.Stop:
			return agent.Exit{Code: 5}
		case <-ctx.Done():
			return agent.Exit{}
		}
	}}
	m, err := launcher.New(ctx, launcher.Config{
		Dir: filepath.Join(dir, "servers"), Images: pulled, Roots: roots,
		Kernels: launchertest.Kernels{}, Host: launchertest.Host{}, Store: &launchertest.Store{},
		Hypervisor: &launchertest.Hypervisor{Programs: programs}, DomainPrefix: "test-", Init: "/test/init",
		Flavors:       []launcher.Flavor{{Name: "tiny", VCPUs: 1, Memory: 128 << 20, Disk: 64 << 20}},
		DefaultFlavor: "tiny",
	})
	if err != nil {
		t.Fatal(err)
	}
	facts := func(context.Context) api.Info { return api.Info{Version: "test"} }
	socket := filepath.Join(dir, client.SocketFile)
	l, err := new(net.ListenConfig).Listen(ctx, "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: api.New(m, nil, kernels, facts, nil), ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() {
		for _, s := range m.Servers() {
			if err := m.Delete(context.WithoutCancel(ctx), s.ID); err != nil {
				t.Error(err)
			}
		}
		if err := errors.Join(server.Close(), m.Close(), roots.Close(), os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	return client.New(socket), launchertest.Image(t, v1.Config{Cmd: []string{"/wait"}}, "wait")
}

func TestServerThroughTheSocket(t *testing.T) {
	c, image := newEngine(t)
	ctx := t.Context()
	if info, err := c.Info(ctx); err != nil || info.Version != "test" {
		t.Fatalf("%+v, %v", info, err)
	}
	if list, err := c.Servers(ctx); err != nil || list == nil || len(list) != 0 {
		t.Errorf("no servers: %v, %v", list, err)
	}
	srv, err := c.Create(ctx, api.CreateBody{Spec: launcher.Spec{Name: "web", Image: image}})
	if err != nil {
		t.Fatal(err)
	}
	err = c.Watch(ctx, "web", func(s launcher.Server) bool { return s.VMState == launcher.VMActive })
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan string)
	go func() {
		var b strings.Builder
		_ = c.Output(ctx, "web", client.OutputQuery{Stream: "stdout", Run: "latest", Follow: true}, func(r output.Record) error {
			b.Write(r.Data)
			return nil
		})
		read <- b.String()
	}()
	if err := c.Signal(ctx, "web", "NOSUCH"); !errors.Is(err, launcher.ErrInvalid) {
		t.Errorf("an unknown signal: %v", err)
	}
	if err := c.Start(ctx, "web"); !errors.Is(err, launcher.ErrConflict) {
		t.Errorf("start of an active server: %v", err)
	}
	if err := c.Stop(ctx, "web", nil); err != nil {
		t.Fatal(err)
	}
	if got := <-read; got != "one\ntwo\n" {
		t.Errorf("followed %q", got)
	}
	err = c.Output(ctx, "web", client.OutputQuery{Tail: "1"}, func(r output.Record) error {
		if r.Stream != output.Stderr || string(r.Data) != "three\n" {
			t.Errorf("the last line is %q", r.Data)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if got, err := c.Server(ctx, srv.ID); err != nil || got.Exit == nil || got.Exit.Code != 5 {
		t.Errorf("stopped: %+v, %v", got.Exit, err)
	}
	if err := c.Delete(ctx, "web"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Server(ctx, "web"); !errors.Is(err, launcher.ErrNotFound) {
		t.Errorf("deleted: %v", err)
	}
}

func TestImagesThroughTheSocket(t *testing.T) {
	c, image := newEngine(t)
	ctx := t.Context()
	for n, want := range []bool{true, false} {
		reports := 0
		img, err := c.Pull(ctx, api.PullBody{Image: image, Pull: "always"}, func(launcher.PullProgress) { reports++ })
		if err != nil || img.New != want || reports == 0 {
			t.Fatalf("pull %d: new %v after %d reports, %v", n, img.New, reports, err)
		}
	}
	_, err := c.Pull(ctx, api.PullBody{Image: "oci:/nonexistent"}, func(launcher.PullProgress) {})
	if err == nil || !strings.Contains(err.Error(), "/nonexistent") {
		t.Errorf("pull of nothing: %v", err)
	}
	if list, err := c.Images(ctx); err != nil || len(list) != 1 {
		t.Errorf("images: %v, %v", list, err)
	}
	if img, err := c.Image(ctx, image); err != nil || img.Alone == 0 {
		t.Errorf("image: %+v, %v", img, err)
	}
	if err := c.DeleteImage(ctx, image, false); err != nil {
		t.Error(err)
	}
	if _, err := c.Image(ctx, image); !errors.Is(err, launcher.ErrNotFound) {
		t.Errorf("deleted: %v", err)
	}
}

// An image comes through the socket too, larger than any other request.
func TestLoadThroughTheSocket(t *testing.T) {
	c, image := newEngine(t)
	ctx := t.Context()
	archive := filepath.Join(t.TempDir(), "image.tar")
	dir := strings.TrimSuffix(strings.TrimPrefix(image, "oci:"), ":latest")
	if out, err := exec.Command("tar", "-C", dir, "-cf", archive, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	load := func(ref string, more int64) (launcher.Image, error) {
		f, err := os.Open(archive)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		return c.Load(ctx, ref, io.MultiReader(f, io.LimitReader(zeros{}, more)), func(launcher.PullProgress) {})
	}
	img, err := load("oci-archive:-", 32<<20)
	if err != nil || !img.New {
		t.Fatalf("%+v, %v", img, err)
	}
	if _, err := c.Create(ctx, api.CreateBody{Spec: launcher.Spec{Name: "web", Image: img.ID, Pull: "never"}}); err != nil {
		t.Fatal(err)
	}
	if err := c.Watch(ctx, "web", func(s launcher.Server) bool { return s.VMState == launcher.VMActive }); err != nil {
		t.Error(err)
	}
	if srv, err := c.Server(ctx, "web"); err != nil || srv.VMState != launcher.VMActive {
		t.Errorf("server %+v, %v", srv, err)
	}
	if _, err := load("docker-archive:-", 0); err == nil || !strings.Contains(err.Error(), "not an archive of docker save") {
		t.Errorf("an archive of another kind: %v", err)
	}
	// Refused before it has been read.
	if _, err := load("oci:/somewhere", 32<<20); !errors.Is(err, launcher.ErrInvalid) {
		t.Errorf("an image that is in no standard input: %v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestBadRequests(t *testing.T) {
	c, image := newEngine(t)
	ctx := t.Context()
	if _, err := c.Create(ctx, api.CreateBody{Spec: launcher.Spec{Image: image, Flavor: "huge"}}); !errors.Is(err, launcher.ErrInvalid) {
		t.Errorf("an unknown flavor: %v", err)
	}
	err := c.Output(ctx, "nosuch", client.OutputQuery{}, func(output.Record) error { return nil })
	if !errors.Is(err, launcher.ErrNotFound) {
		t.Errorf("output of no server: %v", err)
	}
	if _, err := c.ImportKernel(ctx, "/nonexistent"); err == nil {
		t.Error("a kernel that is not there was imported")
	}
}

func TestConnectRefusesLongPaths(t *testing.T) {
	e := client.Engine{StateDir: "/" + strings.Repeat("x", client.MaxStateDir), Program: "/nonexistent"}
	if _, err := e.Connect(t.Context()); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("connected with %v", err)
	}
}

// TestEngineThatDoesNotStart has programs fail where the engine should start.
func TestEngineThatDoesNotStart(t *testing.T) {
	for script, says := range map[string]string{
		"echo 'slipwayd: no libvirt here' >&2; exit 1":                                      "no libvirt here",
		"echo 'slipwayd: error while loading shared libraries: libvirt.so.0' >&2; exit 127": "install libvirt0",
	} {
		dir := t.TempDir()
		program := filepath.Join(dir, "slipwayd")
		if err := os.WriteFile(program, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil { //nolint:gosec // a program
			t.Fatal(err)
		}
		state, err := os.MkdirTemp("/tmp", "slw") //nolint:usetesting // t.TempDir is too long
		if err != nil {
			t.Fatal(err)
		}
		e := client.Engine{StateDir: state, Program: program}
		if _, err := e.Connect(t.Context()); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", script, err)
		}
		if err := os.RemoveAll(state); err != nil {
			t.Error(err)
		}
	}
}
