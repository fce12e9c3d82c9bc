package glance

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/slipway-vm/slipway/images"
	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/catalog"
	"github.com/slipway-vm/slipway/launcher/compute"
	"github.com/slipway-vm/slipway/launcher/launchertest"
	"github.com/slipway-vm/slipway/launcher/metadefs"
)

// shelf holds images; a registry beside it has one more.
type shelf struct {
	ready   []launcher.Image
	busy    bool
	pulling chan struct{} // nil: pulls end at once
	// What any image is saved from.
	store  *images.Store
	source string
}

func (s *shelf) Images(context.Context) ([]launcher.Image, error) { return s.ready, nil }

func (s *shelf) ResolveImage(_ context.Context, ref string) (launcher.Image, error) {
	if ref != "docker.io/library/nginx:alpine" {
		return launcher.Image{}, launcher.Errorf(launcher.ErrNotFound, "none")
	}
	return image(ref, 9), nil
}

func (s *shelf) DeleteImage(_ context.Context, ref string, _ bool) error {
	if s.busy {
		return launcher.Errorf(launcher.ErrConflict, "in use")
	}
	s.ready = slices.DeleteFunc(s.ready, func(i launcher.Image) bool { return i.Reference == ref })
	return nil
}

func (s *shelf) SaveImage(ctx context.Context, ref, name string, _ *launcher.Credentials) (*images.Archive, error) {
	if s.store != nil {
		img, err := s.store.Resolve(ctx, s.source, images.ResolveOptions{})
		if err != nil {
			return nil, err
		}
		return img.Archive(name)
	}
	return nil, launcher.Errorf(launcher.ErrUnavailable, "no layers of %s", ref)
}

func image(ref string, day int) launcher.Image {
	hash, err := v1.NewHash("sha256:" + strings.Repeat(fmt.Sprint(day), 64))
	if err != nil {
		panic(err)
	}
	return launcher.Image{Record: images.Record{
		Reference: ref, Digest: hash, Size: int64(day) * 100,
		Config: &v1.ConfigFile{Architecture: "amd64"}, Pulled: time.Date(2026, 1, day, 0, 0, 0, 0, time.UTC),
	}}
}

// Pull is told of an archive of the catalog's or of a reference.
func (s *shelf) Pull(ctx context.Context, ref, _ string, _ *launcher.Credentials, _ func(launcher.PullProgress)) (launcher.Image, error) {
	if s.pulling != nil {
		s.pulling <- struct{}{}
		<-ctx.Done()
		close(s.pulling)
		return launcher.Image{}, ctx.Err()
	}
	if strings.Contains(ref, "nosuch") {
		return launcher.Image{}, launcher.Errorf(launcher.ErrNotFound, "no image %s", ref)
	}
	img := image(ref, 4)
	s.ready = append(s.ready, img)
	return img, nil
}

func newAPI(t *testing.T) (http.Handler, *shelf) {
	t.Helper()
	s := &shelf{ready: []launcher.Image{image("docker.io/library/busybox:latest", 1), image("docker.io/library/alpine:3", 2), image("oci:/images/hello", 3)}}
	c, err := compute.Open(t.Context(), compute.Config{Store: &launchertest.Records{}, Images: s})
	if err != nil {
		t.Fatal(err)
	}
	images, err := catalog.Open(t.Context(), catalog.Config{Dir: t.TempDir(), Store: launchertest.NewSection(), Launcher: s, Referred: c.Images})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := images.Close(); err != nil {
			t.Error(err)
		}
	})
	definitions, err := metadefs.Open(t.Context(), launchertest.NewSection())
	if err != nil {
		t.Fatal(err)
	}
	return New(Config{Images: images, Metadefs: definitions}), s
}

func call(t *testing.T, h http.Handler, role, method, path string) (int, map[string]any) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
	r.Host = "cloud"
	r.Header.Set("Accept", "application/json")
	if role != "" {
		r = r.WithContext(openstack.WithCaller(r.Context(), &openstack.Caller{Roles: []string{role}}))
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var body map[string]any
	if w.Body.Len() > 0 {
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
			t.Fatalf("%s %s: %v in %s", method, path, err, w.Body)
		}
	}
	return w.Code, body
}

func names(t *testing.T, body map[string]any) []string {
	t.Helper()
	list, ok := body["images"].([]any)
	if !ok {
		t.Fatalf("no list in %v", body)
	}
	all := []string{}
	for _, one := range list {
		name, _ := one.(map[string]any)["name"].(string)
		all = append(all, name)
	}
	return all
}

