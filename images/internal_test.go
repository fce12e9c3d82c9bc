package images

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Plain HTTP is for this machine, and for registries that are named.
func TestPlainHTTP(t *testing.T) {
	tr, err := newBaseTransport(Config{Insecure: []string{"10.0.0.1:5000"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // nothing is sent
	for url, refused := range map[string]bool{
		"http://127.0.0.1:1/": false, "http://localhost:1/": false, "http://[::1]:1/": false, "http://10.0.0.1:5000/": false,
		"http://10.0.0.1/": true, "http://10.0.0.2:5000/": true, "http://192.168.1.1/": true, "http://example.com/": true, "http://localhost.example.com/": true, "http://registry.local/": true,
		"https://example.com/": false,
	} {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.RoundTrip(r)
		if err == nil {
			resp.Body.Close()
		}
		if got := err != nil && strings.Contains(err.Error(), "is refused"); got != refused {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestCheckLayer(t *testing.T) {
	for kind, ok := range map[string]bool{
		"application/vnd.oci.image.layer.v1.tar": true, "application/vnd.oci.image.layer.v1.tar+gzip": true, "application/vnd.oci.image.layer.v1.tar+zstd": true,
		"application/vnd.docker.image.rootfs.diff.tar.gzip": true, "application/vnd.docker.image.rootfs.diff.tar.zstd": true, "application/vnd.docker.image.rootfs.diff.tar": true,
		"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip": false, "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": false,
		"application/vnd.oci.image.layer.v1.tar+gzip+encrypted": false, "application/vnd.cncf.helm.chart.content.v1.tar+gzip": false, "": false,
	} {
		if err := checkLayer(v1.Descriptor{MediaType: types.MediaType(kind)}); (err == nil) != ok || err != nil && !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// anything serves the same bytes for every digest.
type anything []byte

func (a anything) open(context.Context, v1.Descriptor) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(a)), nil
}

func (anything) Close() error { return nil }

// FuzzAssemble feeds manifests, indexes and configurations. Nothing may panic,
// and whatever is taken has layers that belong to it.
func FuzzAssemble(f *testing.F) {
	config := `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:1111111111111111111111111111111111111111111111111111111111111111"]}}`
	h, n, err := v1.SHA256(strings.NewReader(config))
	if err != nil {
		f.Fatal(err)
	}
	d := `{"mediaType":"application/vnd.oci.image.config.v1+json","size":` + strconv.FormatInt(n, 10) + `,"digest":"` + h.String() + `"}`
	f.Add([]byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":`+d+`,"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","size":5,"digest":"sha256:2222222222222222222222222222222222222222222222222222222222222222"}]}`), []byte(config), string(types.OCIManifestSchema1))
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":2,"digest":"`+h.String()+`","platform":{"os":"linux","architecture":"amd64"}},{"platform":null}]}`), []byte(config), "")
	f.Fuzz(func(t *testing.T, manifest, config []byte, mediaType string) {
		p := &v1.Platform{OS: "linux", Architecture: "amd64"}
		i, err := assemble(t.Context(), Reference{Transport: Layout, Path: "/x"}, anything(config), document{raw: manifest, mediaType: types.MediaType(mediaType)}, p)
		if err != nil {
			return
		}
		layers, err := i.Layers()
		if err != nil {
			t.Fatal(err)
		}
		c, err := i.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if len(layers) != len(c.RootFS.DiffIDs) {
			t.Errorf("%d layers, %d diff IDs", len(layers), len(c.RootFS.DiffIDs))
		}
	})
}

func FuzzParseReference(f *testing.F) {
	for _, s := range []string{"nginx", "oci:a:b", "docker-archive:/x:y:z", "a.b/c@sha256:" + strings.Repeat("0", 64)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseReference(s)
		if err != nil {
			if !errors.Is(err, ErrInvalidReference) {
				t.Errorf("error of no kind: %v", err)
			}
			return
		}
		again, err := ParseReference(r.String())
		if err != nil || again.String() != r.String() {
			t.Errorf("%q is shown as %q, which is %q (%v)", s, r, again, err)
		}
	})
}
