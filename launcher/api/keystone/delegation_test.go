package keystone_test

import (
	"fmt"
	"strings"
	"testing"
)

// trustee makes a user without any role, and logs in.
func (c *cloud) trustee(admin, name string) (token, id string) {
	c.t.Helper()
	id = c.want(201, admin, "POST", "/v3/users", `{"user": {"name": "`+name+`", "password": "pw"}}`).at("user.id").(string)
	return c.login(name, "pw", ""), id
}

func TestTrusts(t *testing.T) {
	c := newCloud(t)
	admin := c.admin()
	ann, annID, project := c.member(admin, "ann")
	bob, bobID := c.trustee(admin, "bob")
	eve, _ := c.trustee(admin, "eve")
	const path = "/v3/OS-TRUST/trusts"
	body := func(impersonation bool, role, more string) string {
		return fmt.Sprintf(`{"trust": {"trustor_user_id": %q, "trustee_user_id": %q, "project_id": %q, "impersonation": %t, "roles": [{"name": %q}]%s}}`,
			annID, bobID, project, impersonation, role, more)
	}
	c.want(403, bob, "POST", path, body(true, "member", ""))
	c.want(404, ann, "POST", path, body(true, "admin", ""))
	c.want(400, ann, "POST", path, body(true, "member", `, "expires_at": "2001-01-01T00:00:00Z"`))
	c.want(400, ann, "POST", path, body(true, "member", `, "remaining_uses": 0`))

	a := c.want(201, ann, "POST", path, body(true, "reader", `, "expires_at": "2100-01-01T00:00:00.000000Z"`))
	id := a.at("trust.id").(string)
	if a.at("trust.expires_at") != "2100-01-01T00:00:00.000000Z" || a.at("trust.deleted_at") != nil || !strings.Contains(a.text, `"name":"reader"`) {
		t.Errorf("the trust is %s", a.text)
	}
	login := func(id string) string {
		return passwordRequest("bob", "pw", `{"OS-TRUST:trust": {"id": "`+id+`"}}`)
	}
	a = c.want(201, "", "POST", "/v3/auth/tokens", login(id))
	delegated := a.header.Get("X-Subject-Token")
	if a.at("token.user.id") != annID || a.at("token.project.id") != project || a.at("token.OS-TRUST:trust.trustee_user.id") != bobID ||
		strings.Contains(a.text, `"name":"member"`) || !strings.Contains(a.text, `"name":"reader"`) {
		t.Errorf("the token is %s", a.text)
	}
	c.want(403, delegated, "POST", path, body(true, "reader", ""))
	c.want(403, delegated, "POST", "/v3/users/"+annID+"/application_credentials", `{"application_credential": {"name": "ci"}}`)
	c.want(403, "", "POST", "/v3/auth/tokens", `{"auth": {"identity": {"methods": ["token"], "token": {"id": "`+delegated+`"}}}}`)
	c.want(403, "", "POST", "/v3/auth/tokens", passwordRequest("eve", "pw", `{"OS-TRUST:trust": {"id": "`+id+`"}}`))

	c.want(403, eve, "GET", path+"/"+id, "")
	c.want(403, eve, "GET", path+"?trustor_user_id="+annID, "")
	c.want(403, bob, "GET", path, "")
	for token, query := range map[string]string{ann: "?trustor_user_id=" + annID, bob: "?trustee_user_id=" + bobID, admin: ""} {
		if a := c.want(200, token, "GET", path+query, ""); len(a.body["trusts"].([]any)) != 1 {
			t.Errorf("trusts%s: %s", query, a.text)
		}
	}
	if a := c.want(200, bob, "GET", path+"/"+id+"/roles", ""); len(a.body["roles"].([]any)) != 1 {
		t.Errorf("roles: %s", a.text)
	}
	c.want(404, bob, "GET", path+"/"+id+"/roles/none", "")

	own := c.want(201, ann, "POST", path, body(false, "member", `, "remaining_uses": 1`)).at("trust.id").(string)
	if a = c.want(201, "", "POST", "/v3/auth/tokens", login(own)); a.at("token.user.id") != bobID || a.at("token.project.id") != project {
		t.Errorf("the token is %s", a.text)
	}
	c.want(401, "", "POST", "/v3/auth/tokens", login(own))

	c.want(403, bob, "DELETE", path+"/"+id, "")
	c.want(204, ann, "DELETE", path+"/"+id, "")
	c.want(401, delegated, "GET", "/v3/auth/projects", "")
	c.want(401, "", "POST", "/v3/auth/tokens", login(id))
}

