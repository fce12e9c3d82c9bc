//go:build guest && openstack

package main

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"

	"github.com/slipway-vm/slipway/images/glance"
)

// noise is text that nothing compresses.
func noise(n int) string {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b) // it cannot fail
	return string(b)
}

// dockerSave writes an image as docker save does.
func dockerSave(t *testing.T, img v1.Image) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "image.tar")
	ref, err := name.NewTag("example.org/test/it:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(file, ref, img); err != nil {
		t.Fatal(err)
	}
	return file
}

// Of 2016: docker save, openstack image create, boot.
func TestGlanceImport(t *testing.T) {
	c := newCloud(t)
	s := newState(t, c.settings()...)
	docker := dockerSave(t, layered(t, testImage(t), map[string]string{"from": "docker save\n"}))
	id := c.openstack("demo", "image create --container-format docker --disk-format raw --file "+docker+" -f value -c id test-import-docker")
	c.glance.Moved()
	s.run("boot", "--rm", "glance:test-import-docker", "cat", "/from").ok().says("docker save\n")
	st, err := os.Stat(docker)
	if err != nil {
		t.Fatal(err)
	}
	if _, down := c.glance.Moved(); down != st.Size() {
		t.Errorf("the first boot has fetched %d bytes of an archive of %d", down, st.Size())
	}
	// Once is enough, by whatever name and for each server.
	s.run("image", "pull", "-q", "glance:test-import-docker").ok()
	s.run("image", "pull", "-q", "glance:"+id).ok()
	s.run("boot", "--rm", "glance:"+id, "cat", "/from").ok().says("docker save\n")
	if _, down := c.glance.Moved(); down != 0 {
		t.Errorf("what was there has been fetched: %d bytes", down)
	}
	oci := filepath.Join(t.TempDir(), "oci.tar")
	makeArchive(t, strings.TrimPrefix(ociLayout(t, layered(t, testImage(t), map[string]string{"from": "oci\n"})), "oci:"), oci)
	c.image("demo", "test-import-oci", oci)
	s.run("image", "pull", "-q", "glance:test-import-oci").ok()
	s.run("image", "verify", "glance:test-import-oci").ok()
}

// What is wrong with an image of Glance's is told, and nothing stays.
func TestGlanceRefuses(t *testing.T) {
	c := newCloud(t)
	s := newState(t, c.settings()...)
	docker := dockerSave(t, testImage(t))
	rotten := c.image("demo", "test-refused-rotten", docker)
	f, err := os.OpenFile(filepath.Join(c.dir, "images", rotten), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{0xff}, 700); err != nil {
		t.Fatal(err)
	}
	f.Close()
	junk := filepath.Join(t.TempDir(), "junk")
	if err := os.WriteFile(junk, []byte(noise(5000)), 0o600); err != nil {
		t.Fatal(err)
	}
	c.image("demo", "test-refused-junk", junk)
	c.image("demo", "test-refused-disk", docker, func(o *images.CreateOpts) { o.DiskFormat = "qcow2" })
	c.queued("demo", "test-refused-queued")
	first, second := c.image("demo", "test-refused-twice", docker), c.image("demo", "test-refused-twice", docker)
	for image, want := range map[string][]string{
		"test-refused-rotten":  {"has the checksum sha512:"},
		"test-refused-junk":    {"archive"},
		"test-refused-disk":    {"is a disk (qcow2)"},
		"test-refused-queued":  {"is queued in Glance"},
		"test-refused-twice":   {"2 images are named", first, second},
		"test-refused-nowhere": {"no such image in Glance"},
	} {
		s.run("image", "pull", "glance:"+image).exits(1).complains(want...)
	}
	s.run("image", "list", "-f", "value").ok().says("")
	spooled, err := os.ReadDir(filepath.Join(s.dir, "images", "tmp"))
	if err != nil || len(spooled) > 0 {
		t.Errorf("left behind: %v, %v", spooled, err)
	}
	newState(t).run("image", "pull", "glance:test-refused-disk").exits(1).complains("no Glance is configured (image.url)")
}

