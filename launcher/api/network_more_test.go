package api_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api"
)

// pull makes the site's image ready, and returns what members name it by.
func (s *site) pull() string {
	s.t.Helper()
	img, err := s.m.Pull(s.t.Context(), s.image, "missing", nil, func(launcher.PullProgress) {})
	if err != nil {
		s.t.Fatal(err)
	}
	return img.ID
}

// A server is booted for the caller's project, as its flavor and its quotas allow, and
// what is of the service's host is the administrators'.
func TestNetworkBoot(t *testing.T) {
	s := newSite(t)
	image, ctx := s.pull(), t.Context()
	made, err := s.as("owner").Create(ctx, api.CreateBody{Spec: launcher.Spec{Name: "mine", Image: image, CloudInit: []byte("#!/bin/sh\n")}})
	if err != nil || made.Project != "p1" || made.User != "u1" || made.UserData != "" || made.Flavor.Name != "tiny" {
		t.Fatalf("made %+v, %v", made, err)
	}
	if _, err := s.as("other").Server(ctx, made.ID); !errors.Is(err, launcher.ErrNotFound) {
		t.Errorf("another project's: %v", err)
	}
	large := int64(1 << 30)
	none := int64(0)
	for what, spec := range map[string]launcher.Spec{
		"volume": {Volumes: []launcher.Volume{{Host: "/tmp", Guest: "/x"}}}, "publish": {Publish: []launcher.Publish{{GuestPort: 80}}},
		"seed disk": {SeedDisk: "/etc/passwd"}, "base VM image": {BaseVMImage: "/etc/passwd"}, "kernel file": {Kernel: "/boot/vmlinuz"},
		"more memory": {Memory: large}, "host's network": {Networks: []launcher.NetworkRequest{{Network: launcher.NetworkHostUser}}},
		"unbounded log": {LogBytes: &none}, "file": {Image: s.image},
	} {
		if spec.Name = "x"; spec.Image == "" {
			spec.Image = image
		}
		if _, err := s.as("owner").Create(ctx, api.CreateBody{Spec: spec}); !errors.Is(err, launcher.ErrForbidden) {
			t.Errorf("%s: %v", what, err)
		}
	}
	auth := &launcher.Credentials{Registry: "r", Auth: authn.AuthConfig{Username: "u"}}
	if _, err := s.as("owner").Create(ctx, api.CreateBody{Spec: launcher.Spec{Image: image}, Credentials: auth}); !errors.Is(err, launcher.ErrForbidden) {
		t.Errorf("credentials: %v", err)
	}
	if _, err := s.as("reader").Create(ctx, api.CreateBody{Spec: launcher.Spec{Image: image}}); !errors.Is(err, launcher.ErrForbidden) {
		t.Errorf("a reader: %v", err)
	}
	if _, err := s.as("owner").Create(ctx, api.CreateBody{Spec: launcher.Spec{Image: image, Flavor: "nosuch"}}); !errors.Is(err, launcher.ErrNotFound) {
		t.Errorf("no flavor: %v", err)
	}
	if _, err := s.as("admin").Create(ctx, api.CreateBody{Spec: launcher.Spec{Name: "more", Image: s.image, Memory: 256 << 20}}); err != nil {
		t.Errorf("an administrator: %v", err)
	}
	for range 20 {
		if _, err = s.as("owner").Create(ctx, api.CreateBody{Spec: launcher.Spec{Image: image}}); err != nil {
			break
		}
	}
	if n := len(s.m.Servers()); !errors.Is(err, launcher.ErrForbidden) || !strings.Contains(err.Error(), "uota") || n != 11 {
		t.Errorf("%d servers, %v", n, err)
	}
}

// Images are seen and changed as the image service says.
func TestNetworkImages(t *testing.T) {
	s := newSite(t)
	image, ctx := s.pull(), t.Context()
	list, err := s.as("reader").Images(ctx)
	if err != nil || len(list) != 1 || list[0].ID != image {
		t.Fatalf("list %+v, %v", list, err)
	}
	if got, err := s.as("reader").Image(ctx, image[:12]); err != nil || got.ID != image {
		t.Errorf("show: %v, %v", got.ID, err)
	}
	progress := func(launcher.PullProgress) {}
	_, load := s.as("owner").Load(ctx, "oci-archive:-", strings.NewReader("x"), progress)
	_, prune := s.as("owner").PruneImages(ctx, true)
	_, file := s.as("owner").Pull(ctx, api.PullBody{Image: "oci:/etc"}, progress)
	push := func(token, to string) error {
		_, err := s.as(token).Push(ctx, api.PushBody{PushOrder: launcher.PushOrder{Image: image, Destination: to}}, progress)
		return err
	}
	for what, err := range map[string]error{
		"load": load, "prune": prune, "verify": s.as("owner").VerifyImage(ctx, image), "pull of a file": file,
		"delete": s.as("owner").DeleteImage(ctx, image, false), "force": s.as("owner").DeleteImage(ctx, image, true),
		"push to this host": push("owner", "127.0.0.1:5000/x"), "push to Glance": push("owner", "glance:x"), "push by a reader": push("reader", "r.example/x"),
	} {
		if !errors.Is(err, launcher.ErrForbidden) {
			t.Errorf("%s: %v", what, err)
		}
	}
	var files [2][]byte
	for i := range files {
		from, size, err := s.as("reader").SaveImage(ctx, image, "saved:1")
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(from)
		if err != nil || int64(len(b)) != size {
			t.Fatalf("%d bytes of %d, %v", len(b), size, err)
		}
		files[i] = b
		_ = from.Close()
	}
	if !bytes.Equal(files[0], files[1]) {
		t.Error("an image is saved once so, once otherwise")
	}
	for r := tar.NewReader(bytes.NewReader(files[0])); ; {
		h, err := r.Next()
		if err != nil {
			t.Fatalf("manifest.json: %v", err)
		}
		if b, _ := io.ReadAll(r); h.Name == "manifest.json" && bytes.Contains(b, []byte(`"saved:1"`)) {
			break
		}
	}
	got, err := s.as("admin").Load(ctx, "oci-archive:-", bytes.NewReader(files[0]), progress)
	if err != nil || got.Digest != list[0].Digest || got.Reference != "docker.io/library/saved:1" {
		t.Errorf("loaded %s %s, %v", got.Reference, got.Digest, err)
	}
	if err := s.as("admin").VerifyImage(ctx, image); err != nil {
		t.Error(err)
	}
	if err := s.as("admin").DeleteImage(ctx, "saved:1", false); err != nil {
		t.Error(err)
	}
	if _, err := s.as("admin").Image(ctx, "saved:1"); !errors.Is(err, launcher.ErrNotFound) {
		t.Errorf("deleted: %v", err)
	}
}

