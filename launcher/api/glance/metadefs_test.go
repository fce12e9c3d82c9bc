package glance

import (
	"net/url"
	"testing"
)

// at follows keys into an answer.
func at(v any, keys ...any) any {
	for _, k := range keys {
		switch x := v.(type) {
		case map[string]any:
			name, _ := k.(string)
			v = x[name]
		case []any:
			i, _ := k.(int)
			if i >= len(x) {
				return nil
			}
			v = x[i]
		default:
			return nil
		}
	}
	return v
}

func TestMetadefs(t *testing.T) {
	t.Parallel()
	h, _ := newAPI(t)
	admin := user{t, h, "one", "admin"}
	member := user{t, h, "two", "member"}
	const all = "/v2/metadefs/namespaces"
	const ns = all + "/OS::Compute::Slipway"
	admin.must(201, "POST", all, `{"namespace":"OS::Compute::Slipway","display_name":"Slipway","visibility":"public","protected":true,
		"resource_type_associations":[{"name":"OS::Nova::Flavor","prefix":"slipway:"}],
		"properties":{"root_mode":{"title":"Root mode","type":"string","enum":["virtiofs","9p","block"]}},
		"objects":[{"name":"root","required":["root_mode"],"properties":{"root_mode":{"title":"Root mode","type":"string"}}}],
		"tags":[{"name":"micro"}]}`)

	// Refused.
	admin.must(409, "POST", all, `{"namespace":"OS::Compute::Slipway"}`)
	admin.must(400, "POST", all, `{"display_name":"no name"}`)
	admin.must(400, "POST", all, `{"namespace":"x","visibility":"shared"}`)
	admin.must(400, "POST", all, `{"namespace":"x","properties":{"p":{"title":"no type"}}}`)
	admin.must(400, "POST", all, `{"namespace":"x","properties":{"p":{"title":"t","type":"float"}}}`)
	admin.must(403, "POST", all, `{"namespace":"x","created_at":"2020-01-01T00:00:00Z"}`)
	admin.must(403, "DELETE", ns, "")
	admin.must(403, "DELETE", ns+"/tags", "")
	member.must(403, "POST", all, `{"namespace":"x"}`)
	member.must(403, "DELETE", ns, "")
	admin.must(404, "GET", all+"/nosuch", "")
	admin.must(404, "GET", ns+"/objects/nosuch", "")

	// Read, by others too.
	whole := member.must(200, "GET", ns, "")
	for _, want := range []struct {
		keys  []any
		value any
	}{
		{[]any{"visibility"}, "public"}, {[]any{"self"}, ns}, {[]any{"protected"}, true}, {[]any{"owner"}, "one"},
		{[]any{"resource_type_associations", 0, "prefix"}, "slipway:"}, {[]any{"properties", "root_mode", "enum", 1}, "9p"},
		{[]any{"objects", 0, "properties", "root_mode", "type"}, "string"}, {[]any{"tags", 0, "name"}, "micro"},
	} {
		if got := at(whole, want.keys...); got != want.value {
			t.Errorf("%v: %v, want %v", want.keys, got, want.value)
		}
	}
	flavor := "?resource_type=" + url.QueryEscape("OS::Nova::Flavor")
	whole = member.must(200, "GET", ns+flavor, "")
	if at(whole, "properties", "slipway:root_mode") == nil || at(whole, "objects", 0, "required", 0) != "slipway:root_mode" {
		t.Errorf("names without the prefix of flavors: %v", whole)
	}
	if got := at(member.must(200, "GET", ns+"/properties/slipway:root_mode"+flavor, ""), "title"); got != "Root mode" {
		t.Errorf("title of a property with its prefix: %v", got)
	}

	// Lists and their filters.
	admin.must(201, "POST", all, `{"namespace":"own"}`)
	count := func(u user, query string) int {
		list, _ := u.must(200, "GET", all+query, "")["namespaces"].([]any)
		return len(list)
	}
	for query, want := range map[string]int{
		"": 2, "?visibility=private": 1, "?resource_types=OS::Nova::Flavor,OS::Glance::Image": 1, "?resource_types=OS::Glance::Image": 0, "?limit=1": 1,
	} {
		if got := count(admin, query); got != want {
			t.Errorf("namespaces%s: %d, want %d", query, got, want)
		}
	}
	if got := count(member, ""); got != 1 {
		t.Errorf("another project sees %d namespaces, want the public one", got)
	}
	member.must(404, "GET", all+"/own", "")
}

