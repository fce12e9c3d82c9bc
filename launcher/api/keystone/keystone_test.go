package keystone_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/slipway-vm/slipway/launcher/api/keystone"
	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/identity"
	"github.com/slipway-vm/slipway/launcher/launchertest"
)

// cloud is an API after the first start of its directory.
type cloud struct {
	t      *testing.T
	server *httptest.Server
}

func newCloud(t *testing.T) *cloud {
	t.Helper()
	keys, err := identity.OpenKeys(identity.KeysConfig{Dir: filepath.Join(t.TempDir(), "keys")})
	if err != nil {
		t.Fatal(err)
	}
	dir, err := identity.Open(t.Context(), identity.Config{Store: launchertest.NewSection(), Keys: keys, HashCost: bcrypt.MinCost})
	if err != nil {
		t.Fatal(err)
	}
	if err := dir.Bootstrap(t.Context(), "secret"); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(keystone.New(keystone.Config{
		Directory: dir,
		Catalog: func(r *http.Request) []keystone.Entry {
			return []keystone.Entry{{Type: "identity", Name: "keystone", URL: openstack.HostURL(r)}}
		},
	}))
	t.Cleanup(server.Close)
	return &cloud{t, server}
}

// answer is what came back, with its body decoded.
type answer struct {
	code   int
	header http.Header
	text   string
	body   map[string]any
}

// at walks into the body: "user.id".
func (a answer) at(path string) any {
	var v any = a.body
	for name := range strings.SplitSeq(path, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[name]
	}
	return v
}

func (c *cloud) do(token, method, path, body string, headers ...string) answer {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.server.URL+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("X-Auth-Token", token)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := c.server.Client().Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	a := answer{code: resp.StatusCode, header: resp.Header}
	var raw json.RawMessage
	if err := json.NewDecoder(resp.Body).Decode(&raw); err == nil {
		a.text = string(raw)
		_ = json.Unmarshal(raw, &a.body)
	}
	return a
}

// want makes a request that must be answered with code.
func (c *cloud) want(code int, token, method, path, body string, headers ...string) answer {
	c.t.Helper()
	a := c.do(token, method, path, body, headers...)
	if a.code != code {
		c.t.Fatalf("%s %s: %d %s, want %d", method, path, a.code, a.text, code)
	}
	return a
}

const (
	user    = `{"name": "%s", "domain": {"name": "Default"}, "password": "%s"}`
	project = `{"project": {"name": "%s", "domain": {"id": "default"}}}`
)

func passwordRequest(name, password, scope string) string {
	if scope != "" {
		scope = `, "scope": ` + scope
	}
	return fmt.Sprintf(`{"auth": {"identity": {"methods": ["password"], "password": {"user": `+user+`}}%s}}`, name, password, scope)
}

func (c *cloud) login(name, password, scope string) string {
	c.t.Helper()
	return c.want(201, "", "POST", "/v3/auth/tokens", passwordRequest(name, password, scope)).header.Get("X-Subject-Token")
}

func (c *cloud) admin() string { return c.login("admin", "secret", fmt.Sprintf(project, "admin")) }

// member makes a user with the role member on a project, and logs in.
func (c *cloud) member(admin, name string) (token, userID, projectID string) {
	c.t.Helper()
	projectID = c.want(201, admin, "POST", "/v3/projects", `{"project": {"name": "`+name+`"}}`).at("project.id").(string)
	userID = c.want(201, admin, "POST", "/v3/users", `{"user": {"name": "`+name+`", "password": "pw", "email": "a@example.org"}}`).at("user.id").(string)
	roles := c.want(200, admin, "GET", "/v3/roles?name=member", "").body["roles"].([]any)
	role := roles[0].(map[string]any)["id"].(string)
	c.want(204, admin, "PUT", "/v3/projects/"+projectID+"/users/"+userID+"/roles/"+role, "")
	return c.login(name, "pw", fmt.Sprintf(project, name)), userID, projectID
}

