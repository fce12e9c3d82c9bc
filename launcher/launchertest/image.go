package launchertest

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/slipway-vm/slipway/guest"
	"github.com/slipway-vm/slipway/launcher"
)

// Image makes an OCI layout of one layer that has executables of these names,
// and returns its reference.
func Image(t testing.TB, config v1.Config, executables ...string) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range executables {
		h := &tar.Header{Name: name, Mode: 0o755, Size: 4, Typeflag: tar.TypeReg}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("#!/\n")); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config = "linux", "amd64", config
	if img, err = mutate.ConfigFile(img, file); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "image")
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "latest"})); err != nil {
		t.Fatal(err)
	}
	return "oci:" + dir
}

// Host answers for a machine without asking it. It implements launcher.Host.
type Host struct{}

// Accelerator is always emulation.
func (Host) Accelerator(context.Context, guest.Kernel) (guest.Accel, error) {
	return guest.AccelTCG, nil
}

// TSCKHz is a number that is easy to recognise.
func (Host) TSCKHz() int { return 2500000 }

// MemoryFree is plenty.
func (Host) MemoryFree() (int64, error) { return 1 << 40, nil }

// Virtiofsd is a path that nothing runs.
func (Host) Virtiofsd() (string, error) { return "/usr/libexec/virtiofsd", nil }

// Emulator is a path that nothing runs.
func (Host) Emulator() (string, error) { return "/usr/bin/qemu-system-x86_64", nil }

// Store keeps records in memory, and fails when told to. It implements
// launcher.Store.
type Store struct {
	mu      sync.Mutex
	records map[string]launcher.Server
	order   []string
	actions map[string][]launcher.ActionRecord
	// Fail, where set, is asked before each Save.
	Fail func(s *launcher.Server) error
}

// Save implements launcher.Store.
func (s *Store) Save(_ context.Context, srv *launcher.Server, actions ...launcher.ActionRecord) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Fail != nil {
		if err := s.Fail(srv); err != nil {
			return err
		}
	}
	if s.records == nil {
		s.records = map[string]launcher.Server{}
	}
	if _, known := s.records[srv.ID]; !known {
		s.order = append(s.order, srv.ID)
	}
	s.records[srv.ID] = *srv
	if s.actions == nil {
		s.actions = map[string][]launcher.ActionRecord{}
	}
	for _, a := range actions {
		known := slices.IndexFunc(s.actions[a.Server], func(b launcher.ActionRecord) bool { return b.Request == a.Request && b.Start.Equal(a.Start) })
		if known >= 0 {
			s.actions[a.Server][known] = a
		} else {
			s.actions[a.Server] = append(s.actions[a.Server], a)
		}
	}
	return nil
}

// Actions implements launcher.Store.
func (s *Store) Actions(_ context.Context, server string) ([]launcher.ActionRecord, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.actions[server]), nil
}

// Remove implements launcher.Store.
func (s *Store) Remove(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.records, id)
	delete(s.actions, id)
	return nil
}

// Servers implements launcher.Store.
func (s *Store) Servers(context.Context) ([]*launcher.Server, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*launcher.Server
	for _, id := range s.order {
		if srv, ok := s.records[id]; ok {
			all = append(all, &srv)
		}
	}
	return all, nil
}

// Kernels has one kernel, called test. It implements launcher.Kernels.
type Kernels struct {
	// Path is that of the kernel, /test/vmlinux where it is empty.
	Path string
}

// Lookup implements launcher.Kernels.
func (k Kernels) Lookup(_ context.Context, ref string) (guest.Kernel, error) {
	if ref != "" && ref != "test" {
		return guest.Kernel{}, fmt.Errorf("%w: %s", guest.ErrKernelNotFound, ref)
	}
	return guest.Kernel{Name: "test", Digest: "sha256:00", Path: cmp.Or(k.Path, "/test/vmlinux"), MinMemory: 64 << 20}, nil
}

// Initramfs implements launcher.Kernels.
func (Kernels) Initramfs(context.Context, guest.Kernel, string) (string, error) {
	return "/test/initramfs", nil
}
