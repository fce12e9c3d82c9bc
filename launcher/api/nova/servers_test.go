package nova

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/slipway-vm/slipway/guest/agent"
	"github.com/slipway-vm/slipway/images"
	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/catalog"
	"github.com/slipway-vm/slipway/launcher/compute"
	"github.com/slipway-vm/slipway/launcher/launchertest"
	"github.com/slipway-vm/slipway/launcher/network"
	"github.com/slipway-vm/slipway/rootfs"
)

const imageID = "99999999-8888-4777-8666-555555555555"

// one image is all that there is.
type oneImage string

func (i oneImage) Image(_ context.Context, _ *openstack.Caller, id string) (Image, error) {
	if id != imageID {
		return Image{}, launcher.Errorf(launcher.ErrNotFound, "no image %s", id)
	}
	return Image{ID: imageID, Reference: string(i)}, nil
}

// snapshots are images of servers that are asked for, and what became of them.
type snapshots struct {
	oneImage
	asked chan catalog.Snapshot
	ended chan error
}

func (s *snapshots) NewSnapshot(_ context.Context, _ *openstack.Caller, asked catalog.Snapshot) (id, reference string, err error) {
	s.asked <- asked
	return "snapshot", "localhost/snapshot:" + asked.Name, nil
}

func (s *snapshots) EndSnapshot(_ context.Context, id string, img launcher.Image, failed error) error {
	if failed == nil && (id != "snapshot" || img.Size == 0) {
		failed = fmt.Errorf("snapshot %s of %d bytes", id, img.Size)
	}
	s.ended <- failed
	return nil
}

func (s *snapshots) Rotate(_ context.Context, _ *openstack.Caller, asked catalog.Snapshot) error {
	s.ended <- fmt.Errorf("rotated to %d of %s", asked.Keep, *asked.Backup)
	return nil
}

