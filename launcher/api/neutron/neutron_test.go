package neutron

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/launchertest"
	"github.com/slipway-vm/slipway/launcher/network"
)

const (
	mine   = "0123456789abcdef0123456789abcdef"
	theirs = "fedcba9876543210fedcba9876543210"
	local  = "11111111111111111111111111111111"
)

// cloud is the API over networks of its own.
type cloud struct {
	t   *testing.T
	h   http.Handler
	net *network.Service
}

func newCloud(t *testing.T) *cloud {
	t.Helper()
	net, err := network.Open(t.Context(), network.Config{Store: launchertest.NewSection(), Identity: "abcde"})
	if err != nil {
		t.Fatal(err)
	}
	return &cloud{t, New(Config{Networks: net, LocalProject: local, Host: "host", Domain: network.DefaultDomain}), net}
}

func caller(project, role string) *openstack.Caller {
	return &openstack.Caller{UserID: "u", ProjectID: project, Roles: []string{role}}
}

var (
	member = caller(mine, openstack.Member)
	other  = caller(theirs, openstack.Member)
	reader = caller(mine, openstack.Reader)
	admin  = caller(local, openstack.Admin)
)

// ask makes a request, and returns the status and what of the answer is in it.
func (c *cloud) ask(who *openstack.Caller, method, path, body string) (int, map[string]any) {
	c.t.Helper()
	r := httptest.NewRequestWithContext(c.t.Context(), method, path, strings.NewReader(body))
	r.Host = "cloud"
	r = r.WithContext(openstack.WithCaller(r.Context(), who))
	w := httptest.NewRecorder()
	c.h.ServeHTTP(w, r)
	var got map[string]any
	if w.Body.Len() > 0 {
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			c.t.Fatalf("%s %s: %v\n%s", method, path, err, w.Body)
		}
	}
	return w.Code, got
}

// must is ask for what has to go well, and returns the resource or the list.
func (c *cloud) must(who *openstack.Caller, method, path, body string) map[string]any {
	c.t.Helper()
	code, got := c.ask(who, method, path, body)
	if code >= 300 {
		c.t.Fatalf("%s %s %s: %d %v", method, path, body, code, got)
	}
	for _, v := range got {
		if m, ok := v.(map[string]any); ok {
			return m
		}
	}
	return got
}

// names are those of a list's items, or what key says of them.
func (c *cloud) names(who *openstack.Caller, path, key string) string {
	c.t.Helper()
	code, got := c.ask(who, "GET", path, "")
	if code != 200 {
		return fmt.Sprint(code, got)
	}
	var all []string
	for name, v := range got {
		items, ok := v.([]any)
		if !ok || strings.HasSuffix(name, "_links") {
			continue
		}
		for _, item := range items {
			all = append(all, fmt.Sprint(item.(map[string]any)[key]))
		}
	}
	if !strings.Contains(path, "sort_key") {
		slices.Sort(all) // records of one second have no order
	}
	return strings.Join(all, " ")
}

// line shows values with blanks between.
func line(values ...any) string { return strings.TrimSuffix(fmt.Sprintln(values...), "\n") }

// refused asserts a fault.
func (c *cloud) refused(who *openstack.Caller, method, path, body string, code int, kind, message string) {
	c.t.Helper()
	got, answer := c.ask(who, method, path, body)
	fault, _ := answer["NeutronError"].(map[string]any)
	if got != code || fault["type"] != kind || !strings.Contains(fmt.Sprint(fault["message"]), message) {
		c.t.Errorf("%s %s %s: %d %v, want %d %s %q", method, path, body, got, answer, code, kind, message)
	}
}

func (c *cloud) network(who *openstack.Caller, name, more string) string {
	c.t.Helper()
	return c.must(who, "POST", "/v2.0/networks", `{"network": {"name": "`+name+`"`+more+`}}`)["id"].(string)
}

