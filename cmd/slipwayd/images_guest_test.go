//go:build guest

package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// archives writes the test's image as docker saves it, with a command that lasts, and
// as an OCI archive, and pushes it to a registry.
func archives(t *testing.T, dir string) (docker, oci, reference string) {
	t.Helper()
	source := filepath.Join(os.Getenv("SLIPWAY_TEST_IMAGES"), "busybox")
	index, err := layout.ImageIndexFromPath(source)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	img, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config.Config.Cmd = []string{"sleep", "1000"}
	lasting, err := mutate.Config(img, config.Config)
	if err != nil {
		t.Fatal(err)
	}
	docker, oci = filepath.Join(dir, "docker.tar"), filepath.Join(dir, "oci.tar")
	if err := tarball.WriteToFile(docker, name.MustParseReference("busybox:test"), lasting); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("tar", "-C", source, "-cf", oci, ".").CombinedOutput(); err != nil {
		t.Fatalf("tar: %v: %s", err, out)
	}
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	ref, err := name.ParseReference(strings.TrimPrefix(server.URL, "http://") + "/test/busybox:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img); err != nil {
		t.Fatal(err)
	}
	return docker, oci, ref.String()
}

// The image service with the real client: what is uploaded, imported or named by a
// reference is shared, changed, downloaded and booted.
func TestImagesWithOpenstackClient(t *testing.T) {
	state := newStateDir(t)
	dir := t.TempDir()
	docker, oci, reference := archives(t, dir)
	data, err := os.ReadFile(docker)
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(web.Close)
	t.Setenv("SLIPWAY_IMAGES_DOWNLOAD_HOSTS", strings.TrimPrefix(web.URL, "http://"))
	d := startService(t, state)
	if out, err := exec.Command(filepath.Join(os.Getenv("SLIPWAY_TEST_BIN"), "slipway"), "--state-dir", state, "kernel", "import", os.Getenv("SLIPWAY_TEST_KERNEL")).CombinedOutput(); err != nil {
		t.Fatalf("kernel import: %v: %s", err, out)
	}
	saved := filepath.Join(dir, "saved")
	out := d.openstack(
		"project create friends -f value -c name",
		"image create --file "+docker+" --container-format docker --disk-format raw --private --property color=blue --tag t1 saved -f value -c name",
		"image create --file "+oci+" --container-format docker --disk-format raw --shared --min-ram 64 archived -f value -c name",
		"image list --name saved --property color=blue -f value -c Name -c Status",
		"image list --tag t1 --long -f value -c Tags",
		"image show saved -f value -c size -c checksum",
		"image save --file "+saved+" saved",
		"image set --name renamed --property shape=round --min-disk 1 --protected saved",
		"image show renamed -f json -c properties -c protected -c min_disk",
		"image delete renamed",
		"image unset --property shape --tag t1 renamed",
		"image set --unprotected renamed",
		"image set --deactivate renamed",
		"image show renamed -f value -c status",
		"image set --activate renamed",
		"image add project archived friends -f value -c status",
		"image member list archived -f value -c Status",
		"image set --project friends --accept archived",
		"image remove project archived friends",
		"image set --public archived",
		"image show archived -f value -c visibility",
		"image list --name "+reference+" -f value -c Status",
		"image show nosuch",
	)
	for _, want := range []string{
		"saved active", "['t1']", "True", "deactivated", "round", "pending", "public",
		"is protected and cannot be deleted", "No Image found for nosuch",
	} {
		if !strings.Contains(out, want) && !strings.Contains(out, strings.ToLower(want)) {
			t.Errorf("the client's output has no %q:\n%s", want, out)
		}
	}
	if got, err := os.ReadFile(saved); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes saved (%v), not the %d that were uploaded", len(got), err, len(data))
	}

	d.importImage("downloaded", "web-download", web.URL+"/docker.tar")
	d.importImage("referred", "slipway-registry", reference)

	out = d.openstack(
		"flavor create --ram 256 --disk 1 --vcpus 1 tiny -f value -c name",
		"flavor create --ram 256 --disk 1 --vcpus 1 --property slipway:root_mode=block disks -f value -c name",
		"server create --image renamed --flavor tiny --nic none --wait one -f value -c status",
		"server create --image "+reference+" --flavor tiny --nic none --wait two -f value -c status",
		"image delete renamed",
	)
	if !strings.Contains(out, "it is in use: servers are made from it") || strings.Count(out, "ACTIVE")+strings.Count(out, "SHUTOFF") != 2 {
		t.Errorf("the client's output:\n%s", out)
	}
	d.snapshots(path.Dir(path.Dir(reference)))
	d.openstack(
		"server delete --wait one two three",
		"image delete renamed archived downloaded referred snap",
		"image list -f value -c Name",
	)
	if files, err := os.ReadDir(filepath.Join(state, "catalog")); err != nil || len(files) != 0 {
		t.Errorf("data left: %v (%v)", files, err)
	}
}