// fleet is the API with a manager whose guests are fakes.
type fleet struct {
	t *testing.T
	http.Handler
	m     *launcher.Manager
	net   *network.Service
	image oneImage
	snaps *snapshots
	shelf *catalog.Catalog
	// hypervisor has the servers' domains.
	hypervisor *launchertest.Hypervisor
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "sls") //nolint:usetesting // t.TempDir is too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	roots, err := rootfs.Open(t.Context(), rootfs.Config{Dir: filepath.Join(dir, "rootfs")})
	if err != nil {
		t.Fatal(err)
	}
	pulled, err := images.Open(images.Config{Dir: filepath.Join(dir, "images")})
	if err != nil {
		t.Fatal(err)
	}
	runs := func(ctx context.Context, p *launchertest.Process) agent.Exit {
		p.Write(ctx, agent.Stdout, "one\ntwo\nthree\n")
		if slices.Contains(p.Spec.Args, "ends") {
			return agent.Exit{}
		}
		select {
		case <-p.Stop:
		case <-ctx.Done():
		}
		return agent.Exit{Code: 143, Signal: 15}
	}
	commands := map[string]func(string) (int, string){"chpasswd": func(input string) (int, string) {
		return strings.Count(input, "weak"), "too weak"
	}}
	flavors := []launcher.Flavor{
		{Name: "tiny", VCPUs: 1, Memory: 128 << 20, Disk: 1 << 30}, {Name: "small", VCPUs: 2, Memory: 256 << 20, Disk: 2 << 30},
	}
	net, err := network.Open(t.Context(), network.Config{Store: launchertest.NewSection(), Identity: "0123456789"})
	if err != nil {
		t.Fatal(err)
	}
	hypervisor := &launchertest.Hypervisor{Programs: map[string]launchertest.Program{"/run": runs}, Commands: commands}
	m, err := launcher.New(t.Context(), launcher.Config{
		Dir: filepath.Join(dir, "servers"), Images: pulled, Roots: roots, Store: &launchertest.Store{}, Networks: net,
		Hypervisor: hypervisor,
		Kernels:    launchertest.Kernels{}, Host: launchertest.Host{}, DomainPrefix: "test-", Init: "/test/init", Configure: "/etc/passwd",
		Flavors: flavors, DefaultFlavor: "tiny", StopGrace: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := compute.Open(t.Context(), compute.Config{
		Store: &launchertest.Records{}, Host: "host", DefaultFlavor: "tiny", Flavors: flavors, Servers: m.Each,
	})
	if err != nil {
		t.Fatal(err)
	}
	shelf, err := catalog.Open(t.Context(), catalog.Config{Dir: filepath.Join(dir, "catalog"), Store: launchertest.NewSection(), Launcher: m, Referred: c.Images})
	if err != nil {
		t.Fatal(err)
	}
	image := oneImage(launchertest.Image(t, v1.Config{Cmd: []string{"/run"}}, "run"))
	snaps := &snapshots{image, make(chan catalog.Snapshot, 10), make(chan error, 10)}
	f := &fleet{t: t, m: m, shelf: shelf, net: net, image: image, snaps: snaps, hypervisor: hypervisor, Handler: New(Config{Manager: m, Networks: net, Compute: c, Images: snaps, Catalog: shelf, Host: "host", LocalProject: "local"})}
	t.Cleanup(func() {
		for _, s := range m.Servers() {
			if err := m.Delete(context.WithoutCancel(t.Context()), s.ID); err != nil {
				t.Error(err)
			}
		}
		if err := errors.Join(shelf.Close(), m.Close(), roots.Close(), os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	return f
}

func admin(project string) *openstack.Caller {
	return &openstack.Caller{UserID: "root", ProjectID: project, Roles: []string{openstack.Admin}}
}

func reader(project string) *openstack.Caller {
	return &openstack.Caller{UserID: "reader", ProjectID: project, Roles: []string{openstack.Reader}}
}

// do makes a request and fails the test where its status is another than want.
func (f *fleet) do(caller *openstack.Caller, version, method, path, text string, want int) map[string]any {
	f.t.Helper()
	w := call(f.t, f, caller, version, method, path, text)
	if w.Code != want {
		f.t.Fatalf("%s %s %s: %d %s, want %d", method, path, text, w.Code, w.Body, want)
	}
	var v map[string]any
	if w.Body.Len() > 0 {
		if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
			f.t.Fatal(err)
		}
	}
	return v
}

// make creates a server of the project and waits until it is up.
func (f *fleet) make(name, more string) string {
	f.t.Helper()
	b := fmt.Sprintf(`{"server":{"name":%q,"imageRef":%q,"flavorRef":"tiny"%s}}`, name, imageID, more)
	v := f.do(member(project), "2.1", "POST", "/v2.1/servers", b, 202)
	id := v["server"].(map[string]any)["id"].(string)
	f.until(id, "ACTIVE")
	return id
}

// until waits for a server's status at rest.
func (f *fleet) until(id, status string) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 30*time.Second)
	defer cancel()
	enough := errors.New("enough")
	var last launcher.Server
	err := f.m.Watch(ctx, id, func(s launcher.Server) error {
		if last = s; s.Status() == status && s.TaskState == launcher.TaskNone {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		f.t.Fatalf("server is %s (%s), %s, not %s: %v", last.VMState, last.TaskState, last.Fault, status, err)
	}
}

var (
	anyUUID = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`)
	anyTime = regexp.MustCompile(`20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d`)
	anyFrac = regexp.MustCompile(`TIME\.\d{6}`)
	anyMAC  = regexp.MustCompile(`fa:16:3e(:[0-9a-f]{2}){3}`)
	anyWord = regexp.MustCompile(`"(r-|adminPass": ")[a-zA-Z0-9]+"`)
)

// golden compares an answer with a file of testdata, but for what differs each time.
func golden(t *testing.T, name string, v any) {
	t.Helper()
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got := anyMAC.ReplaceAllString(anyUUID.ReplaceAllString(string(b), "UUID"), "MAC")
	got = anyFrac.ReplaceAllString(anyTime.ReplaceAllString(got, "TIME"), "TIME.FRACTION")
	got = anyWord.ReplaceAllString(got, `"${1}RANDOM"`) + "\n"
	file := filepath.Join("testdata", name+".json")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

func TestServerViews(t *testing.T) {
	f := newFleet(t)
	id := f.make("web", `,"metadata":{"role":"x"},"config_drive":true`)
	for name, caller := range map[string]*openstack.Caller{"user": reader(project), "admin": admin(other)} {
		for _, version := range []string{"2.1", "2.47", "2.90"} {
			golden(t, "server-"+name+"-"+version, f.do(caller, version, "GET", "/v2.1/servers/"+id, "", 200))
		}
	}
	golden(t, "servers", f.do(reader(project), "2.1", "GET", "/v2.1/servers", "", 200))
	golden(t, "server-update", f.do(member(project), "2.1", "PUT", "/v2.1/servers/"+id, `{"server":{"name":"new"}}`, 200))
	golden(t, "server-create", f.do(member(project), "2.90", "POST", "/v2.1/servers",
		`{"server":{"name":"b","imageRef":"`+imageID+`","flavorRef":"tiny","networks":"none"}}`, 202))
}

func TestOtherProjectsServers(t *testing.T) {
	f := newFleet(t)
	id := f.make("web", "")
	for _, request := range []string{
		"GET ", "DELETE ", "PUT  {}", "GET /metadata", "GET /os-instance-actions", "GET /ips", "GET /tags",
		`POST /action {"os-stop":null}`, `POST /action {"os-getConsoleOutput":{}}`, `POST /metadata {"metadata":{}}`, `PUT /tags {"tags":[]}`,
	} {
		part := strings.SplitN(request, " ", 3)
		text := ""
		if len(part) > 2 {
			text = part[2]
		}
		w := call(t, f, member(other), "2.60", part[0], "/v2.1/servers/"+id+part[1], text)
		if w.Code != 404 || !strings.Contains(w.Body.String(), "Instance "+id+" could not be found.") {
			t.Errorf("%s: %d %s", request, w.Code, w.Body)
		}
	}
	if v := f.do(member(other), "", "GET", "/v2.1/servers/detail", "", 200); len(v["servers"].([]any)) != 0 {
		t.Errorf("another project's list: %v", v)
	}
	if v := f.do(admin(other), "", "GET", "/v2.1/servers?all_tenants=1", "", 200); len(v["servers"].([]any)) != 1 {
		t.Errorf("the administrator's list: %v", v)
	}
	for _, c := range []struct{ method, path, body string }{
		{"POST", "", `{"server":{}}`}, {"DELETE", "/" + id, ""}, {"POST", "/" + id + "/action", `{"os-start":null}`},
		{"GET", "?all_tenants=1", ""}, {"POST", "/" + id + "/action", `{"os-resetState":{"state":"error"}}`},
	} {
		w := call(t, f, reader(project), "", c.method, "/v2.1/servers"+c.path, c.body)
		if w.Code != 403 || !strings.Contains(w.Body.String(), "Policy doesn't allow os_compute_api:") {
			t.Errorf("a reader's %s %s: %d %s", c.method, c.body, w.Code, w.Body)
		}
	}
}

// A server becomes an image, in whatever state, and servers are made of that.
func TestCreateImage(t *testing.T) {
	f := newFleet(t)
	id := f.make("web", "")
	path := "/v2.1/servers/" + id + "/action"
	made := func(name string) {
		t.Helper()
		if asked := <-f.snaps.asked; asked.Name != name || asked.Server != id || asked.Base != imageID || asked.Metadata["a"] != "b" {
			t.Errorf("asked for %+v", asked)
		}
		if err := <-f.snaps.ended; err != nil {
			t.Error(err)
		}
	}
	v := f.do(member(project), "2.45", "POST", path, `{"createImage":{"name":"active","metadata":{"a":"b"}}}`, 202)
	if v["image_id"] != "snapshot" {
		t.Errorf("answer %v", v)
	}
	made("active")
	f.do(member(project), "", "POST", path, `{"pause":null}`, 202)
	f.until(id, "PAUSED")
	w := call(t, f, member(project), "2.44", "POST", path, `{"createImage":{"name":"paused","metadata":{"a":"b"}}}`)
	if w.Code != 202 || w.Body.Len() > 0 || !strings.HasSuffix(w.Header().Get("Location"), "/images/snapshot") {
		t.Errorf("%d %s, location %s", w.Code, w.Body, w.Header().Get("Location"))
	}
	made("paused")
	f.do(member(project), "2.1", "POST", path, `{"createBackup":{"name":"daily","metadata":{"a":"b"},"backup_type":"daily","rotation":2}}`, 202)
	made("daily")
	if err := <-f.snaps.ended; err.Error() != "rotated to 2 of daily" {
		t.Error(err)
	}
	f.do(member(project), "2.1", "POST", path, `{"createBackup":{"name":"typeless","metadata":{"a":"b"},"backup_type":"","rotation":1}}`, 202)
	made("typeless")
	if err := <-f.snaps.ended; err.Error() != "rotated to 1 of " {
		t.Error(err)
	}
	f.do(member(project), "2.1", "POST", path, `{"createBackup":{"name":"daily","backup_type":"daily","rotation":-1}}`, 400)
	f.do(member(project), "2.1", "POST", path, `{"createBackup":{"name":"daily","rotation":1}}`, 400)
	f.do(member(project), "", "POST", path, `{"createImage":{"name":"no reference"}}`, 400)
	if <-f.snaps.asked; (<-f.snaps.ended) == nil {
		t.Error("a snapshot that cannot be made was not taken back")
	}
	f.do(member(project), "", "POST", path, `{"os-resetState":{"state":"error"}}`, 403)
	f.do(admin(project), "", "POST", path, `{"os-resetState":{"state":"error"}}`, 202)
	f.do(member(project), "", "POST", path, `{"createImage":{"name":"error"}}`, 409)

	for reference, layers := range map[string]int{"localhost/snapshot:active": 2, "localhost/snapshot:paused": 2} {
		img, err := f.m.Image(t.Context(), reference)
		if err != nil || len(img.DiffIDs) != layers || !img.Own {
			t.Errorf("%s: %+v (%v)", reference, img.Record, err)
		}
	}
	if p, err := f.m.PruneImages(t.Context(), true); err != nil || len(p.Images) > 0 {
		t.Errorf("pruned %v (%v)", p.Images, err)
	}
	srv, err := f.m.Create(t.Context(), launcher.Spec{Name: "again", Image: "localhost/snapshot:active"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	f.until(srv.ID, "ACTIVE")
}

func TestServerActions(t *testing.T) {
	f := newFleet(t)
	id := f.make("web", "")
	act := func(version, text string, want int) map[string]any {
		t.Helper()
		return f.do(member(project), version, "POST", "/v2.1/servers/"+id+"/action", text, want)
	}
	for _, step := range []struct {
		text   string
		code   int
		status string
	}{
		{`{"os-start":null}`, 409, "ACTIVE"},
		{`{"pause":null}`, 202, "PAUSED"},
		{`{"os-stop":null}`, 409, "PAUSED"},
		{`{"unpause":null}`, 202, "ACTIVE"},
		{`{"suspend":null}`, 202, "SUSPENDED"},
		{`{"unpause":null}`, 409, "SUSPENDED"},
		{`{"resume":null}`, 202, "ACTIVE"},
		{`{"resume":null}`, 409, "ACTIVE"},
		{`{"os-stop":null}`, 202, "SHUTOFF"},
		{`{"suspend":null}`, 409, "SHUTOFF"},
		{`{"os-start":null}`, 202, "ACTIVE"},
		{`{"reboot":{"type":"SOFT"}}`, 202, "ACTIVE"},
		{`{"reboot":{"type":"HARD"}}`, 202, "ACTIVE"},
		{`{"reboot":{"type":"other"}}`, 400, "ACTIVE"},
		{`{"resize":{"flavorRef":"tiny"}}`, 400, "ACTIVE"},
		{`{"resize":{"flavorRef":"small","OS-DCF:diskConfig":"AUTO"}}`, 202, "VERIFY_RESIZE"},
		{`{"revertResize":null}`, 202, "ACTIVE"},
		{`{"resize":{"flavorRef":"small"}}`, 202, "VERIFY_RESIZE"},
		{`{"confirmResize":null}`, 204, "ACTIVE"},
		{`{"rebuild":{"imageRef":"` + imageID + `","name":"again"}}`, 202, "ACTIVE"},
		{`{"rebuild":{"imageRef":"` + strings.Replace(imageID, "9", "1", 1) + `"}}`, 400, "ACTIVE"},
		{`{"createImage":{}}`, 400, "ACTIVE"},
		{`{"changePassword":{"adminPass":"x"}}`, 202, "ACTIVE"},
		{`{"changePassword":{"adminPass":"weak"}}`, 409, "ACTIVE"},
		{`{"os-getVNCConsole":{"type":"novnc"}}`, 400, "ACTIVE"},
		{`{"nosuch":null}`, 400, "ACTIVE"},
		{`{}`, 400, "ACTIVE"},
	} {
		act("", step.text, step.code)
		f.until(id, step.status)
	}
	f.migrations(id)
	rebuilt := f.do(admin(project), "2.75", "POST", "/v2.1/servers/"+id+"/action", `{"rebuild":{"imageRef":"`+imageID+`"}}`, 202)["server"].(map[string]any)
	f.until(id, "ACTIVE")
	_, twice := rebuilt["OS-EXT-SRV-ATTR:user_data"]
	if _, once := rebuilt["user_data"]; !once || twice {
		t.Errorf("user data in the answer to a rebuild: %v", rebuilt)
	}
	f.do(member(project), "", "PUT", "/v2.1/servers/"+id, `{"server":{"accessIPv6":"0:0::babe:1.2.3.4"}}`, 200)
	srv := f.do(member(project), "", "GET", "/v2.1/servers/"+id, "", 200)["server"].(map[string]any)
	if srv["OS-DCF:diskConfig"] != "AUTO" || srv["accessIPv6"] != "::babe:102:304" {
		t.Errorf("disk config %v, access address %v", srv["OS-DCF:diskConfig"], srv["accessIPv6"])
	}
	for act("", `{"os-getConsoleOutput":{}}`, 200)["output"] == "" { // it comes after the start
		time.Sleep(10 * time.Millisecond)
	}
	for _, c := range []struct{ arg, want string }{{`{}`, "one\ntwo\nthree\n"}, {`{"length":1}`, "three"}, {`{"length":"2"}`, "two\nthree"}} {
		if v := act("", `{"os-getConsoleOutput":`+c.arg+`}`, 200); v["output"] != c.want {
			t.Errorf("console output %s is %q", c.arg, v["output"])
		}
	}
	act("2.73", `{"lock":{"locked_reason":"because"}}`, 202)
	act("", `{"os-stop":null}`, 409)
	f.do(member(project), "", "DELETE", "/v2.1/servers/"+id, "", 409)
	f.do(admin(other), "", "POST", "/v2.1/servers/"+id+"/action", `{"os-stop":null}`, 202)
	f.until(id, "SHUTOFF")
	act("", `{"unlock":null}`, 202)
	f.do(admin(other), "", "POST", "/v2.1/servers/"+id+"/action", `{"os-resetState":{"state":"error"}}`, 202)
	f.until(id, "ERROR")

	v := f.do(reader(project), "2.58", "GET", "/v2.1/servers/"+id+"/os-instance-actions", "", 200)
	if got := len(v["instanceActions"].([]any)); got != 21 {
		t.Errorf("%d actions are recorded: %v", got, v)
	}
	request := v["instanceActions"].([]any)[1].(map[string]any)["request_id"].(string)
	one := f.do(reader(project), "2.62", "GET", "/v2.1/servers/"+id+"/os-instance-actions/"+request, "", 200)
	golden(t, "instance-action", redact(one, request))

	f.do(member(project), "", "DELETE", "/v2.1/servers/"+id, "", 204)
	for {
		if w := call(t, f, member(project), "", "GET", "/v2.1/servers/"+id, ""); w.Code == 404 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	v = f.do(reader(project), "2.1", "GET", "/v2.1/servers?changes-since=2020-01-01T00:00:00Z", "", 200)
	if len(v["servers"].([]any)) != 1 {
		t.Errorf("deleted servers are not in the list of changes: %v", v)
	}
	f.do(reader(project), "2.21", "GET", "/v2.1/servers/"+id+"/os-instance-actions", "", 200)
	f.do(reader(project), "2.20", "GET", "/v2.1/servers/"+id+"/os-instance-actions", "", 404)
}

func redact(v map[string]any, request string) any {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	var redacted any
	if err := json.Unmarshal([]byte(strings.ReplaceAll(string(b), request, "REQUEST")), &redacted); err != nil {
		panic(err)
	}
	return redacted
}

func TestServerLists(t *testing.T) {
	f := newFleet(t)
	f.do(member(project), "2.52", "POST", "/v2.1/servers",
		`{"server":{"name":"web","imageRef":"`+imageID+`","flavorRef":"tiny","networks":"auto","min_count":3,"tags":["a","b"]}}`, 202)
	last := f.make("db", "")
	for _, s := range f.m.Servers() {
		f.until(s.ID, "ACTIVE")
	}
	f.do(member(project), "", "POST", "/v2.1/servers/"+last+"/action", `{"os-stop":null}`, 202)
	f.until(last, "SHUTOFF")
	for query, want := range map[string]string{
		"":                                   "db web-3 web-2 web-1",
		"sort_key=display_name&sort_dir=asc": "db web-1 web-2 web-3",
		"name=^WEB-[12]$":                    "web-2 web-1",
		"status=shutoff":                     "db",
		"status=ACTIVE&status=SHUTOFF":       "db web-3 web-2 web-1",
		"limit=2":                            "db web-3",
		"limit=2&marker=" + last:             "web-3 web-2",
		"flavor=small":                       "",
		"image=" + imageID:                   "db web-3 web-2 web-1",
		"tags=a,b":                           "web-3 web-2 web-1",
		"tags-any=b,c":                       "web-3 web-2 web-1",
		"not-tags=a":                         "db",
		"ip=192.0.2":                         "",
		"host=elsewhere":                     "db web-3 web-2 web-1", // not for users
		"changes-since=2999-01-01T00:00:00Z": "",
	} {
		v := f.do(reader(project), "2.60", "GET", "/v2.1/servers?"+query, "", 200)
		var names []string
		for _, s := range v["servers"].([]any) {
			names = append(names, s.(map[string]any)["name"].(string))
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
		if links := v["servers_links"]; (links != nil) != strings.HasPrefix(query, "limit=2") {
			t.Errorf("%s: links %v", query, links)
		}
	}
	for query, want := range map[string]int{
		"status=nosuch": 400, "limit=-1": 400, "marker=nosuch": 400, "name=(": 400, "sort_key=nosuch": 400, "changes-since=x": 400,
		"status=DELETED": 403, "all_tenants=x": 400,
	} {
		f.do(reader(project), "2.60", "GET", "/v2.1/servers?"+query, "", want)
	}
	f.do(reader(project), "2.75", "GET", "/v2.1/servers?nosuch=1", "", 400)
}

func TestCreateRefuses(t *testing.T) {
	f := newFleet(t)
	valid := `"name":"a","imageRef":"` + imageID + `","flavorRef":"tiny"`
	for text, says := range map[string]string{
		`"imageRef":"` + imageID + `","flavorRef":"tiny","networks":"none"`: "'name' is a required property",
		valid:                        "'networks' is a required property",
		valid + `,"networks":"some"`: "networks",
		valid + `,"networks":[{"uuid":"` + imageID + `"}]`:                                "Network " + imageID + " could not be found.",
		valid + `,"networks":"none","nosuch":1`:                                           "Additional properties are not allowed",
		valid + `,"networks":"none","user_data":"!"`:                                      "base64",
		valid + `,"networks":"none","key_name":"nosuch"`:                                  "Invalid key_name provided.",
		valid + `,"networks":"none","availability_zone":"nosuch"`:                         "The requested availability zone is not available",
		valid + `,"networks":"none","min_count":2,"max_count":1`:                          "min_count must be <= max_count",
		valid + `,"networks":"none","block_device_mapping_v2":[{"source_type":"volume"}]`: "Block Device Mapping is Invalid",
		`"name":"a","imageRef":"oci:/etc","flavorRef":"tiny","networks":"none"`:           "Invalid imageRef provided",
		`"name":"a","imageRef":"docker.io/nginx","flavorRef":"tiny","networks":"none"`:    "Invalid imageRef provided",
		`"name":"a","imageRef":"` + imageID + `","flavorRef":"nosuch","networks":"none"`:  "Flavor nosuch could not be found.",
		`"name":" a","imageRef":"` + imageID + `","flavorRef":"tiny","networks":"none"`:   "printable characters",
	} {
		w := call(t, f, member(project), "2.52", "POST", "/v2.1/servers", `{"server":{`+text+`}}`)
		if w.Code != 400 || !strings.Contains(w.Body.String(), strings.ReplaceAll(says, "<=", `\u003c=`)) {
			t.Errorf("%s: %d %s", text, w.Code, w.Body)
		}
	}
	if n := len(f.m.Servers()); n != 0 {
		t.Errorf("%d servers were made", n)
	}
}

func TestMetadataQuota(t *testing.T) {
	f := newFleet(t)
	path := "/v2.1/servers/" + f.make("web", `,"metadata":{"a":"1"}`)
	f.do(admin(other), "", "PUT", "/v2.1/os-quota-sets/"+project, `{"quota_set":{"metadata_items":1}}`, 200)
	f.do(member(project), "", "POST", path+"/metadata", `{"metadata":{"a":"2"}}`, 200)
	f.do(member(project), "", "POST", path+"/metadata", `{"metadata":{"b":"2"}}`, 403)
	f.do(member(project), "", "POST", "/v2.1/servers",
		`{"server":{"name":"b","imageRef":"`+imageID+`","flavorRef":"tiny","metadata":{"a":"1","b":"2"}}}`, 403)
}

func TestMetadataAndTags(t *testing.T) {
	f := newFleet(t)
	path := "/v2.1/servers/" + f.make("web", "")
	for _, c := range []struct {
		method, path, text string
		code               int
		want               string
	}{
		{"POST", "/metadata", `{"metadata":{"a":"1","b":"2"}}`, 200, `{"metadata":{"a":"1","b":"2"}}`},
		{"PUT", "/metadata/a", `{"meta":{"a":"3"}}`, 200, `{"meta":{"a":"3"}}`},
		{"PUT", "/metadata/a", `{"meta":{"b":"3"}}`, 400, ""},
		{"GET", "/metadata/a", "", 200, `{"meta":{"a":"3"}}`},
		{"DELETE", "/metadata/a", "", 204, ""},
		{"DELETE", "/metadata/a", "", 404, ""},
		{"GET", "/metadata", "", 200, `{"metadata":{"b":"2"}}`},
		{"PUT", "/metadata", `{"metadata":{"c":"1"}}`, 200, `{"metadata":{"c":"1"}}`},
		{"PUT", "/metadata", `{"metadata":{"c":1}}`, 400, ""},
		{"PUT", "/tags", `{"tags":["x","y"]}`, 200, `{"tags":["x","y"]}`},
		{"PUT", "/tags", `{"tags":["x,y"]}`, 400, ""},
		{"PUT", "/tags/z", "", 201, ""},
		{"PUT", "/tags/z", "", 204, ""},
		{"GET", "/tags/z", "", 204, ""},
		{"DELETE", "/tags/x", "", 204, ""},
		{"DELETE", "/tags/x", "", 404, ""},
		{"GET", "/tags", "", 200, `{"tags":["y","z"]}`},
		{"DELETE", "/tags", "", 204, ""},
		{"GET", "/tags", "", 200, `{"tags":[]}`},
		{"GET", "/os-volume_attachments", "", 200, `{"volumeAttachments":[]}`},
	} {
		w := call(t, f, member(project), "2.60", c.method, path+c.path, c.text)
		if w.Code != c.code || c.want != "" && strings.TrimSpace(w.Body.String()) != c.want {
			t.Errorf("%s %s %s: %d %s, want %d %s", c.method, c.path, c.text, w.Code, w.Body, c.code, c.want)
		}
	}
}

// migrations looks at those of a server whose first resize was reverted, and whose
// second was confirmed.
func (f *fleet) migrations(id string) {
	f.t.Helper()
	f.do(member(project), "", "GET", "/v2.1/os-migrations", "", 403)
	for query, want := range map[string]string{
		"": "confirmed reverted", "status=reverted": "reverted", "instance_uuid=nosuch": "", "migration_type=resize&instance_uuid=" + id: "confirmed reverted",
		"limit=1": "confirmed", "changes-since=2999-01-01T00:00:00Z": "", "source_compute=elsewhere": "",
	} {
		var got []string
		for _, m := range f.do(admin(project), "2.80", "GET", "/v2.1/os-migrations?"+query, "", 200)["migrations"].([]any) {
			m := m.(map[string]any)
			got = append(got, m["status"].(string))
			if m["instance_uuid"] != id || m["project_id"] != project {
				f.t.Errorf("migration %v", m)
			}
		}
		if strings.Join(got, " ") != want {
			f.t.Errorf("migrations?%s: %v, want %s", query, got, want)
		}
	}
	first := f.do(admin(project), "2.59", "GET", "/v2.1/os-migrations?limit=1", "", 200)
	marker := first["migrations"].([]any)[0].(map[string]any)["uuid"].(string)
	rest := f.do(admin(project), "2.59", "GET", "/v2.1/os-migrations?marker="+marker, "", 200)
	if list := rest["migrations"].([]any); first["migrations_links"] == nil || len(list) != 1 || list[0].(map[string]any)["status"] != "reverted" {
		f.t.Errorf("page %v, and then %v", first, rest)
	}
}