func TestLists(t *testing.T) {
	h, _ := newAPI(t)
	const busybox, alpine, hello = "docker.io/library/busybox:latest", "docker.io/library/alpine:3", "oci:/images/hello"
	for query, want := range map[string][]string{
		"":               {hello, alpine, busybox},
		"?sort=name:asc": {alpine, busybox, hello},
		"?sort_key=size": {hello, alpine, busybox},
		"?limit=1":       {hello},
		"?limit=1&marker=" + compute.ImageID(hello): {alpine},
		"?name=busybox":                                            {"busybox"},
		"?name=docker.io/library/nginx:alpine":                     {"docker.io/library/nginx:alpine"},
		"?name=docker.io/library/nginx:alpine&status=active":       {"docker.io/library/nginx:alpine"},
		"?name=docker.io/library/nginx:nosuch":                     {},
		"?name=no-such":                                            {},
		"?name=oci:/etc":                                           {},
		"?name=in:" + alpine + "," + hello:                         {hello, alpine},
		"?id=" + compute.ImageID(alpine):                           {alpine},
		"?os_hidden=True":                                          {},
		"?os_hidden=false":                                         {hello, alpine, busybox},
		"?visibility=private":                                      {},
		"?visibility=public&status=active&container_format=docker": {hello, alpine, busybox},
		"?tag=x":                              {},
		"?size_min=200&size_max=200":          {alpine},
		"?created_at=gt:2026-01-02T00:00:00Z": {hello},
		"?architecture=x86_64":                {hello, alpine, busybox},
		"?nosuch=1":                           {},
		"?owner=0123":                         {},
		"?status=queued":                      {},
	} {
		status, body := call(t, h, openstack.Reader, "GET", "/v2/images"+query)
		if got := names(t, body); status != 200 || !slices.Equal(got, want) {
			t.Errorf("%s: %d %v, want %v", query, status, got, want)
		}
	}
	for _, query := range []string{"?limit=x", "?sort=nosuch:asc", "?sort_dir=up&sort_key=name", "?marker=nosuch", "?size_min=x", "?created_at=today", "?visibility=x"} {
		if status, body := call(t, h, openstack.Reader, "GET", "/v2/images"+query); status != 400 {
			t.Errorf("%s: %d %v", query, status, body)
		}
	}
	_, body := call(t, h, openstack.Reader, "GET", "/v2/images?limit=2")
	if body["first"] != "/v2/images?limit=2" || body["schema"] != "/v2/schemas/images" || body["next"] != "/v2/images?limit=2&marker="+compute.ImageID(alpine) {
		t.Errorf("links %v", body)
	}
}

func TestOneImage(t *testing.T) {
	h, s := newAPI(t)
	id := compute.ImageID("docker.io/library/busybox:latest")
	status, body := call(t, h, openstack.Reader, "GET", "/v2/images/"+id)
	got, err := json.MarshalIndent(body, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.ReplaceAll(shown, "ID", id); status != 200 || string(got) != want {
		t.Errorf("%d %s, want %s", status, got, want)
	}
	if status, body := call(t, h, openstack.Reader, "GET", "/v2/images/"+id+"/members"); status != 200 || body["members"] == nil {
		t.Errorf("members: %d %v", status, body)
	}
	for _, path := range []string{"nosuch", "docker.io/library/nginx:alpine", "nosuch/members"} {
		if status, body := call(t, h, openstack.Reader, "GET", "/v2/images/"+path); status != 404 {
			t.Errorf("%s: %d %v", path, status, body)
		}
	}
	if status, _ := call(t, h, openstack.Member, "DELETE", "/v2/images/"+id); status != 403 {
		t.Errorf("deleted by a member: %d", status)
	}
	s.busy = true
	if status, body := call(t, h, openstack.Admin, "DELETE", "/v2/images/"+id); status != 409 {
		t.Errorf("deleted while in use: %d %v", status, body)
	}
	s.busy = false
	for _, want := range []int{204, 404} {
		if status, body := call(t, h, openstack.Admin, "DELETE", "/v2/images/"+id); status != want {
			t.Errorf("deleted: %d %v, want %d", status, body, want)
		}
	}
	// What was looked up by name is found by the ID that it was given.
	_, body = call(t, h, openstack.Reader, "GET", "/v2/images?name=nginx:alpine")
	if names(t, body)[0] != "nginx:alpine" {
		t.Fatal(body)
	}
	status, body = call(t, h, openstack.Reader, "GET", "/v2/images/"+compute.ImageID("docker.io/library/nginx:alpine"))
	if status != 200 || body["slipway:pulled"] != "False" || body["status"] != "active" {
		t.Errorf("found %d %v", status, body)
	}
}

// shown is an image's view, its members sorted.
const shown = `{
 "architecture": "x86_64",
 "checksum": null,
 "container_format": "docker",
 "created_at": "2026-01-01T00:00:00Z",
 "disk_format": "raw",
 "file": "/v2/images/ID/file",
 "id": "ID",
 "min_disk": 0,
 "min_ram": 0,
 "name": "docker.io/library/busybox:latest",
 "os_hash_algo": null,
 "os_hash_value": null,
 "os_hidden": false,
 "owner": null,
 "protected": false,
 "schema": "/v2/schemas/image",
 "self": "/v2/images/ID",
 "size": 100,
 "slipway:digest": "sha256:1111111111111111111111111111111111111111111111111111111111111111",
 "slipway:pulled": "True",
 "slipway:reference": "docker.io/library/busybox:latest",
 "status": "active",
 "stores": "file",
 "tags": [],
 "updated_at": "2026-01-01T00:00:00Z",
 "virtual_size": null,
 "visibility": "public"
}`

func TestDocuments(t *testing.T) {
	h, _ := newAPI(t)
	for path, want := range map[string]int{"/": 300, "/versions": 200} {
		status, body := call(t, h, "", "GET", path)
		list, _ := body["versions"].([]any)
		if status != want || len(list) == 0 {
			t.Fatalf("%s: %d %v", path, status, body)
		}
		current, _ := list[0].(map[string]any)
		if current["status"] != "CURRENT" || !strings.Contains(fmt.Sprint(current["links"]), "http://cloud/v2/") {
			t.Errorf("%s: %v", path, current)
		}
	}
	for _, name := range []string{"image", "images", "member", "members", "task", "tasks"} {
		if status, body := call(t, h, openstack.Reader, "GET", "/v2/schemas/"+name); status != 200 || body["name"] != name {
			t.Errorf("schema %s: %d %v", name, status, body)
		}
	}
	if status, _ := call(t, h, "", "GET", "/v2/images"); status != 403 {
		t.Errorf("without a role: %d", status)
	}
}
