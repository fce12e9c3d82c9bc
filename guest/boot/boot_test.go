package boot

import (
	"os"
	"reflect"
	"testing"
	"time"

	"github.com/slipway-vm/slipway/cloudinit"
	"github.com/slipway-vm/slipway/guest/agent"
	"github.com/slipway-vm/slipway/guest/share"
)

func TestParseCommandLine(t *testing.T) {
	c := parseCommandLine("console=ttyS0 slipway.root=9p:slipway slipway.debug " +
		"virtio_mmio.device=512@0xfeb00e00:12 virtio-mmio.device=512@0xfeb00c00:11 quiet\n")
	if c.root != "9p:slipway" || !c.debug || c.probe {
		t.Errorf("got %+v", c)
	}
	want := "device=512@0xfeb00e00:12 device=512@0xfeb00c00:11"
	if got := c.moduleParameters("virtio_mmio"); got != want {
		t.Errorf("parameters %q, want %q", got, want)
	}
	if got := c.moduleParameters("virtio"); got != "" {
		t.Errorf("parameters of virtio %q", got)
	}
	if !parseCommandLine("slipway.probe").probe {
		t.Error("no probe")
	}
}

func TestEtcFiles(t *testing.T) {
	const local = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n" +
		"fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
	for _, test := range []struct {
		spec share.Spec
		want map[string]string
	}{
		{share.Spec{}, map[string]string{"hosts": local}},
		{
			share.Spec{
				Hostname: "web.example", Nameservers: []string{"10.0.0.1", "10.0.0.2"}, Search: []string{"a", "b"},
				Hosts: []share.Host{{Address: "10.0.0.9", Names: []string{"db", "data"}}},
			},
			map[string]string{
				"hosts":       local + "127.0.1.1\tweb.example web\n10.0.0.9\tdb data\n",
				"hostname":    "web.example\n",
				"resolv.conf": "nameserver 10.0.0.1\nnameserver 10.0.0.2\nsearch a b\n",
			},
		},
	} {
		got := map[string]string{}
		for name, data := range etcFiles(&test.spec) {
			got[name] = string(data)
		}
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}

func TestMetaValue(t *testing.T) {
	data, err := cloudinit.MetaData{
		InstanceID: "0123", LocalHostname: "web.example", PublicKeys: []string{"local-hostname: no"},
		Meta: map[string]string{"instance-id": "no"},
	}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"instance-id": "0123", "local-hostname": "web.example", "other": ""} {
		if got := metaValue(data, key); got != want {
			t.Errorf("%s: %q, want %q in\n%s", key, got, want, data)
		}
	}
	if got := metaValue([]byte("a: b\ninstance-id: 'x y' \n"), "instance-id"); got != "x y" {
		t.Errorf("got %q", got)
	}
}

func TestParseStat(t *testing.T) {
	got, err := parseStat("42 (a) b (c) S 7 42 42 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 3 0 1234 9999 10 18446744073709551615 1")
	want := agent.ProcessInfo{Parent: 7, State: "S", CPU: 2 * time.Second, Start: 12340 * time.Millisecond,
		Memory: 10 * uint64(os.Getpagesize()), Command: "[a) b (c]"}
	if err != nil || got != want {
		t.Errorf("got %+v, err %v, want %+v", got, err, want)
	}
	for _, s := range []string{"", "1 (x", "1 (x) S 1"} {
		if _, err := parseStat(s); err == nil {
			t.Errorf("%q: no error", s)
		}
	}
}

func TestParseLinks(t *testing.T) {
	got := parseLinks([]byte("Inter-|   Receive |  Transmit\n face |bytes packets\n" +
		"    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0\n" +
		"  eth0:    1000      10    0    0    0     0          0         0     2000      20    0    0    0     0       0          0\n"))
	want := []agent.LinkStats{{Name: "eth0", RxBytes: 1000, RxPackets: 10, TxBytes: 2000, TxPackets: 20}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