func TestVersions(t *testing.T) {
	c := newCloud(t)
	if code, got := c.ask(nil, "GET", "/", ""); code != 200 || fmt.Sprint(got) != "map[versions:[map[id:v2.0 links:[map[href:http://cloud/v2.0/ rel:self]] status:CURRENT]]]" {
		t.Errorf("%d %v", code, got)
	}
	if got := c.names(member, "/v2.0/extensions", "alias"); !strings.Contains(got, "security-group") || strings.Contains(got, "trunk") {
		t.Errorf("extensions %s", got)
	}
	c.refused(member, "GET", "/v2.0/extensions/trunk", "", 404, "ExtensionsNotFound", "trunk")
	c.refused(member, "GET", "/v2.0/nosuch", "", 404, "HTTPNotFound", "could not be found")
	c.refused(caller(mine, "none"), "GET", "/v2.0/networks", "", 403, "PolicyNotAuthorized", "get_network")
}

func TestNetwork(t *testing.T) {
	c := newCloud(t)
	n := c.must(member, "POST", "/v2.0/networks", `{"network": {"name": "lan", "mtu": 1400, "admin_state_up": "false", "shared": false, "dns_domain": "Lan.Example."}}`)
	for name, want := range map[string]any{
		"name": "lan", "mtu": 1400.0, "admin_state_up": false, "status": "ACTIVE", "shared": false, "router:external": false, "project_id": mine,
		"tenant_id": mine, "port_security_enabled": true, "dns_domain": "lan.example.", "revision_number": 1.0, "is_default": false,
	} {
		if n[name] != want {
			t.Errorf("%s: %v, want %v", name, n[name], want)
		}
	}
	if _, there := n["provider:network_type"]; there {
		t.Error("a member sees provider attributes")
	}
	path := "/v2.0/networks/" + n["id"].(string)
	if got := c.must(admin, "GET", path, ""); got["provider:network_type"] != "local" {
		t.Errorf("an administrator sees %v", got)
	}
	if got := c.must(member, "PUT", path, `{"network": {"name": "wan", "admin_state_up": true}}`); got["name"] != "wan" || got["revision_number"] != 2.0 || got["mtu"] != 1400.0 {
		t.Errorf("updated: %v", got)
	}
	if got := c.must(reader, "GET", path+"?fields=name&fields=mtu", ""); len(got) != 2 || got["name"] != "wan" {
		t.Errorf("fields: %v", got)
	}
	for _, tt := range []struct {
		header string
		want   int
	}{{"revision_number=1", 412}, {"revision_number=2", 200}} {
		r := httptest.NewRequestWithContext(t.Context(), "PUT", path, strings.NewReader(`{"network": {"description": "d"}}`))
		r.Header.Set("If-Match", tt.header)
		w := httptest.NewRecorder()
		c.h.ServeHTTP(w, r.WithContext(openstack.WithCaller(r.Context(), member)))
		if w.Code != tt.want {
			t.Errorf("If-Match %s: %d %s", tt.header, w.Code, w.Body)
		}
	}
	c.refused(reader, "DELETE", path, "", 403, "PolicyNotAuthorized", "delete_network")
	c.refused(other, "GET", path, "", 404, "NetworkNotFound", "could not be found.")
	c.refused(other, "DELETE", path, "", 404, "NetworkNotFound", "could not be found.")
	c.refused(member, "PUT", path, `{"network": {"shared": true}}`, 403, "PolicyNotAuthorized", "update_network:shared")
	c.must(admin, "PUT", path, `{"network": {"shared": true}}`)
	c.must(other, "GET", path, "")
	c.refused(other, "PUT", path, `{"network": {"name": "x"}}`, 403, "PolicyNotAuthorized", "update_network")
	if code, _ := c.ask(member, "DELETE", path, ""); code != 204 {
		t.Errorf("delete: %d", code)
	}
	c.refused(member, "GET", path, "", 404, "NetworkNotFound", "Network "+n["id"].(string))
}

