package nova

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/network"
)

// lan makes a network of a project with a subnet.
func (f *fleet) lan(owner, name, cidr string) network.Network {
	f.t.Helper()
	n, err := f.net.CreateNetwork(f.t.Context(), network.Network{Base: network.Base{Project: owner, Name: name}})
	if err == nil && cidr != "" {
		_, err = f.net.CreateSubnet(f.t.Context(), network.Subnet{Base: network.Base{Project: owner}, Network: n.ID, CIDR: netip.MustParsePrefix(cidr)})
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return n
}

func (f *fleet) port(owner, on string) network.Port {
	f.t.Helper()
	p, err := f.net.CreatePort(f.t.Context(), network.Port{Base: network.Base{Project: owner}, Network: on})
	if err != nil {
		f.t.Fatal(err)
	}
	return p
}

// ask makes a request as a member of the test's project.
func (f *fleet) ask(version, method, path, body string) (int, map[string]any, string) {
	f.t.Helper()
	w := call(f.t, f, member(project), version, method, path, body)
	var got map[string]any
	_ = json.Unmarshal(w.Body.Bytes(), &got)
	return w.Code, got, w.Body.String()
}

func TestServerNetworks(t *testing.T) {
	f := newFleet(t)
	lan := f.lan(project, "lan", "10.9.0.0/24")
	theirs := f.lan(other, "theirs", "10.9.1.0/24")
	bare := f.lan(project, "bare", "")
	port, stranger := f.port(project, lan.ID), f.port(other, theirs.ID)
	create := func(more string) (int, string) {
		code, _, text := f.ask("2.90", "POST", "/v2.1/servers", `{"server":{"name":"web","imageRef":"`+imageID+`","flavorRef":"tiny",`+more+`}}`)
		return code, text
	}
	const absent = "99999999-8888-4777-8666-555555555555"
	for more, want := range map[string]string{
		`"networks":"some"`:                                                  "400 'some' is not one of ['none', 'auto']",
		`"networks":[{"uuid":"` + absent + `"}]`:                             "400 Network " + absent + " could not be found.",
		`"networks":[{"uuid":"` + theirs.ID + `"}]`:                          "400 Network " + theirs.ID + " could not be found.",
		`"networks":[{"uuid":"` + bare.ID + `"}]`:                            "400 Network " + bare.ID + " requires a subnet in order to boot instances on.",
		`"networks":[{"port":"` + stranger.ID + `"}]`:                        "400 Port " + stranger.ID + " could not be found.",
		`"networks":[{"port":"` + port.ID + `","fixed_ip":"10.9.0.9"}]`:      "400 the two cannot be specified together",
		`"networks":[{"port":"` + port.ID + `"}],"max_count":2`:              "400 Unable to launch multiple instances with a single configured port ID",
		`"networks":[{"uuid":"` + lan.ID + `","fixed_ip":"10.8.0.1"}]`:       "400 is not a valid IP",
		`"networks":[{"uuid":"` + lan.ID + `","fixed_ip":"10.9.0.2"}]`:       "400 Fixed IP address 10.9.0.2 is already in use",
		`"networks":[{"uuid":"` + lan.ID + `","colour":"red"}]`:              "400 ('colour' was unexpected)",
		`"networks":"auto","security_groups":[{"name":"nosuch"}]`:            "400 Security group nosuch not found for project " + project + ".",
		`"networks":[{"port":"` + port.ID + `"},{"port":"` + port.ID + `"}]`: "400 is still in use",
	} {
		code, text := create(more)
		if wantCode, message, _ := strings.Cut(want, " "); fmt.Sprint(code) != wantCode || !strings.Contains(text, message) {
			t.Errorf("%s: %d %s, want %s", more, code, text, want)
		}
	}
	if n := len(f.m.Servers()); n != 0 {
		t.Fatalf("%d servers were made", n)
	}
	if ports := f.net.Ports(func(p network.Port) bool { return p.Device != "" }); len(ports) > 0 {
		t.Fatalf("ports were left: %v", ports)
	}
}

func TestServerAddresses(t *testing.T) {
	f := newFleet(t)
	lan, wan := f.lan(project, "lan", "10.9.0.0/24"), f.lan(project, "wan", "10.9.1.0/24")
	port := f.port(project, wan.ID)
	id := f.make("web", `,"networks":[{"uuid":"`+lan.ID+`","fixed_ip":"10.9.0.77"},{"port":"`+port.ID+`"}]`)
	path := "/v2.1/servers/" + id
	ports := f.net.PortsOf(id)
	if len(ports) != 2 || ports[1].ID != port.ID {
		t.Fatalf("ports %v", ports)
	}
	_, got, _ := f.ask("2.90", "GET", path, "")
	want := fmt.Sprintf("map[lan:[map[OS-EXT-IPS-MAC:mac_addr:%s OS-EXT-IPS:type:fixed addr:10.9.0.77 version:4]] wan:[map[OS-EXT-IPS-MAC:mac_addr:%s OS-EXT-IPS:type:fixed addr:%s version:4]]]",
		ports[0].MAC, port.MAC, port.FixedIPs[0].IP)
	srv := got["server"].(map[string]any)
	if fmt.Sprint(srv["addresses"]) != want || fmt.Sprint(srv["security_groups"]) != "[map[name:default]]" {
		t.Errorf("addresses %v\nwant      %s\ngroups %v", srv["addresses"], want, srv["security_groups"])
	}
	for _, tt := range []struct {
		path string
		code int
		want string
	}{
		{"/ips", 200, `{"addresses":{"lan":[{"addr":"10.9.0.77","version":4}],"wan":[{"addr":"` + port.FixedIPs[0].IP.String() + `","version":4}]}}`},
		{"/ips/lan", 200, `{"lan":[{"addr":"10.9.0.77","version":4}]}`},
		{"/ips/nosuch", 404, "not a member of specified network"},
		{"/os-interface/" + port.ID, 200, `"net_id":"` + wan.ID + `"`},
		{"/os-interface/" + lan.ID, 404, "is not attached to instance"},
		{"/os-interface", 200, `"port_id":"` + port.ID + `"`},
		{"/os-security-groups", 200, `"name":"default"`},
	} {
		if code, _, text := f.ask("2.90", "GET", path+tt.path, ""); code != tt.code || !strings.Contains(text, tt.want) {
			t.Errorf("GET %s: %d %s, want %d %s", tt.path, code, text, tt.code, tt.want)
		}
	}
	for id, want := range map[string]int{lan.ID: 200, "nosuch": 404} {
		if code, _, text := f.ask("2.1", "GET", "/v2.1/os-networks/"+id, ""); code != want || code == 200 && !strings.Contains(text, `"label":"lan"`) {
			t.Errorf("network %s: %d %s, want %d", id, code, text, want)
		}
	}
	for query, want := range map[string]bool{
		"ip=10.9.0.77": true, "ip=10.9.0.": true, "ip=" + url.QueryEscape(`10\.9\.[01]\.7+$`): true, "ip=9.0.77": false, "ip6=10": false, "ip=10.9.2": false,
	} {
		if code, _, text := f.ask("2.90", "GET", "/v2.1/servers?"+query, ""); code != 200 || strings.Contains(text, id) != want {
			t.Errorf("servers?%s: %d %s", query, code, text)
		}
	}
	if code, _, text := f.ask("2.90", "GET", "/v2.1/servers?ip=(", ""); code != 400 {
		t.Errorf("no regular expression: %d %s", code, text)
	}
	if code, _, text := f.ask("2.90", "DELETE", path, ""); code != 204 {
		t.Fatalf("delete: %d %s", code, text)
	}
	f.until(id, "DELETED")
	if p, err := f.net.Port(port.ID); err != nil || p.Device != "" {
		t.Errorf("a port of the project's own: %+v, %v", p, err)
	}
	if _, err := f.net.Port(ports[0].ID); err == nil {
		t.Error("a port that was made for the server stays")
	}
}

func TestSecurityGroupActions(t *testing.T) {
	f := newFleet(t)
	g, err := f.net.CreateGroup(t.Context(), network.SecurityGroup{Base: network.Base{Project: project, Name: "web"}})
	if err != nil {
		t.Fatal(err)
	}
	id := f.make("web", `,"networks":"auto"`)
	act := func(body string, code int, want string) {
		t.Helper()
		if got, _, text := f.ask("2.90", "POST", "/v2.1/servers/"+id+"/action", body); got != code || !strings.Contains(text, want) {
			t.Errorf("%s: %d %s, want %d %s", body, got, text, code, want)
		}
	}
	groups := func() string { return strings.Join(f.net.PortsOf(id)[0].SecurityGroups, " ") }
	first := groups()
	act(`{"addSecurityGroup":{"name":"web"}}`, 202, "")
	if groups() != first+" "+g.ID {
		t.Errorf("added: %s", groups())
	}
	act(`{"addSecurityGroup":{"name":"`+g.ID+`"}}`, 202, "")
	act(`{"addSecurityGroup":{"name":"nosuch"}}`, 404, "Security group nosuch not found")
	act(`{"addSecurityGroup":{}}`, 400, "")
	act(`{"removeSecurityGroup":{"name":"default"}}`, 202, "")
	act(`{"removeSecurityGroup":{"name":"default"}}`, 404, "not associated with the instance")
	if groups() != g.ID {
		t.Errorf("removed: %s", groups())
	}
}

func TestInterfaces(t *testing.T) {
	f := newFleet(t)
	lan := f.lan(project, "lan", "10.9.0.0/24")
	port := f.port(project, lan.ID)
	id := f.make("web", `,"networks":"none"`)
	path := "/v2.1/servers/" + id + "/os-interface"
	attach := `{"interfaceAttachment":{"port_id":"` + port.ID + `"}}`
	// While it runs its domain gets it, and loses it.
	name := "test-" + id
	if code, _, text := f.ask("2.90", "POST", path, attach); code != 200 || !strings.Contains(text, port.MAC) || len(f.hypervisor.NICs(name)) != 1 {
		t.Errorf("running: %d %s; the domain has %v", code, text, f.hypervisor.NICs(name))
	}
	if code, _, text := f.ask("2.90", "DELETE", path+"/"+port.ID, ""); code != 202 || len(f.hypervisor.NICs(name)) != 0 {
		t.Errorf("running: %d %s; the domain has %v", code, text, f.hypervisor.NICs(name))
	}
	if p, err := f.net.Port(port.ID); err != nil || p.Device != "" || p.Tap != "" {
		t.Errorf("a port that was taken from a running server: %+v, %v", p, err)
	}
	f.do(member(project), "2.1", "POST", "/v2.1/servers/"+id+"/action", `{"os-stop":null}`, 202)
	f.until(id, "SHUTOFF")
	if code, _, text := f.ask("2.90", "POST", path, attach); code != 200 || !strings.Contains(text, port.MAC) {
		t.Errorf("attach: %d %s", code, text)
	}
	if code, _, text := f.ask("2.90", "POST", path, attach); code != 409 {
		t.Errorf("twice: %d %s", code, text)
	}
	if code, _, text := f.ask("2.90", "POST", path, `{"interfaceAttachment":{"net_id":"`+lan.ID+`","fixed_ips":[{"ip_address":"10.9.0.9"}]}}`); code != 200 || !strings.Contains(text, "10.9.0.9") {
		t.Errorf("by network: %d %s", code, text)
	}
	srv, err := f.m.Server(id)
	if err != nil || len(srv.NICs) != 2 {
		t.Errorf("interfaces %+v, %v", srv.NICs, err)
	}
	if code, _, text := f.ask("2.90", "DELETE", path+"/"+port.ID, ""); code != 202 {
		t.Errorf("detach: %d %s", code, text)
	}
	if p, err := f.net.Port(port.ID); err != nil || p.Device != "" || len(f.net.PortsOf(id)) != 1 {
		t.Errorf("detached: %+v, %v", p, err)
	}
}

func TestServerPassword(t *testing.T) {
	f := newFleet(t)
	id := f.make("web", "")
	path := "/v2.1/servers/" + id + "/os-server-password"
	if _, err := f.m.Update(t.Context(), id, func(s *launcher.Server) error { s.Password = "c2VjcmV0"; return nil }); err != nil {
		t.Fatal(err)
	}
	if code, _, text := f.ask("2.90", "GET", path, ""); code != 200 || text != `{"password":"c2VjcmV0"}` {
		t.Errorf("%d %s", code, text)
	}
	if code, _, text := f.ask("2.90", "DELETE", path, ""); code != 204 {
		t.Errorf("clear: %d %s", code, text)
	}
	if _, _, text := f.ask("2.90", "GET", path, ""); text != `{"password":""}` {
		t.Errorf("cleared: %s", text)
	}
}

func TestFloatingIPs(t *testing.T) {
	f := newFleet(t)
	id := func(path, body, kind string) string {
		t.Helper()
		code, got, text := f.ask("2.1", "POST", "/v2.1"+path, body)
		one, _ := got[kind].(map[string]any)
		made, _ := one["id"].(string)
		if code != 200 || made == "" {
			t.Fatalf("POST %s: %d %s", path, code, text)
		}
		return made
	}
	out, err := f.net.CreateNetwork(t.Context(), network.Network{Base: network.Base{Name: "outside"}, External: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.net.CreateSubnet(t.Context(), network.Subnet{Network: out.ID, CIDR: netip.MustParsePrefix("203.0.113.0/24")}); err != nil {
		t.Fatal(err)
	}
	floating := id("/os-floating-ips", `{"pool":"outside"}`, "floating_ip")
	for _, tt := range []struct {
		version, method, path, body string
		code                        int
		want                        string
	}{
		{"2.1", "GET", "/os-floating-ips/" + floating, "", 200, `"pool":"outside"`},
		{"2.1", "POST", "/os-floating-ips", `{"pool":"nosuch"}`, 404, "pool not found"},
		{"2.36", "GET", "/os-floating-ips", "", 404, ""},
		{"2.1", "DELETE", "/os-floating-ips/" + floating, "", 202, ""},
		{"2.1", "GET", "/os-floating-ips", "", 200, `{"floating_ips":[]}`},
	} {
		if code, _, text := f.ask(tt.version, tt.method, "/v2.1"+tt.path, tt.body); code != tt.code || !strings.Contains(text, tt.want) {
			t.Errorf("%s %s %s: %d %s, want %d %s", tt.method, tt.path, tt.body, code, text, tt.code, tt.want)
		}
	}
}

func TestFixedIPs(t *testing.T) {
	f := newFleet(t)
	lan := f.lan(project, "lan", "10.9.0.0/24")
	server := f.make("web", `,"networks":[{"uuid":"`+lan.ID+`","fixed_ip":"10.9.0.77"}]`)
	act := func(version, body string, code, left int) {
		t.Helper()
		got, _, text := f.ask(version, "POST", "/v2.1/servers/"+server+"/action", body)
		srv, err := f.m.Server(server)
		if got != code || err != nil || len(f.net.PortsOf(server)[0].FixedIPs) != left || len(srv.NICs[0].Addresses) != left {
			t.Errorf("%s: %d %s; the server has %v", body, got, text, f.net.PortsOf(server))
		}
	}
	act("2.1", `{"addFixedIp":{"networkId":"`+lan.ID+`"}}`, 202, 2)
	act("2.1", `{"removeFixedIp":{"address":"10.9.0.77"}}`, 202, 1)
	act("2.1", `{"removeFixedIp":{"address":"10.9.0.77"}}`, 400, 1)
	act("2.1", `{"addFixedIp":{"networkId":"`+server+`"}}`, 400, 1)
	act("2.44", `{"addFixedIp":{"networkId":"`+lan.ID+`"}}`, 400, 1)
}
