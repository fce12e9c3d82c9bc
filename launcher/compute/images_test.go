package compute

import (
	"context"
	"fmt"
	"testing"

	"github.com/slipway-vm/slipway/images"
	"github.com/slipway-vm/slipway/launcher"
)

// registry has images, and those that were pulled from it; it counts what it is
// asked.
type registry struct {
	ready, there []string
	err          error
	asked        int
}

func imageOf(ref string) launcher.Image {
	return launcher.Image{Record: images.Record{Reference: ref, Size: 7}}
}

func (r *registry) Images(context.Context) ([]launcher.Image, error) {
	var list []launcher.Image
	for _, ref := range r.ready {
		list = append(list, imageOf(ref))
	}
	return list, nil
}

func (r *registry) ResolveImage(_ context.Context, ref string) (launcher.Image, error) {
	r.asked++
	for _, have := range r.there {
		if have == ref {
			return imageOf(ref), nil
		}
	}
	if r.err != nil {
		return launcher.Image{}, r.err
	}
	return launcher.Image{}, launcher.Errorf(launcher.ErrNotFound, "no %s", ref)
}

func (r *registry) DeleteImage(_ context.Context, ref string, _ bool) error {
	for i, have := range r.ready {
		if have == ref {
			r.ready = append(r.ready[:i], r.ready[i+1:]...)
		}
	}
	return nil
}

func (b *bench) withImages(r *registry) {
	b.t.Helper()
	var err error
	if b.Compute, err = Open(b.t.Context(), Config{Store: b.store, Images: r}); err != nil {
		b.t.Fatal(err)
	}
}

func TestImagesByName(t *testing.T) {
	b, ctx := newBench(t), t.Context()
	r := &registry{ready: []string{"docker.io/library/busybox:latest", "oci:/images/hello"}, there: []string{"docker.io/library/nginx:alpine", "host.example/a/b:latest"}}
	b.withImages(r)
	for _, name := range []string{"busybox", "busybox:latest", "docker.io/library/busybox", "oci:/images/hello"} {
		x, err := b.Images.Named(ctx, name)
		if err != nil || x.Name != name || !x.Ready || x.ID != ImageID(x.Reference) {
			t.Errorf("%s: %+v, %v", name, x, err)
		}
	}
	for _, name := range []string{"web", "My Image", "cirros-0.6", "library/nginx", "oci:/etc", "docker-archive:/etc/passwd", "", "nginx:", "Nginx:alpine"} {
		_, err := b.Images.Named(ctx, name)
		refused(t, err, launcher.ErrNotFound, name)
	}
	if r.asked != 0 {
		t.Errorf("the registry was asked %d times about what is no reference", r.asked)
	}
	for name, want := range map[string]string{"nginx:alpine": "docker.io/library/nginx:alpine", "host.example/a/b": "host.example/a/b:latest"} {
		x, err := b.Images.Named(ctx, name)
		if err != nil || x.Name != name || x.Reference != want || x.Ready || x.Size != 7 {
			t.Errorf("%s: %+v, %v", name, x, err)
		}
		if found, err := b.Images.Find(ctx, x.ID); err != nil || found.Reference != want {
			t.Errorf("found by ID: %+v, %v", found, err)
		}
	}
	_, err := b.Images.Named(ctx, "nginx:nosuch")
	refused(t, err, launcher.ErrNotFound, "nginx:nosuch")
	_, err = b.Images.Find(ctx, ImageID("docker.io/library/nginx:nosuch"))
	refused(t, err, launcher.ErrNotFound, "")
	r.err = launcher.Errorf(launcher.ErrUnavailable, "no network")
	if x, err := b.Images.Named(ctx, "private.example/x"); err != nil || x.Reference != "private.example/x:latest" {
		t.Errorf("a registry that cannot be asked: %+v, %v", x, err)
	}
}

func TestImagesKeepTheirIDs(t *testing.T) {
	b, ctx := newBench(t), t.Context()
	r := &registry{there: []string{"docker.io/library/nginx:alpine"}}
	b.withImages(r)
	before, err := b.Images.Named(ctx, "nginx:alpine")
	if err != nil {
		t.Fatal(err)
	}
	b.withImages(r)
	if x, err := b.Images.Find(ctx, before.ID); err != nil || x.Reference != before.Reference {
		t.Errorf("after a restart: %+v, %v", x, err)
	}
	r.ready = r.there
	b.withImages(r)
	after, err := b.Images.Find(ctx, before.ID)
	if err != nil || !after.Ready {
		t.Errorf("once pulled: %+v, %v", after, err)
	}
	if err := b.Images.Delete(ctx, after.ID); err != nil || len(r.ready) != 0 {
		t.Errorf("deleted: %v, left %v", err, r.ready)
	}
	refused(t, b.Images.Delete(ctx, after.ID), launcher.ErrNotFound, after.ID)
}

func TestOnlySoManyNamesAreRemembered(t *testing.T) {
	b, ctx := newBench(t), t.Context()
	r := &registry{err: launcher.Errorf(launcher.ErrUnavailable, "no network")}
	b.withImages(r)
	for n := range maxAsked + 5 {
		if _, err := b.Images.Named(ctx, fmt.Sprintf("host.example/x:%d", n)); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(b.Images.asked.all(nil)); n != maxAsked {
		t.Errorf("%d remembered", n)
	}
}