func TestInvalidBodies(t *testing.T) {
	c := newCloud(t)
	id := c.network(member, "lan", "")
	for _, tt := range []struct{ path, body, kind, message string }{
		{"networks", `{}`, "HTTPBadRequest", "Unable to find 'network' in request body"},
		{"networks", `{"network": {"colour": 1}}`, "HTTPBadRequest", "Unrecognized attribute(s) 'colour'"},
		{"networks", `{"network": {"status": "DOWN"}}`, "HTTPBadRequest", "Attribute 'status' not allowed in POST"},
		{"networks", `{"network": {"name": 5}}`, "HTTPBadRequest", "Invalid input for name. Reason: '5' is not a valid string."},
		{"networks", `{"network": {"mtu": "x"}}`, "HTTPBadRequest", "Invalid input for mtu. Reason: 'x' is not an integer."},
		{"networks", `{"network": {"mtu": 5}}`, "HTTPBadRequest", "is not in the range"},
		{"networks", `{"network": {"admin_state_up": "maybe"}}`, "HTTPBadRequest", "cannot be converted to boolean"},
		{"subnets", `{"subnet": {"cidr": "10.0.0.0/24"}}`, "HTTPBadRequest", "Required attribute 'network_id' not specified"},
		{"subnets", `{"subnet": {"network_id": "x", "cidr": "10.0.0.0/24"}}`, "HTTPBadRequest", "'x' is not a valid UUID"},
		{"subnets", `{"subnet": {"network_id": "` + id + `"}}`, "HTTPBadRequest", "subnetpool"},
		{"subnets", `{"subnet": {"network_id": "` + id + `", "cidr": "10.0.0.0/33"}}`, "HTTPBadRequest", "is not a valid IP subnet"},
		{"subnets", `{"subnet": {"network_id": "` + id + `", "ip_version": 6, "cidr": "10.0.0.0/24"}}`, "InvalidInput", "IP version 6"},
		{"subnets", `{"subnet": {"network_id": "` + id + `", "cidr": "10.0.0.0/24", "gateway_ip": "fd00::1"}}`, "InvalidInput", "does not match the ip_version"},
		{"subnets", `{"subnet": {"network_id": "` + id + `", "cidr": "10.0.0.0/24", "allocation_pools": [{"start": "10.0.1.1", "end": "10.0.1.9"}]}}`, "OutOfBoundsAllocationPool", "beyond"},
		{"ports", `{"port": {"network_id": "` + id + `", "fixed_ips": [{"ip": "10.0.0.1"}]}}`, "HTTPBadRequest", "unexpected keys"},
		{"ports", `{"port": {"network_id": "` + id + `", "mac_address": "zz"}}`, "HTTPBadRequest", "not a valid MAC"},
		{"security-groups", `{"security_group": {}}`, "HTTPBadRequest", "Required attribute 'name'"},
		{"security-groups", `{"security_group": {"name": "default"}}`, "SecurityGroupDefaultAlreadyExists", "already exists"},
		{"security-group-rules", `{"security_group_rule": {"security_group_id": "` + id + `", "direction": "ingress"}}`, "SecurityGroupNotFound", id},
		{"floatingips", `{"floatingip": {"floating_network_id": "` + id + `"}}`, "BadRequest", "not a valid external network"},
	} {
		code := 400
		switch tt.kind {
		case "SecurityGroupDefaultAlreadyExists":
			code = 409
		case "SecurityGroupNotFound":
			code = 404
		}
		c.refused(member, "POST", "/v2.0/"+tt.path, tt.body, code, tt.kind, tt.message)
	}
}