// An image of a server is its project's alone, by whatever it is named.
func TestNetworkSnapshots(t *testing.T) {
	s := newSite(t)
	s.create("p1", "web")
	ctx := t.Context()
	made, err := s.as("owner").CreateImage(ctx, "web", "Saved it")
	if err != nil || made.Reference != "Saved it" {
		t.Fatalf("made %s, %v", made.Reference, err)
	}
	own := func(list []launcher.Image, err error) (found []launcher.Image) {
		for _, i := range list {
			if i.Own {
				found = append(found, i)
			}
		}
		if err != nil {
			t.Error(err)
		}
		return found
	}
	if list := own(s.as("owner").Images(ctx)); len(list) != 1 || list[0].Reference != "Saved it" {
		t.Errorf("listed %+v", list)
	}
	if list := own(s.as("other").Images(ctx)); len(list) != 0 {
		t.Errorf("listed for others %+v", list)
	}
	all := own(s.m.Images(ctx))
	if len(all) != 1 {
		t.Fatalf("there are %+v", all)
	}
	// An ID could be a name in a registry, which cannot be asked here.
	for _, ref := range []string{"Saved it", all[0].ID, all[0].Reference} {
		_, show := s.as("other").Image(ctx, ref)
		_, _, save := s.as("other").SaveImage(ctx, ref, "")
		_, pull := s.as("other").Pull(ctx, api.PullBody{Image: ref}, func(launcher.PullProgress) {})
		for what, err := range map[string]error{"show": show, "save": save, "pull": pull, "delete": s.as("other").DeleteImage(ctx, ref, false)} {
			if err == nil {
				t.Errorf("%s of %s of another project", what, ref)
			}
		}
		if srv, err := s.as("other").Create(ctx, api.CreateBody{Spec: launcher.Spec{Image: ref}}); err == nil && srv.Spec.Image == all[0].Reference {
			t.Errorf("boot of %s of another project", ref)
		}
	}
	if len(own(s.m.Images(ctx))) != 1 {
		t.Error("another project has deleted it")
	}
	if _, err := s.as("owner").Create(ctx, api.CreateBody{Spec: launcher.Spec{Name: "again", Image: "Saved it"}}); err != nil {
		t.Error(err)
	}
}

// A network of a project's is its own.
func TestNetworkNetworks(t *testing.T) {
	s := newSite(t)
	ctx := t.Context()
	made, err := s.as("owner").CreateNetwork(ctx, api.NetworkBody{Name: "back"})
	if err != nil || made.Project != "p1" || len(made.Subnets) == 0 {
		t.Fatalf("made %+v, %v", made, err)
	}
	for _, ref := range []string{"back", made.ID} {
		if _, err := s.as("other").Network(ctx, ref); !errors.Is(err, launcher.ErrNotFound) {
			t.Errorf("%s of another project: %v", ref, err)
		}
		if err := s.as("other").DeleteNetwork(ctx, ref); !errors.Is(err, launcher.ErrNotFound) {
			t.Errorf("delete %s of another project: %v", ref, err)
		}
	}
	if err := s.as("reader").DeleteNetwork(ctx, "back"); !errors.Is(err, launcher.ErrForbidden) {
		t.Errorf("delete by a reader: %v", err)
	}
	if err := s.as("owner").DeleteNetwork(ctx, "back"); err != nil {
		t.Error(err)
	}
}

func TestNetworkKernels(t *testing.T) {
	s := newSite(t)
	file := filepath.Join(t.TempDir(), "vmlinux")
	if err := os.WriteFile(file, []byte("no kernel"), 0o600); err != nil {
		t.Fatal(err)
	}
	for token, want := range map[string]error{"owner": launcher.ErrForbidden, "admin": launcher.ErrInvalid} {
		if _, err := s.as(token).ImportKernel(t.Context(), file); !errors.Is(err, want) {
			t.Errorf("import by %s: %v", token, err)
		}
	}
	if _, err := s.as("owner").SetDefaultKernel(t.Context(), "x"); !errors.Is(err, launcher.ErrForbidden) {
		t.Errorf("default by a member: %v", err)
	}
	if list, err := s.as("reader").Kernels(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("list: %v, %v", list, err)
	}
}
