package nova

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/slipway-vm/slipway/launcher/catalog"
)

// Files of a request reach the seed, within the quotas.
func TestPersonality(t *testing.T) {
	f := newFleet(t)
	id := f.make("web", `,"personality":[{"path":"/etc/x","contents":"aGk="}]`)
	seed, err := f.m.Seed(id)
	if err != nil || string(seed.VendorData) != `#cloud-config`+"\n"+`{"write_files":[{"path":"/etc/x","encoding":"b64","content":"aGk="}]}` {
		t.Errorf("vendor-data %s, %v", seed.VendorData, err)
	}
	f.do(member(project), "2.1", "POST", "/v2.1/servers/"+id+"/action", `{"rebuild":{"imageRef":"`+imageID+`","personality":[{"path":"etc/y","contents":""}]}}`, 202)
	f.until(id, "ACTIVE")
	if seed, err := f.m.Seed(id); err != nil || !strings.Contains(string(seed.VendorData), `"/etc/y"`) || strings.Contains(string(seed.VendorData), "/etc/x") {
		t.Errorf("rebuilt: vendor-data %s, %v", seed.VendorData, err)
	}
	file := `{"path":"/x","contents":"aGk="}`
	large := fmt.Sprintf(`{"path":"/x","contents":"%s"}`, strings.Repeat("aGk=", 6000))
	for personality, want := range map[string]int{
		strings.Repeat(file+",", 5) + file: 403, strings.ReplaceAll(large, "=", "k"): 403,
		`{"path":"/` + strings.Repeat("x", 255) + `","contents":""}`: 403, `{"path":"","contents":""}`: 400, `{"path":"/x","contents":"no base64"}`: 400, `{"path":"/x"}`: 400,
	} {
		b := `{"server":{"name":"x","imageRef":"` + imageID + `","flavorRef":"tiny","personality":[` + personality + `]}}`
		f.do(member(project), "2.1", "POST", "/v2.1/servers", b, want)
	}
	b := `{"server":{"name":"x","imageRef":"` + imageID + `","flavorRef":"tiny","networks":"none","personality":[` + file + `]}}`
	f.do(member(project), "2.57", "POST", "/v2.1/servers", b, 400)
}