func TestSubnetAndPort(t *testing.T) {
	c := newCloud(t)
	id := c.network(member, "lan", "")
	sub := c.must(member, "POST", "/v2.0/subnets", `{"subnet": {"network_id": "`+id+`", "cidr": "10.9.0.7/24", "ip_version": 4, "name": "s",
		"dns_nameservers": ["10.9.0.2"], "host_routes": [{"destination": "10.8.0.0/16", "nexthop": "10.9.0.9"}]}}`)
	if got, want := line(sub["cidr"], sub["gateway_ip"], sub["allocation_pools"], sub["dns_nameservers"], sub["host_routes"], sub["enable_dhcp"], sub["ipv6_ra_mode"]),
		"10.9.0.0/24 10.9.0.1 [map[end:10.9.0.254 start:10.9.0.2]] [10.9.0.2] [map[destination:10.8.0.0/16 nexthop:10.9.0.9]] true <nil>"; got != want {
		t.Errorf("subnet %s\nwant   %s", got, want)
	}
	if got := c.must(member, "GET", "/v2.0/networks/"+id, "")["subnets"]; fmt.Sprint(got) != fmt.Sprint([]any{sub["id"]}) {
		t.Errorf("the network's subnets: %v", got)
	}
	none := c.must(member, "POST", "/v2.0/subnets", `{"subnet": {"network_id": "`+id+`", "cidr": "10.9.1.0/24", "gateway_ip": null}}`)
	if none["gateway_ip"] != nil {
		t.Errorf("gateway %v", none["gateway_ip"])
	}
	port := c.must(member, "POST", "/v2.0/ports", `{"port": {"network_id": "`+id+`", "name": "p", "fixed_ips": [{"ip_address": "10.9.0.50"}], "dns_name": "Web"}}`)
	if got, want := line(port["fixed_ips"], port["status"], port["dns_name"], port["dns_assignment"]),
		fmt.Sprintf("[map[ip_address:10.9.0.50 subnet_id:%s]] DOWN web [map[fqdn:web.openstacklocal. hostname:web ip_address:10.9.0.50]]", sub["id"]); got != want {
		t.Errorf("port %s\nwant %s", got, want)
	}
	if groups := port["security_groups"].([]any); len(groups) != 1 || c.must(member, "GET", "/v2.0/security-groups/"+groups[0].(string), "")["name"] != "default" {
		t.Errorf("security groups %v", groups)
	}
	body := `{"port": {"network_id": "` + id + `", "fixed_ips": [{"ip_address": "10.9.0.50"}]}}`
	c.refused(member, "POST", "/v2.0/ports", body, 409, "IpAddressAlreadyAllocated", "10.9.0.50")
	c.refused(member, "DELETE", "/v2.0/networks/"+id, "", 409, "NetworkInUse", "ports still in use")
	c.refused(member, "DELETE", "/v2.0/subnets/"+sub["id"].(string), "", 409, "SubnetInUse", "IP allocation")
	for query, want := range map[string]string{
		"fixed_ips=ip_address%3D10.9.0.50": "p", "fixed_ips=ip_address%3D10.9.0.51": "", "fixed_ips=subnet_id%3D" + sub["id"].(string): "p",
		"network_id=" + id + "&name=p": "p", "name=q": "", "admin_state_up=True": "p", "device_id=": "p", "status=DOWN&status=ACTIVE": "p",
		"mac_address=" + port["mac_address"].(string): "p", "security_groups=" + port["security_groups"].([]any)[0].(string): "p",
		"colour=red": "400 map[NeutronError:map[detail: message:[u'colour'] is invalid attribute for filtering type:HTTPBadRequest]]",
	} {
		if got := c.names(member, "/v2.0/ports?"+query, "name"); got != want {
			t.Errorf("ports?%s: %q, want %q", query, got, want)
		}
	}
	path := "/v2.0/ports/" + port["id"].(string)
	moved := c.must(member, "PUT", path, `{"port": {"fixed_ips": [{"subnet_id": "`+none["id"].(string)+`"}], "security_groups": [], "allowed_address_pairs": [{"ip_address": "10.9.0.99"}]}}`)
	if got := line(moved["fixed_ips"], moved["security_groups"]); got != fmt.Sprintf("[map[ip_address:10.9.1.1 subnet_id:%s]] []", none["id"]) {
		t.Errorf("moved: %s", got)
	}
	if code, _ := c.ask(member, "DELETE", path, ""); code != 204 {
		t.Errorf("delete: %d", code)
	}
	c.must(member, "PUT", "/v2.0/subnets/"+sub["id"].(string), `{"subnet": {"gateway_ip": null, "enable_dhcp": false}}`)
	if code, _ := c.ask(member, "DELETE", "/v2.0/networks/"+id, ""); code != 204 {
		t.Errorf("delete the network: %d", code)
	}
}