func TestTokens(t *testing.T) {
	c := newCloud(t)
	a := c.want(201, "", "POST", "/v3/auth/tokens", passwordRequest("admin", "secret", fmt.Sprintf(project, "admin")))
	token := a.header.Get("X-Subject-Token")
	for path, want := range map[string]any{
		"token.user.name": "admin", "token.user.domain.name": "Default", "token.project.name": "admin",
		"token.project.domain.id": "default", "token.is_domain": false,
	} {
		if got := a.at(path); got != want {
			t.Errorf("%s is %v, want %v", path, got, want)
		}
	}
	catalog, err := json.Marshal(a.at("token.catalog"))
	if err != nil || !strings.Contains(string(catalog), `"interface":"public"`) || !strings.Contains(string(catalog), c.server.URL) {
		t.Errorf("the catalog is %s", catalog)
	}
	b := c.want(200, token, "GET", "/v3/auth/tokens?nocatalog", "", "X-Subject-Token", token)
	if b.at("token.catalog") != nil || b.at("token.expires_at") != a.at("token.expires_at") || b.header.Get("X-Subject-Token") != token {
		t.Errorf("validation gives %s", b.text)
	}
	c.want(200, token, "HEAD", "/v3/auth/tokens", "", "X-Subject-Token", token)
	c.want(404, token, "GET", "/v3/auth/tokens", "", "X-Subject-Token", "nonsense")
	other, _, _ := c.member(token, "ann")
	c.want(403, other, "GET", "/v3/auth/tokens", "", "X-Subject-Token", token)
	c.want(200, token, "GET", "/v3/auth/tokens", "", "X-Subject-Token", other)
	c.want(204, token, "DELETE", "/v3/auth/tokens", "", "X-Subject-Token", other)
	a = c.want(401, other, "GET", "/v3/auth/projects", "")
	if a.text != `{"error":{"code":401,"message":"The request you have made requires authentication.","title":"Unauthorized"}}` {
		t.Errorf("a revoked token gives %s", a.text)
	}
	if got, want := a.header.Get("WWW-Authenticate"), `Keystone uri="`+c.server.URL+`/v3"`; got != want {
		t.Errorf("WWW-Authenticate is %s, want %s", got, want)
	}
}

func TestLoginForms(t *testing.T) {
	c := newCloud(t)
	tests := []struct {
		name, body string
		code       int
		text       string
	}{
		{"unscoped", passwordRequest("admin", "secret", `"unscoped"`), 201, `"methods":["password"]`},
		{"unscoped object", passwordRequest("admin", "secret", `{"unscoped": {}}`), 201, ""},
		{"system", passwordRequest("admin", "secret", `{"system": {"all": true}}`), 201, `"system":{"all":true}`},
		{"wrong password", passwordRequest("admin", "x", ""), 401, "requires authentication"},
		{"unknown user", passwordRequest("nobody", "x", ""), 401, "requires authentication"},
		{"unknown project", passwordRequest("admin", "secret", fmt.Sprintf(project, "none")), 401, "requires authentication"},
		{"no method", `{"auth": {"identity": {"methods": []}}}`, 400, "auth.identity.methods"},
		{"nothing", `{}`, 400, "auth.identity.methods"},
		{"no user", `{"auth": {"identity": {"methods": ["password"]}}}`, 400, "names no user"},
		{"no token", `{"auth": {"identity": {"methods": ["token"]}}}`, 400, "token.id"},
		{"unsupported", `{"auth": {"identity": {"methods": ["oauth1"]}}}`, 401, "unsupported method"},
		{"no JSON", `auth`, 400, "Malformed request body"},
		{"bad type", `{"auth": {"identity": {"methods": "password"}}}`, 400, "auth.identity.methods"},
		{"bad scope", passwordRequest("admin", "secret", `{"project": 5}`), 400, "auth.scope"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if a := c.do("", "POST", "/v3/auth/tokens", tt.body); a.code != tt.code || !strings.Contains(a.text, tt.text) {
				t.Errorf("%d %s", a.code, a.text)
			}
		})
	}
}