func TestMetadefParts(t *testing.T) {
	t.Parallel()
	h, _ := newAPI(t)
	admin := user{t, h, "one", "admin"}
	member := user{t, h, "one", "member"}
	const ns = "/v2/metadefs/namespaces/own"
	admin.must(201, "POST", "/v2/metadefs/namespaces", `{"namespace":"own"}`)
	names := func(kind string) []string {
		all := []string{}
		list, _ := member.must(200, "GET", ns+"/"+kind, "")[kind].([]any)
		for _, one := range list {
			name, _ := at(one, "name").(string)
			all = append(all, name)
		}
		return all
	}

	admin.must(201, "POST", ns+"/properties", `{"name":"p","title":"P","type":"integer","minimum":0,"default":3}`)
	admin.must(409, "POST", ns+"/properties", `{"name":"p","title":"P","type":"integer"}`)
	admin.must(400, "POST", ns+"/properties", `{"title":"P","type":"integer"}`)
	member.must(403, "POST", ns+"/properties", `{"name":"q","title":"P","type":"integer"}`)
	admin.must(200, "PUT", ns+"/properties/p", `{"name":"q","title":"Q","type":"integer"}`)
	if got := at(member.must(200, "GET", ns+"/properties", ""), "properties", "q", "title"); got != "Q" {
		t.Errorf("title of a property that was renamed: %v", got)
	}
	admin.must(204, "DELETE", ns+"/properties/q", "")
	admin.must(404, "DELETE", ns+"/properties/q", "")

	admin.must(201, "POST", ns+"/objects", `{"name":"a"}`)
	admin.must(201, "POST", ns+"/objects", `{"name":"b","description":"the second"}`)
	admin.must(409, "PUT", ns+"/objects/a", `{"name":"b"}`)
	admin.must(200, "PUT", ns+"/objects/a", `{"name":"c"}`)
	if got := names("objects"); len(got) != 2 || got[0] != "b" || got[1] != "c" {
		t.Errorf("objects %v, want b and c, the newest first", got)
	}
	admin.must(204, "DELETE", ns+"/objects", "")
	if got := names("objects"); len(got) != 0 {
		t.Errorf("objects %v after all were deleted", got)
	}

	admin.must(201, "POST", ns+"/tags", `{"tags":[{"name":"x"},{"name":"y"}]}`)
	admin.must(201, "POST", ns+"/tags/z", "")
	admin.must(409, "POST", ns+"/tags/z", "")
	admin.must(200, "PUT", ns+"/tags/z", `{"name":"w"}`)
	if got := names("tags"); len(got) != 3 || got[0] != "w" {
		t.Errorf("tags %v, want w, y and x", got)
	}
	admin.must(201, "POST", ns+"/tags", `{"tags":[{"name":"only"}]}`)
	if got := names("tags"); len(got) != 1 {
		t.Errorf("tags %v after they were replaced by one", got)
	}

	admin.must(201, "POST", ns+"/resource_types", `{"name":"OS::Slipway::Kernel","prefix":"k_"}`)
	if got := at(member.must(200, "GET", ns+"/resource_types", ""), "resource_type_associations", 0, "prefix"); got != "k_" {
		t.Errorf("prefix of the association: %v", got)
	}
	types, _ := member.must(200, "GET", "/v2/metadefs/resource_types", "")["resource_types"].([]any)
	if len(types) != 5 {
		t.Errorf("%d types of resources, want the own one beside four: %v", len(types), types)
	}
	admin.must(204, "DELETE", ns+"/resource_types/OS::Slipway::Kernel", "")
	admin.must(404, "DELETE", ns+"/resource_types/OS::Slipway::Kernel", "")

	admin.must(200, "PUT", ns, `{"namespace":"renamed","description":"d"}`)
	member.must(404, "GET", ns, "")
	admin.must(204, "DELETE", "/v2/metadefs/namespaces/renamed", "")
}
