//go:build guest

package cloudinit

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"testing"
)

// cloudInit runs a script of testdata with the real cloud-init's modules, and reads
// the JSON that it prints.
func cloudInit(t *testing.T, stdin []byte, result any, script ...string) {
	t.Helper()
	modules := filepath.Join(os.Getenv("SLIPWAY_TEST_CLOUDINIT"), "usr/lib/python3/dist-packages")
	if _, err := os.Stat(filepath.Join(modules, "cloudinit")); err != nil {
		t.Fatalf("SLIPWAY_TEST_CLOUDINIT, %v: run this test with `make test`", err)
	}
	cmd := exec.CommandContext(t.Context(), "/usr/bin/python3", script...)
	cmd.Env = append(os.Environ(), "PYTHONPATH="+modules, "PYTHONDONTWRITEBYTECODE=1", "TMPDIR="+t.TempDir())
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("cloud-init: %v\n%s", err, &stderr)
	}
	if err := json.Unmarshal(out, result); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// reference has the real cloud-init read user-data.
func reference(t *testing.T, data []byte) (config map[string]any, scripts, boothooks map[string]string) {
	t.Helper()
	var result struct {
		Config             map[string]any
		Scripts, Boothooks map[string]string
	}
	cloudInit(t, data, &result, "testdata/reference.py")
	return result.Config, result.Scripts, result.Boothooks
}