// Who guesses is slowed down; the others are not.
func TestThrottle(t *testing.T) {
	c := newCloud(t)
	guesses := 0
	for ; guesses < 100; guesses++ {
		if a := c.do("", "POST", "/v3/auth/tokens", passwordRequest("admin", "guess", "")); a.code == 429 {
			if a.header.Get("Retry-After") == "" || !strings.Contains(a.text, "Too many failed logins") {
				t.Errorf("the refusal is %v %s", a.header, a.text)
			}
			break
		}
	}
	if guesses == 0 || guesses == 100 {
		t.Errorf("%d guesses were answered", guesses)
	}
	c.want(429, "", "POST", "/v3/auth/tokens", passwordRequest("admin", "secret", ""))
	c.want(401, "", "POST", "/v3/auth/tokens", passwordRequest("ann", "guess", ""))
}

func TestPolicies(t *testing.T) {
	c := newCloud(t)
	admin := c.admin()
	ann, annID, annProject := c.member(admin, "ann")
	_, bobID, bobProject := c.member(admin, "bob")
	tests := []struct {
		method, path, body string
		admin, ann, nobody int
	}{
		{"GET", "/v3/users", "", 200, 403, 401},
		{"POST", "/v3/users", `{"user": {"name": "x"}}`, 201, 403, 401},
		{"GET", "/v3/users/" + annID, "", 200, 200, 401},
		{"GET", "/v3/users/" + bobID, "", 200, 403, 401},
		{"GET", "/v3/users/none", "", 404, 403, 401},
		{"PATCH", "/v3/users/" + annID, `{"user": {"enabled": true}}`, 200, 403, 401},
		{"GET", "/v3/users/" + annID + "/projects", "", 200, 200, 401},
		{"GET", "/v3/users/" + bobID + "/projects", "", 200, 403, 401},
		{"GET", "/v3/projects", "", 200, 403, 401},
		{"GET", "/v3/projects/" + annProject, "", 200, 200, 401},
		{"GET", "/v3/projects/" + bobProject, "", 200, 403, 401},
		{"GET", "/v3/domains", "", 200, 403, 401},
		{"GET", "/v3/domains/default", "", 200, 200, 401},
		{"GET", "/v3/roles", "", 200, 403, 401},
		{"GET", "/v3/role_assignments", "", 200, 403, 401},
		{"GET", "/v3/services", "", 200, 403, 401},
		{"GET", "/v3/endpoints", "", 200, 403, 401},
		{"GET", "/v3/regions", "", 200, 200, 401},
		{"GET", "/v3/auth/projects", "", 200, 200, 401},
		{"GET", "/v3/auth/domains", "", 200, 200, 401},
		{"GET", "/v3/auth/system", "", 200, 200, 401},
		{"GET", "/v3/auth/catalog", "", 200, 200, 401},
		{"GET", "/v3/users/" + annID + "/application_credentials", "", 200, 200, 401},
		{"GET", "/v3/users/" + bobID + "/application_credentials", "", 200, 403, 401},
		{"POST", "/v3/users/" + annID + "/application_credentials", `{"application_credential": {"name": "ci"}}`, 403, 201, 401},
		{"GET", "/v3", "", 200, 200, 200},
		{"GET", "/v3/", "", 200, 200, 200},
		{"GET", "/", "", 300, 300, 300},
		{"GET", "/v3/nothing", "", 404, 404, 404},
		{"PUT", "/v3/users", "", 405, 405, 405},
	}
	for _, tt := range tests {
		for _, who := range []struct {
			token string
			code  int
		}{{admin, tt.admin}, {ann, tt.ann}, {"", tt.nobody}} {
			if a := c.do(who.token, tt.method, tt.path, tt.body); a.code != who.code {
				t.Errorf("%s %s: %d %s, want %d", tt.method, tt.path, a.code, a.text, who.code)
			}
		}
	}
	a := c.do(ann, "GET", "/v3/users", "")
	if want := "You are not authorized to perform the requested action: identity:list_users."; a.at("error.message") != want {
		t.Errorf("the refusal is %s", a.text)
	}
}