// What would let a guest on a shared network speak for others is the network's
// owner's to allow.
func TestSharedNetwork(t *testing.T) {
	c := newCloud(t)
	id := c.network(admin, "shared", `, "shared": true`)
	c.must(admin, "POST", "/v2.0/subnets", `{"subnet": {"network_id": "`+id+`", "cidr": "10.9.0.0/24"}}`)
	c.refused(member, "POST", "/v2.0/subnets", `{"subnet": {"network_id": "`+id+`", "cidr": "10.9.1.0/24"}}`, 403, "PolicyNotAuthorized", "create_subnet")
	for _, more := range []string{`"port_security_enabled": false`, `"allowed_address_pairs": [{"ip_address": "10.9.0.1"}]`, `"device_owner": "network:dhcp"`, `"device_id": "s", "device_owner": "compute:nova"`} {
		c.refused(member, "POST", "/v2.0/ports", `{"port": {"network_id": "`+id+`", `+more+`}}`, 403, "PolicyNotAuthorized", "create_port")
	}
	p := c.must(member, "POST", "/v2.0/ports", `{"port": {"network_id": "`+id+`"}}`)
	path := "/v2.0/ports/" + p["id"].(string)
	c.refused(member, "PUT", path, `{"port": {"port_security_enabled": false, "security_groups": []}}`, 403, "PolicyNotAuthorized", "port_security_enabled")
	c.refused(member, "PUT", path, `{"port": {"binding:host_id": "x"}}`, 403, "PolicyNotAuthorized", "binding:host_id")
	c.refused(other, "GET", path, "", 404, "PortNotFound", "could not be found")
	// A server's port stays the server's.
	if _, err := c.net.UpdatePort(t.Context(), p["id"].(string), func(p *network.Port) error {
		p.Device, p.Owner = "server", network.OwnerServer
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{`"device_id": "other"`, `"device_owner": ""`, `"device_id": "", "device_owner": ""`} {
		c.refused(member, "PUT", path, `{"port": {`+body+`}}`, 403, "PolicyNotAuthorized", "update_port:device_id")
	}
	c.must(member, "PUT", path, `{"port": {"device_id": "server", "name": "n"}}`)
	if got := c.names(other, "/v2.0/ports", "id"); got != "" {
		t.Errorf("another project sees %s", got)
	}
	if got := c.must(admin, "GET", path, ""); got["binding:vif_type"] != "unbound" {
		t.Errorf("binding: %v", got)
	}
	theirGroup := c.must(other, "POST", "/v2.0/security-groups", `{"security_group": {"name": "g"}}`)["id"].(string)
	c.refused(member, "PUT", path, `{"port": {"security_groups": ["`+theirGroup+`"]}}`, 404, "SecurityGroupNotFound", theirGroup)
}

func TestSecurityGroups(t *testing.T) {
	c := newCloud(t)
	if got := c.names(member, "/v2.0/security-groups", "name"); got != "default" {
		t.Errorf("groups: %q", got)
	}
	if got := c.names(member, "/v2.0/security-group-rules", "direction"); got != "egress egress ingress ingress" {
		t.Errorf("rules: %q", got)
	}
	g := c.must(member, "POST", "/v2.0/security-groups", `{"security_group": {"name": "web", "description": "d"}}`)
	if rules := g["security_group_rules"].([]any); len(rules) != 2 || g["stateful"] != true {
		t.Errorf("%v", g)
	}
	id := g["id"].(string)
	rule := `{"security_group_rule": {"security_group_id": "` + id + `", "direction": "ingress", "protocol": "TCP", "port_range_min": 80, "port_range_max": "80", "remote_ip_prefix": "10.1.2.3/16"}}`
	r := c.must(member, "POST", "/v2.0/security-group-rules", rule)
	if got := line(r["protocol"], r["port_range_min"], r["port_range_max"], r["ethertype"], r["remote_ip_prefix"], r["normalized_cidr"], r["remote_group_id"], r["project_id"]); got != "tcp 80 80 IPv4 10.1.2.3/16 10.1.0.0/16 <nil> "+mine {
		t.Errorf("rule %s", got)
	}
	c.refused(member, "POST", "/v2.0/security-group-rules", rule, 409, "SecurityGroupRuleExists", r["id"].(string))
	c.refused(member, "POST", "/v2.0/security-group-rules", strings.Replace(rule, "10.1.2.3/16", "10.1.0.0/16", 1), 409, "SecurityGroupRuleExists", r["id"].(string))
	one := c.must(member, "POST", "/v2.0/security-group-rules", strings.Replace(rule, "10.1.2.3/16", "10.1.2.3", 1))
	if one["remote_ip_prefix"] != "10.1.2.3/32" {
		t.Errorf("the rule for one address is %v", one)
	}
	c.must(member, "DELETE", "/v2.0/security-group-rules/"+one["id"].(string), "")
	c.refused(other, "POST", "/v2.0/security-group-rules", rule, 404, "SecurityGroupNotFound", id)
	c.refused(member, "PUT", "/v2.0/security-group-rules/"+r["id"].(string), `{"security_group_rule": {}}`, 405, "HTTPMethodNotAllowed", "not allowed")
	bulk := `{"security_group_rules": [{"security_group_id": "` + id + `", "direction": "ingress", "protocol": "udp"}, {"security_group_id": "` + id + `", "direction": "up"}]}`
	c.refused(member, "POST", "/v2.0/security-group-rules", bulk, 400, "HTTPBadRequest", "'up' is not in")
	if got := c.names(member, "/v2.0/security-group-rules?security_group_id="+id+"&protocol=udp", "id"); got != "" {
		t.Errorf("a part of a list was made: %s", got)
	}
	if got := c.names(member, "/v2.0/security-groups?sort_key=name&sort_dir=desc&limit=1", "name"); got != "web" {
		t.Errorf("sorted: %q", got)
	}
	if code, got := c.ask(member, "GET", "/v2.0/security-groups?sort_key=name&limit=1", ""); code != 200 || !strings.Contains(fmt.Sprint(got["security_groups_links"]), "marker=") {
		t.Errorf("no link to the next page: %v", got)
	}
	defaultID := c.names(member, "/v2.0/security-groups?name=default", "id")
	c.refused(member, "DELETE", "/v2.0/security-groups/"+defaultID, "", 409, "SecurityGroupCannotRemoveDefault", "not allowed")
	c.must(admin, "DELETE", "/v2.0/security-groups/"+defaultID, "")
	if again := c.names(member, "/v2.0/security-groups?name=default", "id"); again == "" || again == defaultID {
		t.Errorf("the default group is %q after %s was deleted", again, defaultID)
	}
	if code, _ := c.ask(member, "DELETE", "/v2.0/security-group-rules/"+r["id"].(string), ""); code != 204 {
		t.Errorf("delete the rule: %d", code)
	}
	if code, _ := c.ask(member, "DELETE", "/v2.0/security-groups/"+id, ""); code != 204 {
		t.Errorf("delete: %d", code)
	}
}

func TestFloatingIP(t *testing.T) {
	c := newCloud(t)
	id := c.network(member, "lan", "")
	c.must(member, "POST", "/v2.0/subnets", `{"subnet": {"network_id": "`+id+`", "cidr": "10.9.0.0/24"}}`)
	c.refused(member, "POST", "/v2.0/networks", `{"network": {"router:external": true}}`, 403, "PolicyNotAuthorized", "router:external")
	ext := c.network(admin, "public", `, "router:external": true`)
	c.must(admin, "POST", "/v2.0/subnets", `{"subnet": {"network_id": "`+ext+`", "cidr": "203.0.113.0/24"}}`)
	port := c.must(member, "POST", "/v2.0/ports", `{"port": {"network_id": "`+id+`"}}`)
	f := c.must(member, "POST", "/v2.0/floatingips", `{"floatingip": {"floating_network_id": "`+ext+`", "description": "mine"}}`)
	if got := line(f["floating_ip_address"], f["status"], f["port_id"], f["fixed_ip_address"], f["router_id"]); got != "203.0.113.2 DOWN <nil> <nil> <nil>" {
		t.Errorf("%s", got)
	}
	path := "/v2.0/floatingips/" + f["id"].(string)
	f = c.must(member, "PUT", path, `{"floatingip": {"port_id": "`+port["id"].(string)+`"}}`)
	if got := line(f["status"], f["fixed_ip_address"], f["port_details"].(map[string]any)["network_id"]); got != "ACTIVE 10.9.0.2 "+id {
		t.Errorf("associated: %s", got)
	}
	c.refused(other, "PUT", path, `{"floatingip": {"port_id": null}}`, 404, "FloatingIPNotFound", "could not be found")
	theirs := c.must(other, "POST", "/v2.0/floatingips", `{"floatingip": {"floating_network_id": "`+ext+`"}}`)
	c.refused(other, "PUT", "/v2.0/floatingips/"+theirs["id"].(string), `{"floatingip": {"port_id": "`+port["id"].(string)+`"}}`, 404, "PortNotFound", "could not be found")
	if f = c.must(member, "PUT", path, `{"floatingip": {"port_id": null}}`); f["status"] != "DOWN" || f["port_id"] != nil {
		t.Errorf("let go: %v", f)
	}
	if got := c.names(member, "/v2.0/routers", "id"); got != "" {
		t.Errorf("routers: %q", got)
	}
	c.refused(member, "POST", "/v2.0/routers", `{"router": {}}`, 409, "RouterNotSupported", "the host routes")
	c.refused(member, "GET", "/v2.0/routers/x", "", 404, "RouterNotFound", "Router x")
}

func TestTags(t *testing.T) {
	c := newCloud(t)
	path := "/v2.0/networks/" + c.network(member, "a", "")
	c.network(member, "b", `, "tags": ["red"]`)
	c.must(member, "PUT", path+"/tags", `{"tags": ["red", "blue", "red"]}`)
	if code, _ := c.ask(member, "PUT", path+"/tags/green", ""); code != 201 {
		t.Errorf("add: %d", code)
	}
	if code, _ := c.ask(member, "GET", path+"/tags/green", ""); code != 204 {
		t.Errorf("look: %d", code)
	}
	if code, _ := c.ask(member, "DELETE", path+"/tags/blue", ""); code != 204 {
		t.Errorf("remove: %d", code)
	}
	c.refused(member, "DELETE", path+"/tags/blue", "", 404, "TagNotFound", "blue")
	for query, want := range map[string]string{"tags=red,green": "a", "tags-any=red,green": "a b", "not-tags=red,green": "b", "not-tags-any=red": ""} {
		if got := c.names(member, "/v2.0/networks?project_id="+mine+"&"+query, "name"); got != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
}

func TestQuotas(t *testing.T) {
	c := newCloud(t)
	q := c.must(admin, "PUT", "/v2.0/quotas/"+mine, `{"quota": {"network": 1, "port": -1}}`)
	if q["network"] != 1.0 || q["port"] != -1.0 || q["subnet"] != 100.0 {
		t.Errorf("%v", q)
	}
	c.network(member, "a", "")
	c.refused(member, "POST", "/v2.0/networks", `{"network": {"name": "b"}}`, 409, "OverQuota", "Quota exceeded for resources: ['network'].")
	if d := c.must(member, "GET", "/v2.0/quotas/"+mine+"/details", "")["network"]; fmt.Sprint(d) != "map[limit:1 reserved:0 used:1]" {
		t.Errorf("details: %v", d)
	}
	c.refused(member, "PUT", "/v2.0/quotas/"+mine, `{"quota": {"network": 9}}`, 403, "PolicyNotAuthorized", "update_quota")
	c.refused(member, "GET", "/v2.0/quotas/"+theirs, "", 403, "PolicyNotAuthorized", "get_quota")
	c.refused(admin, "PUT", "/v2.0/quotas/"+mine, `{"quota": {"servers": 9}}`, 400, "HTTPBadRequest", "Unrecognized attribute(s) 'servers'")
	if code, _ := c.ask(admin, "DELETE", "/v2.0/quotas/"+mine, ""); code != 204 {
		t.Errorf("delete: %d", code)
	}
	if q := c.must(member, "GET", "/v2.0/quotas/"+mine, ""); q["network"] != 100.0 {
		t.Errorf("after the reset: %v", q)
	}
}