// snapshots makes an image of the server one, boots it as three, whose root is on
// disks, and makes an image of that one too, which it pushes to a registry.
func (d *slipwayd) snapshots(registry string) {
	d.t.Helper()
	d.slipway("server", "exec", "one", "sh", "-c", "echo written >/etc/written; rm /etc/passwd; (while sleep 0.1; do echo >>/beats; done) >/dev/null 2>&1 &")
	out := d.openstack(
		"server image create --wait --name snap --property of=one one -f value -c status",
		"image show snap -f json -c properties -c visibility -c owner",
		"server create --image snap --flavor disks --nic none --wait three -f value -c status",
		"server image create --wait --name never nosuch",
	)
	for _, want := range []string{"active", `"image_type": "snapshot"`, `"instance_uuid": "`, `"base_image_ref": "`, `"of": "one"`, `"private"`, "ACTIVE", "No Server found for nosuch"} {
		if !strings.Contains(out, want) && !strings.Contains(out, strings.ReplaceAll(want, "Server", "server")) {
			d.t.Errorf("the client's output has no %s:\n%s", want, out)
		}
	}
	// The processes of the server that was copied go on.
	if out := d.slipway("server", "exec", "one", "sh", "-c", "a=$(wc -c </beats); sleep 2; test $a -lt $(wc -c </beats) && echo beats"); !strings.Contains(out, "beats") {
		d.t.Errorf("the server stands still: %s", out)
	}
	if out := d.slipway("server", "exec", "three", "sh", "-c", "cat /etc/written; ls /etc/passwd 2>&1; echo more >/etc/more"); !strings.Contains(out, "written") || !strings.Contains(out, "No such file") {
		d.t.Errorf("the snapshot's server has: %s", out)
	}
	made := strings.TrimSpace(d.slipway("server", "image", "create", "three", "made:again"))
	if !strings.HasPrefix(made, "docker.io/library/made:again@sha256:") {
		d.t.Errorf("made %q", made)
	}
	d.slipway("image", "push", "made:again", registry+"/made:again")
	ref, err := name.ParseReference(registry + "/made:again")
	if err != nil {
		d.t.Fatal(err)
	}
	img, err := remote.Image(ref)
	if err != nil {
		d.t.Fatal(err)
	}
	digest, err := img.Digest()
	if err != nil || !strings.HasSuffix(made, "@"+digest.String()) {
		d.t.Errorf("the registry has %s (%v), not %s", digest, err, made)
	}
	if err := validate.Image(img); err != nil {
		d.t.Error(err)
	}
}

// importImage fills a new image by a method, and waits until it is active. The client
// would take its standard input for the image's data.
func (d *slipwayd) importImage(image, method, uri string) {
	d.t.Helper()
	var made struct{ ID string }
	token := strings.Fields(d.openstack("token issue -f value -c id"))
	d.post(token[len(token)-1], "/image/v2/images", `{"name":"`+image+`","container_format":"docker","disk_format":"raw"}`, &made)
	d.post(token[len(token)-1], "/image/v2/images/"+made.ID+"/import", `{"method":{"name":"`+method+`","uri":"`+uri+`"}}`, nil)
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Second) {
		out := d.openstack("image show " + image + " -f value -c status")
		if strings.Contains(out, "active") {
			return
		}
		if !strings.Contains(out, "importing") || time.Now().After(deadline) {
			d.t.Fatalf("image %s: %s", image, out)
		}
	}
}

// post sends JSON, and reads the answer into a value that is not nil.
func (d *slipwayd) post(token, path, body string, answer any) {
	d.t.Helper()
	r, err := http.NewRequestWithContext(d.t.Context(), http.MethodPost, d.url+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	r.Header.Set("X-Auth-Token", token)
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		d.t.Fatalf("POST %s: %s", path, resp.Status)
	}
	if answer != nil {
		if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
			d.t.Fatal(err)
		}
	}
}