func TestResources(t *testing.T) {
	c := newCloud(t)
	admin := c.admin()
	_, annID, annProject := c.member(admin, "ann")

	a := c.want(200, admin, "GET", "/v3/users/"+annID, "")
	if a.at("user.email") != "a@example.org" || a.at("user.domain_id") != "default" || a.at("user.enabled") != true || strings.Contains(a.text, "$2a$") {
		t.Errorf("the user is %s", a.text)
	}
	a = c.want(200, admin, "PATCH", "/v3/users/"+annID, `{"user": {"email": null, "description": "d"}}`)
	if a.at("user.description") != "d" || strings.Contains(a.text, "email") {
		t.Errorf("the changed user is %s", a.text)
	}
	if a = c.do(admin, "PATCH", "/v3/users/"+annID, `{"user": {"enabled": "no"}}`); a.code != 400 || !strings.Contains(a.text, "'enabled'") {
		t.Errorf("a bad type gives %d %s", a.code, a.text)
	}
	if a = c.do(admin, "POST", "/v3/projects", `{"project": {"name": "ann"}}`); a.code != 409 || a.at("error.title") != "Conflict" {
		t.Errorf("a name that is taken gives %d %s", a.code, a.text)
	}
	for query, want := range map[string]int{
		"name=ann": 1, "name=none": 0, "name__contains=n": 2, "enabled=true": 2, "enabled=false": 0, "domain_id=default": 2,
		"name__icontains=ANN": 1, "tags=x": 0, "not-tags=x": 2, "is_domain=true": 1, "unknown=x": 2,
	} {
		if got := len(c.want(200, admin, "GET", "/v3/projects?"+query, "").body["projects"].([]any)); got != want {
			t.Errorf("projects?%s gives %d, want %d", query, got, want)
		}
	}
	a = c.want(200, admin, "GET", "/v3/role_assignments?include_names&user.id="+annID, "")
	if !strings.Contains(a.text, `"name":"member"`) || !strings.Contains(a.text, `"domain":{"id":"default","name":"Default"}`) {
		t.Errorf("the assignments are %s", a.text)
	}
	// The member role implies reader.
	a = c.want(200, admin, "GET", "/v3/role_assignments?effective&scope.project.id="+annProject, "")
	if got := len(a.body["role_assignments"].([]any)); got != 2 {
		t.Errorf("%d effective assignments: %s", got, a.text)
	}
	c.want(204, admin, "DELETE", "/v3/projects/"+annProject, "")
	c.want(404, admin, "GET", "/v3/projects/"+annProject, "")
	c.want(403, admin, "DELETE", "/v3/domains/default", "")
}