// The proxies for the image API show what the image service has, to those whom it
// lets see it.
func TestImageProxies(t *testing.T) {
	f := newFleet(t)
	me, other := member(project), member("others")
	snapshot, err := f.shelf.NewSnapshot(t.Context(), asked(me), catalog.Snapshot{Name: "saved", Server: imageID, Metadata: map[string]string{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	path := "/v2.1/images/" + snapshot.ID
	v := f.do(me, "2.1", "GET", path, "", 200)["image"].(map[string]any)
	if v["name"] != "saved" || v["status"] != "SAVING" || v["progress"] != 25.0 || v["server"].(map[string]any)["id"] != imageID {
		t.Errorf("shown %v", v)
	}
	f.do(other, "2.1", "GET", path, "", 404)
	f.do(me, "2.36", "GET", path, "", 404)
	for query, want := range map[string]int{
		"": 1, "?name=saved": 1, "?name=other": 0, "?status=SAVING": 1, "?status=ACTIVE": 0, "?type=snapshot": 1, "?type=base": 0,
		"?server=" + imageID: 1, "?server=http://x/servers/none": 0, "?changes-since=2000-01-01T00:00:00Z": 1, "?changes-since=2100-01-01T00:00:00Z": 0, "?limit=0": 0,
	} {
		if list := f.do(me, "2.1", "GET", "/v2.1/images/detail"+query, "", 200)["images"].([]any); len(list) != want {
			t.Errorf("%s: %v", query, list)
		}
	}
	f.do(me, "2.1", "GET", "/v2.1/images?changes-since=today", "", 400)
	metadata := func(method, path, body string, want int) string {
		t.Helper()
		v := f.do(me, "2.38", method, path, body, want)
		b, _ := json.Marshal(v["metadata"])
		return string(b)
	}
	metadata("PUT", path+"/metadata", `{"metadata":{"x":"1"}}`, 200)
	if got := metadata("POST", path+"/metadata", `{"metadata":{"y":"2"}}`, 200); got != `{"x":"1","y":"2"}` {
		t.Errorf("metadata %s", got)
	}
	metadata("PUT", path+"/metadata/x", `{"meta":{"x":"3"}}`, 200)
	metadata("PUT", path+"/metadata/x", `{"meta":{"y":"3"}}`, 400)
	if v := f.do(me, "2.1", "GET", path+"/metadata/x", "", 200); v["meta"].(map[string]any)["x"] != "3" {
		t.Errorf("item %v", v)
	}
	metadata("DELETE", path+"/metadata/x", "", 204)
	metadata("DELETE", path+"/metadata/x", "", 404)
	metadata("GET", path+"/metadata/x", "", 404)
	if got := metadata("GET", path+"/metadata", "", 200); got != `{"y":"2"}` {
		t.Errorf("metadata %s", got)
	}
	f.do(other, "2.1", "DELETE", path, "", 404)
	f.do(me, "2.1", "DELETE", path, "", 204)
	f.do(me, "2.1", "DELETE", path, "", 404)
}

// The proxies for security groups are in Nova's words of old.
func TestSecurityGroupProxies(t *testing.T) {
	f := newFleet(t)
	me, other := member(project), member("others")
	const groups, rules = "/v2.1/os-security-groups", "/v2.1/os-security-group-rules"
	made := f.do(me, "2.1", "POST", groups, `{"security_group":{"name":"web","description":"x"}}`, 200)["security_group"].(map[string]any)
	path := groups + "/" + made["id"].(string)
	spaced := f.do(me, "2.1", "POST", groups, `{"security_group":{"name":" spaced ","description":"x"}}`, 200)["security_group"].(map[string]any)
	if spaced["name"] != " spaced " {
		t.Errorf("named %q", spaced["name"])
	}
	f.do(me, "2.1", "DELETE", groups+"/"+spaced["id"].(string), "", 202)
	f.do(me, "2.1", "POST", groups, `{"security_group":{"name":" ","description":"x"}}`, 400)
	if list := f.do(me, "2.1", "GET", groups, "", 200)["security_groups"].([]any); len(list) != 2 {
		t.Errorf("listed %v", list)
	}
	f.do(other, "2.1", "GET", path, "", 404)
	f.do(me, "2.36", "GET", path, "", 404)
	f.do(me, "2.1", "GET", groups+"/x", "", 400)
	f.do(me, "2.1", "POST", groups, `{"security_group":{"name":"default","description":"x"}}`, 400)
	rule := func(more string) string {
		return `{"security_group_rule":{"parent_group_id":"` + made["id"].(string) + `",` + more + `}}`
	}
	one := f.do(me, "2.1", "POST", rules, rule(`"ip_protocol":"tcp","from_port":22,"to_port":"80","cidr":"10.0.0.0/8"`), 200)["security_group_rule"].(map[string]any)
	if one["from_port"] != 22.0 || one["to_port"] != 80.0 || one["ip_range"].(map[string]any)["cidr"] != "10.0.0.0/8" {
		t.Errorf("rule %v", one)
	}
	f.do(me, "2.1", "POST", rules, rule(`"ip_protocol":"icmp","from_port":-1,"to_port":-1,"group_id":"`+made["id"].(string)+`"`), 200)
	for more, want := range map[string]int{
		`"ip_protocol":"tcp","from_port":22,"to_port":80,"cidr":"10.0.0.0/8"`: 400, `"ip_protocol":"x","from_port":1,"to_port":1`: 400,
		`"ip_protocol":"tcp","from_port":2,"to_port":1`: 400, `"ip_protocol":"tcp","from_port":-1,"to_port":70000`: 400, `"ip_protocol":"udp","from_port":1,"to_port":1,"cidr":"x"`: 400,
	} {
		f.do(me, "2.1", "POST", rules, rule(more), want)
	}
	if v := f.do(me, "2.1", "GET", path, "", 200)["security_group"].(map[string]any); len(v["rules"].([]any)) != 2 {
		t.Errorf("shown %v", v)
	}
	f.do(other, "2.1", "DELETE", rules+"/"+one["id"].(string), "", 404)
	f.do(me, "2.1", "DELETE", rules+"/"+one["id"].(string), "", 202)
	f.do(me, "2.1", "DELETE", rules+"/"+one["id"].(string), "", 404)
	if v := f.do(me, "2.1", "PUT", path, `{"security_group":{"name":"new","description":"y"}}`, 200)["security_group"].(map[string]any); v["name"] != "new" {
		t.Errorf("updated %v", v)
	}
	f.do(me, "2.1", "DELETE", path, "", 202)
	f.do(me, "2.1", "DELETE", path, "", 404)
}