// TestConfigDriveAgainstCloudInit has cloud-init read a config drive of this package.
func TestConfigDriveAgainstCloudInit(t *testing.T) {
	s := fullSeed()
	dir := t.TempDir()
	if err := os.CopyFS(dir, drive(t, &s)); err != nil {
		t.Fatal(err)
	}
	var got struct {
		ID, Hostname, Vendor string
		Keys, DNS            []string
		Seed, User           []byte
		Subnets              [][]string
	}
	cloudInit(t, nil, &got, "testdata/configdrive.py", dir)
	want := got
	want.ID, want.Hostname, want.Vendor = "4a1d", "web.example", string(s.VendorData)
	want.Keys, want.DNS = s.MetaData.PublicKeys, []string{"10.0.0.1"}
	want.Seed, want.User = s.MetaData.RandomSeed, s.UserData
	want.Subnets = [][]string{{"static", "10.0.0.5", "255.255.240.0"}, {"static6", "fd00::5", "ffff:ffff:ffff:ffff::"}, {"dhcp4", "", ""}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
}

// TestNoCloudAgainstCloudInit has cloud-init and this package read the same NoCloud
// files: what this package writes, and both versions of network-config.
func TestNoCloudAgainstCloudInit(t *testing.T) {
	full := fullSeed()
	written, err := full.Files()
	if err != nil {
		t.Fatal(err)
	}
	bare := map[string][]byte{MetaDataFile: []byte("instance-id: x\n"), UserDataFile: []byte("#!/bin/sh\n")}
	with := func(network string) map[string][]byte {
		files := maps.Clone(bare)
		files[NetworkConfigFile] = []byte(network)
		return files
	}
	for name, files := range map[string]map[string][]byte{
		"written": written,
		"bare":    bare,
		"version 1": with(`version: 1
config:
- {type: physical, name: eth0, mac_address: "52:54:00:00:00:01", mtu: 1450, subnets: [
    {type: static, address: 10.0.0.5, netmask: 255.255.240.0, gateway: 10.0.0.1}, {type: static6, address: "fd00::5/64", gateway: "fd00::1"}]}
- {type: physical, name: eth1, mac_address: "52:54:00:00:00:02", subnets: [{type: dhcp}]}
- {type: nameserver, address: [10.0.0.2], search: [example]}
`),
		"version 2": with(`version: 2
ethernets:
  eth0: {match: {macaddress: "52:54:00:00:00:01"}, addresses: [10.0.0.5/20, "fd00::5/64"], gateway4: 10.0.0.1, routes: [{to: "::/0", via: "fd00::1"}]}
  eth1: {match: {macaddress: "52:54:00:00:00:02"}, dhcp4: true, mtu: 9000}
`),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for f, data := range files {
				if err := os.WriteFile(filepath.Join(dir, f), data, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			type link struct {
				Name, MAC           string
				MTU                 int
				DHCP                bool
				Addresses, Gateways []string
			}
			type read struct {
				ID, Hostname string
				User, Vendor []byte
				Links        []link
			}
			var want read
			cloudInit(t, nil, &want, "testdata/nocloud.py", dir)
			s, err := ParseNoCloud(os.DirFS(dir))
			if err != nil {
				t.Fatal(err)
			}
			got := read{ID: s.MetaData.InstanceID, Hostname: s.MetaData.LocalHostname, User: s.UserData, Vendor: append([]byte{}, s.VendorData...), Links: []link{}}
			if s.Network != nil {
				for _, l := range s.Network.Links {
					at := link{Name: l.Name, MAC: l.MAC, MTU: l.MTU, DHCP: l.DHCP4, Addresses: []string{}, Gateways: []string{}}
					for _, a := range l.Addresses {
						at.Addresses = append(at.Addresses, a.String())
					}
					for _, g := range []netip.Addr{l.Gateway4, l.Gateway6} {
						if g.IsValid() {
							at.Gateways = append(at.Gateways, g.String())
						}
					}
					got.Links = append(got.Links, at)
				}
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%+v\nwant %+v", got, want)
			}
		})
	}
}

// TestAgainstCloudInit has cloud-init and this package read the same user-data.
func TestAgainstCloudInit(t *testing.T) {
	for name, data := range map[string]string{
		"config":               "#cloud-config\nhostname: web\nusers: [{name: a, sudo: false}]\nn: 0644\nb: [yes, No, 'yes', ~]\nx: &x {a: 1}\ny: {<<: *x, b: 2}\n",
		"script":               "#!/bin/sh\necho hi\n",
		"boothook":             "#cloud-boothook\n#!/bin/sh\necho hi\n",
		"gzip":                 string(zip(t, "#cloud-config\na: 1\n")),
		"archive":              "#cloud-config-archive\n- |\n  #!/bin/sh\n  a\n- {type: text/cloud-config, content: 'a: 1', filename: f}\n- {content: 'a: 2'}\n",
		"MIME":                 mimeMessage,
		"twice":                "#cloud-config\na: 1\na: 2\n",
		"upper":                "#Cloud-Config\na: 1\n",
		"crlf":                 "#!/bin/sh\r\necho hi\r\n",
		"not YAML":             "#cloud-config\na: [\n",
		"list":                 "#cloud-config\n- a\n",
		"text":                 "hello",
		"empty":                "",
		"merge how":            merging("merge_how: 'list(append)+dict(no_replace,recurse_list,recurse_str)+str(append)'"),
		"merge map":            merging("merge_how: [{name: list, settings: [prepend]}, {name: dict, settings: [recurse_array, allow_delete]}, {name: str, settings: []}]"),
		"merge old":            merging("merge_type: 'dict(recurse_array,no_replace)+list(recurse_dict)+str()'"),
		"no merge":             merging("z: 1"),
		"script to a config":   withScript(t, []byte("#cloud-config\na: 1\n")),
		"script to a MIME":     withScript(t, []byte(mimeMessage)),
		"script to a gzip":     withScript(t, zip(t, mimeMessage)),
		"script to an archive": withScript(t, []byte("#cloud-config-archive\n- {content: 'a: 1', filename: f}\n- {type: text/cloud-config, content: 'a: 2'}\n")),
		"script to nothing":    withScript(t, nil),
	} {
		t.Run(name, func(t *testing.T) {
			config, scripts, boothooks := reference(t, []byte(data))
			u := new(UserData)
			// By way of JSON, in which numbers have one kind.
			var got map[string]any
			text, err := json.Marshal(u.take("user-data", []byte(data)))
			if err == nil {
				err = json.Unmarshal(text, &got)
			}
			if err != nil {
				t.Fatal(err)
			}
			if config == nil {
				config = map[string]any{}
			}
			if !reflect.DeepEqual(got, config) {
				t.Errorf("config %v\nwant   %v\nwarnings %q", got, config, u.Warnings)
			}
			same(t, "scripts", u.Scripts, scripts)
			same(t, "boothooks", u.Boothooks, boothooks)
		})
	}
}

// merging is user-data of two cloud-configs, the second of which says how it is
// merged into the first.
func merging(how string) string {
	return "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n" +
		"--b\nContent-Type: text/cloud-config\n\nl: [1, {a: b}, [x]]\nm: {a: 1, l: [1], s: x, d: {e: f}}\ns: one\nn: 1\n" +
		"--b\nContent-Type: text/cloud-config\n\n" + how + "\nl: [2, {a: c, d: e}, [y], 4]\nm: {a: 2, l: [2], s: y, d: {e: g, h: i}, t: u}\ns: two\nn: null\nnew: [1]\n" +
		"--b--\n"
}

func withScript(t *testing.T, user []byte) string {
	t.Helper()
	data, err := WithScript(user, TypeScriptPerBoot, Script{Name: "extra", Body: []byte("#!/bin/sh\ntrue\n")})
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func same(t *testing.T, what string, got []Script, want map[string]string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d %s, want %d", len(got), what, len(want))
	}
	for _, s := range got {
		body, err := base64.StdEncoding.DecodeString(want[s.Name])
		if err != nil || string(s.Body) != string(body) {
			t.Errorf("%s: %s: %q, want %q", what, s.Name, s.Body, body)
		}
	}
}