func TestApplicationCredential(t *testing.T) {
	c := newCloud(t)
	ann, annID, _ := c.member(c.admin(), "ann")
	path := "/v3/users/" + annID + "/application_credentials"
	a := c.want(201, ann, "POST", path, `{"application_credential": {"name": "ci", "roles": [{"name": "reader"}], "expires_at": "2100-01-01T00:00:00"}}`)
	id, secret := a.at("application_credential.id").(string), a.at("application_credential.secret").(string)
	if a = c.want(200, ann, "GET", path+"/"+id, ""); strings.Contains(a.text, "secret") {
		t.Errorf("a shown credential tells its secret: %s", a.text)
	}
	login := `{"auth": {"identity": {"methods": ["application_credential"], "application_credential": {"id": "` + id + `", "secret": "%s"}}}}`
	a = c.want(201, "", "POST", "/v3/auth/tokens", fmt.Sprintf(login, secret))
	if a.at("token.application_credential.restricted") != true || a.at("token.project.name") != "ann" {
		t.Errorf("the token is %s", a.text)
	}
	c.want(401, "", "POST", "/v3/auth/tokens", fmt.Sprintf(login, "wrong"))
	restricted := a.header.Get("X-Subject-Token")
	c.want(403, restricted, "POST", path, `{"application_credential": {"name": "more"}}`)
	c.want(403, restricted, "DELETE", path+"/"+id, "")
	c.want(400, ann, "POST", path, `{"application_credential": {"name": "x", "expires_at": "tomorrow"}}`)
	c.want(400, ann, "POST", path, `{"application_credential": {"name": "x", "roles": [{"name": "admin"}]}}`)
	c.want(409, ann, "POST", path, `{"application_credential": {"name": "ci"}}`)
	c.want(204, ann, "DELETE", path+"/"+id, "")
	c.want(401, restricted, "GET", "/v3/auth/projects", "")
}

// A credential with access rules may make those requests alone.
func TestAccessRules(t *testing.T) {
	c := newCloud(t)
	ann, annID, _ := c.member(c.admin(), "ann")
	bob, _, _ := c.member(c.admin(), "bob")
	path, rules := "/v3/users/"+annID+"/application_credentials", "/v3/users/"+annID+"/access_rules"
	const rule = `{"service": "identity", "method": "GET", "path": "/v3/auth/projects"}`
	c.want(400, ann, "POST", path, `{"application_credential": {"name": "x", "access_rules": [{"service": "identity", "method": "FETCH", "path": "/x"}]}}`)
	a := c.want(201, ann, "POST", path, `{"application_credential": {"name": "ci", "unrestricted": true, "access_rules": [`+rule+`]}}`)
	id, secret := a.at("application_credential.id").(string), a.at("application_credential.secret").(string)
	made := a.at("application_credential.access_rules").([]any)[0].(map[string]any)["id"].(string)
	login := `{"auth": {"identity": {"methods": ["application_credential"], "application_credential": {"id": "` + id + `", "secret": "` + secret + `"}}}}`
	token := c.want(201, "", "POST", "/v3/auth/tokens", login).header.Get("X-Subject-Token")
	c.want(200, token, "GET", "/v3/auth/projects", "")
	c.want(401, token, "GET", "/v3/auth/catalog", "")
	c.want(401, token, "DELETE", path+"/"+id, "")
	// The same rule is kept once.
	c.want(201, ann, "POST", path, `{"application_credential": {"name": "again", "access_rules": [`+rule+`]}}`)
	if list := c.want(200, ann, "GET", rules, "").body["access_rules"].([]any); len(list) != 1 {
		t.Errorf("rules %v", list)
	}
	c.want(200, ann, "GET", rules+"/"+made, "")
	c.want(403, bob, "GET", rules+"/"+made, "")
	c.want(403, ann, "DELETE", rules+"/"+made, "")
	for _, x := range c.want(200, ann, "GET", path, "").body["application_credentials"].([]any) {
		c.want(204, ann, "DELETE", path+"/"+x.(map[string]any)["id"].(string), "")
	}
	c.want(204, ann, "DELETE", rules+"/"+made, "")
	c.want(404, ann, "GET", rules+"/"+made, "")
}

