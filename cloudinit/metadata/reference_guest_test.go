//go:build guest

package metadata

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"testing"
)

// TestAgainstCloudInit has the real cloud-init read both formats.
func TestAgainstCloudInit(t *testing.T) {
	modules := filepath.Join(os.Getenv("SLIPWAY_TEST_CLOUDINIT"), "usr/lib/python3/dist-packages")
	if _, err := os.Stat(filepath.Join(modules, "cloudinit")); err != nil {
		t.Fatalf("SLIPWAY_TEST_CLOUDINIT, %v: run this test with `make test`", err)
	}
	i := web()
	server := httptest.NewServer(New(&guests{all: map[netip.Addr]*Instance{netip.MustParseAddr("127.0.0.1"): i}}, nil))
	defer server.Close()
	cmd := exec.CommandContext(t.Context(), "/usr/bin/python3", "testdata/metadata.py", server.URL)
	cmd.Env = append(os.Environ(), "PYTHONPATH="+modules, "PYTHONDONTWRITEBYTECODE=1", "TMPDIR="+t.TempDir())
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("cloud-init: %v\n%s", err, &stderr)
	}
	type result struct {
		Version      int
		ID, Hostname string
		Keys         map[string]string
		Seed         int
		User         []byte
		Vendor       string
		Subnets      [][]string
		EC2          map[string]any
		EC2User      []byte
	}
	var got result
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	m := i.Seed.MetaData
	want := result{
		Version: 2, ID: m.InstanceID, Hostname: "web", Keys: map[string]string{"mine": m.PublicKeys[0]},
		Seed: 512, User: i.Seed.UserData, Vendor: string(i.Seed.VendorData), EC2User: i.Seed.UserData,
		Subnets: [][]string{{"static", "10.0.0.5", ""}},
		EC2: map[string]any{
			"ami-id": "ami-11111111222233334", "ami-launch-index": "0", "ami-manifest-path": "FIXME", "hostname": "web", "instance-action": "none",
			"instance-id": "i-4a1d0f3e000040008", "instance-type": "m1.tiny", "local-hostname": "web", "local-ipv4": "10.0.0.5",
			"placement": map[string]any{"availability-zone": "nova"}, "public-hostname": "web", "public-ipv4": "203.0.113.9",
			"public-keys":    map[string]any{"mine": m.PublicKeys[0]},
			"reservation-id": "r-1", "security-groups": []any{"default", "web"},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
}