// The second of two similar images moves its own layer alone, to Glance and from it.
func TestGlancePush(t *testing.T) {
	c := newCloud(t)
	s := newState(t, c.settings()...)
	common := strings.Repeat("what both have\n", 1<<16)
	one := layered(t, testImage(t), map[string]string{"common": common, "random": noise(3 << 20)})
	two := layered(t, one, map[string]string{"own": noise(100 << 10)})
	sizes := func(img v1.Image) (all []int64) {
		m, err := img.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range m.Layers {
			all = append(all, l.Size)
		}
		return all
	}
	own := sizes(two)[len(sizes(two))-1]
	// Manifest and configuration are sent too.
	const small = 8 << 10

	c.glance.Moved()
	s.run("image", "push", ociLayout(t, one), "glance:test-push-one").ok()
	first, _ := c.glance.Moved()
	layout := ociLayout(t, two)
	s.run("image", "push", layout, "glance:test-push-two").ok()
	second, down := c.glance.Moved()
	if first < 3<<20 || second < own || second > own+small || down != 0 {
		t.Errorf("pushed %d and then %d bytes, of a layer of %d; %d bytes came back", first, second, own, down)
	}
	s.run("image", "push", layout, "glance:test-push-two").ok()
	if again, _ := c.glance.Moved(); again != 0 {
		t.Errorf("a push of what was there has moved %d bytes", again)
	}

	// Another host fetches each layer once.
	other := newState(t, c.settings()...)
	other.run("image", "pull", "-q", "glance:test-push-one").ok()
	_, pulled := c.glance.Moved()
	other.run("boot", "--rm", "glance:test-push-two", "wc", "-c", "/own", "/common").ok()
	_, booted := c.glance.Moved()
	if booted < own || booted > own+small {
		t.Errorf("a boot of the second image has fetched %d bytes, of a layer of %d", booted, own)
	}
	t.Logf("pushed: %d bytes, then %d; fetched: %d bytes, then %d; the layer has %d", first, second, pulled, booted, own)

	// The name goes to what is pushed last; the layers are no images.
	s.run("image", "push", ociLayout(t, one), "glance:test-push-two").ok()
	for _, hidden := range []bool{false, true} {
		named := 0
		for _, name := range c.listed("slipway", hidden) {
			if name == "test-push-two" {
				named++
			}
		}
		if named != 1 {
			t.Errorf("%d images have the name (hidden: %v)", named, hidden)
		}
	}
	m, err := one.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	var layer string
	for id, name := range c.listed("slipway", true) {
		if name == m.Layers[0].Digest.String() {
			layer = id
		}
	}
	s.run("image", "pull", "glance:"+layer).exits(1).complains("is a part of images")
}

// What no image in Glance needs any more goes, and nothing else.
func TestGlancePrune(t *testing.T) {
	c := newCloud(t)
	s := newState(t, c.settings()...)
	base := layered(t, testImage(t), map[string]string{"common": "what all have\n"})
	push := func(name, own string) (digests []string) {
		t.Helper()
		img := layered(t, base, map[string]string{"own": own})
		s.run("image", "push", "-q", ociLayout(t, img), "glance:"+name).ok()
		m, err := img.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		return []string{m.Config.Digest.String(), m.Layers[len(m.Layers)-1].Digest.String()}
	}
	prune := func(flags ...string) *result {
		t.Helper()
		return s.run(append([]string{"image", "prune", "glance:"}, flags...)...).ok()
	}
	// pulls from a host that has nothing.
	pulls := func(name string) *result {
		t.Helper()
		return newState(t, c.settings()...).run("image", "pull", "-q", "glance:"+name)
	}
	id := func(name string) string {
		t.Helper()
		return c.openstack("slipway", "image show -f value -c id "+name)
	}

	prune("--older-than", "0s", "--all") // what others have left
	stays := push("test-prune-stays", "one\n")
	goes := push("test-prune-goes", "two\n")
	c.openstack("slipway", "image delete "+id("test-prune-goes"))
	queued := c.queued("slipway", "test-prune-queued", func(o *images.CreateOpts) {
		o.Properties = map[string]string{glance.Digest: "sha256:" + strings.Repeat("0", 64), glance.MediaType: "application/vnd.oci.image.layer.v1.tar+gzip"}
	})
	prune().says("0 images removed, 0.0 MB freed\n") // a push may be going on
	out := prune("--older-than", "0s").stdout
	if err := lacks(out, append(goes, queued, "3 images removed")...); err != nil {
		t.Error(err)
	}
	prune("--older-than", "0s").says("0 images removed, 0.0 MB freed\n")
	pulls("test-prune-stays").ok()

	// An image that has lost its name is there for servers made from it, until --all.
	before := id("test-prune-stays")
	push("test-prune-stays", "three\n")
	prune("--older-than", "0s").says("0 images removed, 0.0 MB freed\n")
	pulls(before).ok()
	out = prune("--older-than", "0s", "--all").stdout
	if err := lacks(out, append(stays, before, "3 images removed")...); err != nil {
		t.Error(err)
	}
	pulls(before).exits(1).complains("no such image")
	pulls("test-prune-stays").ok()

	// What cannot be read may need anything.
	f, err := os.OpenFile(filepath.Join(c.dir, "images", id("test-prune-stays")), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{0xff}, 7); err != nil {
		t.Fatal(err)
	}
	f.Close()
	s.run("image", "prune", "glance:", "--older-than", "0s").exits(1).complains("test-prune-stays", "has the checksum")
	s.run("image", "prune", "--older-than", "0s").exits(1).complains("are for a Glance")
	newState(t).run("image", "prune", "glance:").exits(1).complains("no Glance is configured (image.url)")
}