// Users keep credentials for other services, which others do not see.
func TestStoredCredentials(t *testing.T) {
	c := newCloud(t)
	admin := c.admin()
	ann, annID, project := c.member(admin, "ann")
	bob, _, other := c.member(admin, "bob")
	const path = "/v3/credentials"
	body := func(more string) string {
		return `{"credential": {"type": "ec2", "blob": "{\"access\":\"a\",\"secret\":\"s\"}"` + more + `}}`
	}
	a := c.want(201, ann, "POST", path, body(`, "project_id": "`+project+`"`))
	id := a.at("credential.id").(string)
	if a.at("credential.user_id") != annID || len(id) != 64 {
		t.Errorf("made %s", a.text)
	}
	c.want(409, ann, "POST", path, body(`, "project_id": "`+project+`"`))
	c.want(400, ann, "POST", path, body(""))
	c.want(400, ann, "POST", path, `{"credential": {"type": "ec2", "blob": "x", "project_id": "`+project+`"}}`)
	c.want(403, bob, "POST", path, body(`, "user_id": "`+annID+`"`))
	c.want(403, bob, "GET", path+"/"+id, "")
	c.want(403, bob, "DELETE", path+"/"+id, "")
	if list := c.want(200, bob, "GET", path, "").body["credentials"].([]any); len(list) != 0 {
		t.Errorf("another's list: %v", list)
	}
	if list := c.want(200, admin, "GET", path+"?user_id="+annID+"&type=ec2", "").body["credentials"].([]any); len(list) != 1 {
		t.Errorf("an administrator's list: %v", list)
	}
	c.want(200, ann, "PATCH", path+"/"+id, body(""))

	ec2 := "/v3/users/" + annID + "/credentials/OS-EC2"
	c.want(403, ann, "POST", ec2, `{"tenant_id": "`+other+`"}`)
	a = c.want(201, ann, "POST", ec2, `{"tenant_id": "`+project+`"}`)
	access := a.at("credential.access").(string)
	if a.at("credential.secret") == "" || a.at("credential.tenant_id") != project {
		t.Errorf("made %s", a.text)
	}
	if list := c.want(200, ann, "GET", ec2, "").body["credentials"].([]any); len(list) != 2 {
		t.Errorf("listed %v", list)
	}
	c.want(403, bob, "GET", ec2+"/"+access, "")
	c.want(200, ann, "GET", ec2+"/"+access, "")
	c.want(204, ann, "DELETE", ec2+"/"+access, "")
	c.want(404, ann, "GET", ec2+"/"+access, "")
	c.want(204, admin, "DELETE", "/v3/users/"+annID, "")
	c.want(404, admin, "GET", path+"/"+id, "")
}

func TestOwnPassword(t *testing.T) {
	c := newCloud(t)
	ann, annID, _ := c.member(c.admin(), "ann")
	path := "/v3/users/" + annID + "/password"
	c.want(401, ann, "POST", path, `{"user": {"original_password": "x", "password": "new"}}`)
	c.want(400, ann, "POST", path, `{"user": {"original_password": "pw", "password": "pw"}}`)
	c.want(400, ann, "POST", path, `{"user": {"password": "new"}}`)
	c.want(401, "", "POST", "/v3/users/none/password", `{"user": {"original_password": "x", "password": "new"}}`)
	c.want(204, ann, "POST", path, `{"user": {"original_password": "pw", "password": "new"}}`)
	c.want(401, ann, "GET", "/v3/auth/projects", "")
	c.login("ann", "new", "")
}