// A trust is worth nothing once its trustor has lost the role.
func TestTrustOfLostRole(t *testing.T) {
	c := newCloud(t)
	admin := c.admin()
	ann, annID, project := c.member(admin, "ann")
	_, bobID := c.trustee(admin, "bob")
	a := c.want(201, ann, "POST", "/v3/OS-TRUST/trusts", fmt.Sprintf(
		`{"trust": {"trustor_user_id": %q, "trustee_user_id": %q, "project_id": %q, "impersonation": false, "roles": [{"name": "member"}]}}`, annID, bobID, project))
	role := a.at("trust.roles").([]any)[0].(map[string]any)["id"].(string)
	login := passwordRequest("bob", "pw", `{"OS-TRUST:trust": {"id": "`+a.at("trust.id").(string)+`"}}`)
	delegated := c.want(201, "", "POST", "/v3/auth/tokens", login).header.Get("X-Subject-Token")
	c.want(204, admin, "DELETE", "/v3/projects/"+project+"/users/"+annID+"/roles/"+role, "")
	c.want(401, delegated, "GET", "/v3/auth/projects", "")
	c.want(401, "", "POST", "/v3/auth/tokens", login)
}

func TestUnifiedLimits(t *testing.T) {
	c := newCloud(t)
	admin := c.admin()
	ann, _, project := c.member(admin, "ann")
	eve, _, _ := c.member(admin, "eve")
	service := c.want(200, admin, "GET", "/v3/services", "").body["services"].([]any)[0].(map[string]any)["id"].(string)
	if a := c.want(200, ann, "GET", "/v3/limits/model", ""); a.at("model.name") != "flat" {
		t.Errorf("the model is %s", a.text)
	}
	registered := func(name string) string {
		return fmt.Sprintf(`{"service_id": %q, "region_id": "RegionOne", "resource_name": %q, "default_limit": 5}`, service, name)
	}
	c.want(403, ann, "POST", "/v3/registered_limits", `{"registered_limits": [`+registered("cows")+`]}`)
	c.want(409, admin, "POST", "/v3/registered_limits", `{"registered_limits": [`+registered("cows")+`, `+registered("cows")+`]}`)
	c.want(400, admin, "POST", "/v3/registered_limits", `{"registered_limits": [{"service_id": "none", "resource_name": "cows", "default_limit": 5}]}`)
	c.want(400, admin, "POST", "/v3/registered_limits", `{"registered_limits": [{"service_id": "`+service+`", "resource_name": "cows", "default_limit": 0.5}]}`)
	a := c.want(201, admin, "POST", "/v3/registered_limits", `{"registered_limits": [`+registered("cows")+`, `+registered("pigs")+`]}`)
	id := a.at("registered_limits").([]any)[0].(map[string]any)["id"].(string)
	c.want(409, admin, "POST", "/v3/registered_limits", `{"registered_limits": [`+registered("cows")+`]}`)
	if a := c.want(200, ann, "GET", "/v3/registered_limits?resource_name=pigs", ""); len(a.body["registered_limits"].([]any)) != 1 {
		t.Errorf("registered limits: %s", a.text)
	}

	limit := func(name string) string {
		return fmt.Sprintf(`{"limits": [{"project_id": %q, "service_id": %q, "region_id": "RegionOne", "resource_name": %q, "resource_limit": 7}]}`, project, service, name)
	}
	c.want(403, admin, "POST", "/v3/limits", limit("hens"))
	mine := c.want(201, admin, "POST", "/v3/limits", limit("cows")).at("limits").([]any)[0].(map[string]any)["id"].(string)
	c.want(409, admin, "POST", "/v3/limits", limit("cows"))
	c.want(403, admin, "DELETE", "/v3/registered_limits/"+id, "")
	c.want(403, admin, "PATCH", "/v3/registered_limits/"+id, `{"registered_limit": {"resource_name": "hens"}}`)
	if a := c.want(200, admin, "PATCH", "/v3/registered_limits/"+id, `{"registered_limit": {"default_limit": 6}}`); a.at("registered_limit.default_limit") != 6.0 {
		t.Errorf("the registered limit is %s", a.text)
	}
	if a := c.want(200, admin, "PATCH", "/v3/limits/"+mine, `{"limit": {"resource_limit": 8}}`); a.at("limit.resource_limit") != 8.0 {
		t.Errorf("the limit is %s", a.text)
	}
	c.want(200, ann, "GET", "/v3/limits/"+mine, "")
	c.want(403, eve, "GET", "/v3/limits/"+mine, "")
	if a := c.want(200, eve, "GET", "/v3/limits", ""); len(a.body["limits"].([]any)) != 0 {
		t.Errorf("another's limits: %s", a.text)
	}
	c.want(204, admin, "DELETE", "/v3/projects/"+project, "")
	c.want(404, admin, "GET", "/v3/limits/"+mine, "")
	c.want(204, admin, "DELETE", "/v3/registered_limits/"+id, "")
}
