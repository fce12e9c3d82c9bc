package dockerd

import (
	"encoding/json"
	"path"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func hash(digit string) v1.Hash { return v1.Hash{Algorithm: "sha256", Hex: strings.Repeat(digit, 64)} }

func tag(t *testing.T, s string) name.Reference {
	t.Helper()
	ref, err := name.ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// Each layer's record leads to its directory, and that to those below it.
func TestAdd(t *testing.T) {
	r := New()
	common := Layer{DiffID: hash("1"), Digest: hash("a"), Size: 10}
	for _, i := range []Image{
		{Name: tag(t, "busybox:1.36"), Manifest: hash("e"), Config: []byte(`{"one": 1}`), Layers: []Layer{common}},
		{Name: tag(t, "registry.example/app"), Manifest: hash("f"), Config: []byte(`{"two": 2}`), Layers: []Layer{common, {DiffID: hash("2")}, {DiffID: hash("3")}}},
	} {
		if err := r.Add(i); err != nil {
			t.Fatal(err)
		}
	}
	if len(r.Layers) != 3 || len(r.Symlinks) != 3 {
		t.Errorf("%d layers, %d links: the images have one in common", len(r.Layers), len(r.Symlinks))
	}
	records := 0
	for file, id := range r.Files {
		chain, ok := strings.CutPrefix(path.Dir(file), store+"/layerdb/sha256/")
		if !ok || path.Base(file) != "cache-id" {
			continue
		}
		records++
		dir := path.Join(Storage, string(id))
		diffID, ok := r.Layers[path.Join(dir, Diff)]
		if !ok || string(r.Files[path.Join(path.Dir(file), "diff")]) != diffID.String() {
			t.Errorf("layer %s has the files of %s", chain, diffID)
		}
		below := strings.Split(string(r.Files[path.Join(dir, "lower")]), ":")
		parent := string(r.Files[path.Join(path.Dir(file), "parent")])
		if parent == "" {
			if below[0] != "" || diffID != common.DiffID {
				t.Errorf("layer %s without a parent: %s above %q", chain, diffID, below)
			}
			continue
		}
		if want := "../" + strings.TrimPrefix(parent, "sha256:") + "/diff"; r.Symlinks[path.Join(Storage, below[0])] != want {
			t.Errorf("layer %s is above %q, not %s", chain, below, parent)
		}
		// The chain ID, by the OCI image specification.
		if want := next(v1.Hash{Algorithm: "sha256", Hex: strings.TrimPrefix(parent, "sha256:")}, diffID); want.Hex != chain {
			t.Errorf("layer %s should be %s", chain, want)
		}
	}
	if records != 3 {
		t.Errorf("%d records of layers", records)
	}
	var list struct{ Repositories map[string]map[string]string }
	if err := json.Unmarshal(r.Files[Repositories], &list); err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	names := map[string]bool{}
	for _, tags := range list.Repositories {
		for ref, id := range tags {
			names[ref], ids[id] = true, true
			if _, ok := r.Files[path.Join(store, "imagedb/content/sha256", strings.TrimPrefix(id, "sha256:"))]; !ok {
				t.Errorf("%s is %s, which is not there", ref, id)
			}
		}
	}
	want := map[string]bool{
		"busybox:1.36": true, "busybox@" + hash("e").String(): true,
		"registry.example/app:latest": true, "registry.example/app@" + hash("f").String(): true,
	}
	if !reflect.DeepEqual(names, want) || len(ids) != 2 {
		t.Errorf("names %v of %d images", names, len(ids))
	}
	if err := r.Add(Image{Name: tag(t, "x"), Config: []byte("{}")}); err == nil {
		t.Error("an image without layers was added")
	}
}