// What is Slipway's own in the catalog stays; what was added can go.
func TestCatalog(t *testing.T) {
	c := newCloud(t)
	admin := c.admin()
	a := c.want(200, admin, "GET", "/v3/services?type=identity", "")
	ours := a.body["services"].([]any)[0].(map[string]any)["id"].(string)
	c.want(403, admin, "DELETE", "/v3/services/"+ours, "")
	added := c.want(201, admin, "POST", "/v3/services", `{"service": {"type": "dns", "name": "d"}}`).at("service.id").(string)
	c.want(201, admin, "PUT", "/v3/regions/two", `{"region": {}}`)
	a = c.want(201, admin, "POST", "/v3/endpoints", `{"endpoint": {"service_id": "`+added+`", "interface": "public", "url": "http://dns.example/", "region_id": "two"}}`)
	c.want(400, admin, "POST", "/v3/endpoints", `{"endpoint": {"service_id": "none", "interface": "public", "url": "http://dns.example/"}}`)
	c.want(400, admin, "POST", "/v3/endpoints", `{"endpoint": {"service_id": "`+added+`", "interface": "secret", "url": "http://dns.example/"}}`)
	if token := c.want(200, admin, "GET", "/v3/auth/catalog", ""); !strings.Contains(token.text, "http://dns.example/") {
		t.Errorf("the catalog is %s", token.text)
	}
	template := `{"endpoint": {"service_id": "` + added + `", "interface": "internal", "url": "http://dns.example/v1/%s"}}`
	c.want(400, admin, "POST", "/v3/endpoints", fmt.Sprintf(template, "%(secret)s"))
	c.want(201, admin, "POST", "/v3/endpoints", fmt.Sprintf(template, "%(tenant_id)s"))
	id := c.want(200, admin, "GET", "/v3/projects?name=admin", "").at("projects").([]any)[0].(map[string]any)["id"].(string)
	if token := c.want(200, admin, "GET", "/v3/auth/catalog", ""); !strings.Contains(token.text, `"http://dns.example/v1/`+id+`"`) {
		t.Errorf("the catalog is %s", token.text)
	}
	system := c.login("admin", "secret", `{"system": {"all": true}}`)
	if token := c.want(200, system, "GET", "/v3/auth/catalog", ""); strings.Contains(token.text, "http://dns.example/v1/") {
		t.Errorf("the catalog of a token without a project is %s", token.text)
	}
	c.want(403, admin, "DELETE", "/v3/regions/two", "")
	c.want(200, admin, "PATCH", "/v3/services/"+added, `{"service": {"enabled": false}}`)
	if token := c.want(200, admin, "GET", "/v3/auth/catalog", ""); strings.Contains(token.text, "http://dns.example/") {
		t.Errorf("the catalog is %s", token.text)
	}
	c.want(204, admin, "DELETE", "/v3/services/"+added, "")
	c.want(404, admin, "GET", "/v3/endpoints/"+a.at("endpoint.id").(string), "")
	c.want(204, admin, "DELETE", "/v3/regions/two", "")
	c.want(403, admin, "DELETE", "/v3/regions/RegionOne", "")
}

// Policies are kept as they are given.
func TestKeptPolicies(t *testing.T) {
	c := newCloud(t)
	admin := c.admin()
	ann, _, _ := c.member(admin, "ann")
	c.want(403, ann, "POST", "/v3/policies", `{"policy": {"type": "text/plain", "blob": "x"}}`)
	c.want(400, admin, "POST", "/v3/policies", `{"policy": {"type": "text/plain"}}`)
	path := "/v3/policies/" + c.want(201, admin, "POST", "/v3/policies", `{"policy": {"type": "text/plain", "blob": "x", "about": "y"}}`).at("policy.id").(string)
	c.want(200, admin, "PATCH", path, `{"policy": {"type": "application/json"}}`)
	c.want(400, admin, "PATCH", path, `{"policy": {"blob": null}}`)
	if a := c.want(200, admin, "GET", path, ""); a.at("policy.type") != "application/json" || a.at("policy.blob") != "x" || a.at("policy.about") != "y" {
		t.Errorf("the policy is %s", a.text)
	}
	for query, want := range map[string]int{"": 1, "?type__contains=json": 1, "?type=text/plain": 0} {
		if got := len(c.want(200, admin, "GET", "/v3/policies"+query, "").body["policies"].([]any)); got != want {
			t.Errorf("policies%s: %d, want %d", query, got, want)
		}
	}
	c.want(403, ann, "DELETE", path, "")
	c.want(204, admin, "DELETE", path, "")
	c.want(404, admin, "GET", path, "")
	c.want(404, admin, "DELETE", path, "")
}
