package glance

import (
	"archive/tar"
	"bytes"
	"crypto/md5" //nolint:gosec // the API's checksum
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/slipway-vm/slipway/images"
	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/launchertest"
)

// user is a member of a project.
type user struct {
	t       *testing.T
	h       http.Handler
	project string
	role    string
}

// do sends a request; of what is no JSON the answer is under "raw".
func (u user) do(method, path, contentType, body string) (int, map[string]any) {
	u.t.Helper()
	r := httptest.NewRequestWithContext(u.t.Context(), method, path, strings.NewReader(body))
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	r.Header.Set("Accept", "application/json")
	r = r.WithContext(openstack.WithCaller(r.Context(), &openstack.Caller{Roles: []string{u.role}, ProjectID: u.project}))
	w := httptest.NewRecorder()
	u.h.ServeHTTP(w, r)
	answer := map[string]any{}
	if strings.Contains(w.Header().Get("Content-Type"), "json") {
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
			u.t.Fatalf("%s %s: %v in %s", method, path, err, w.Body)
		}
	} else {
		answer["raw"] = w.Body.String()
	}
	return w.Code, answer
}

// must sends a request of JSON, and fails where the answer has another status.
func (u user) must(want int, method, path, body string) map[string]any {
	u.t.Helper()
	contentType := "application/json"
	if method == http.MethodPatch {
		contentType = patch21
	}
	status, answer := u.do(method, path, contentType, body)
	if status != want {
		u.t.Errorf("%s %s %.200s: %d %v, want %d", method, path, body, status, answer, want)
	}
	return answer
}

// put sends data.
func (u user) put(want int, path, data string) {
	u.t.Helper()
	if status, answer := u.do(http.MethodPut, path, "application/octet-stream", data); status != want {
		u.t.Errorf("PUT %s: %d %v, want %d", path, status, answer, want)
	}
}

func (u user) create(body string) string {
	u.t.Helper()
	id, _ := u.must(201, "POST", "/v2/images", body)["id"].(string)
	return "/v2/images/" + id
}

func (u user) status(path string) string {
	u.t.Helper()
	return fmt.Sprint(u.must(200, "GET", path, "")["status"])
}

// archive is a tar archive of empty files.
func archive(t *testing.T, names ...string) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range names {
		if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

const bootable = `{"name":"mine","container_format":"docker","disk_format":"raw","visibility":"private","min_ram":64,"color":"blue","tags":["b","a","b"]}`

func TestUpload(t *testing.T) {
	h, s := newAPI(t)
	me, other, admin := user{t, h, "mine", openstack.Member}, user{t, h, "others", openstack.Member}, user{t, h, "ops", openstack.Admin}
	path := me.create(bootable)
	x := me.must(200, "GET", path, "")
	if x["status"] != "queued" || x["owner"] != "mine" || x["color"] != "blue" || fmt.Sprint(x["tags"]) != "[a b]" || x["min_ram"] != 64.0 || x["size"] != nil {
		t.Errorf("created %v", x)
	}
	other.must(404, "GET", path, "")
	other.must(404, "DELETE", path, "")
	if status, _ := me.do("GET", path+"/file", "", ""); status != 204 {
		t.Errorf("data of a queued image: %d", status)
	}
	me.put(400, path+"/file", "no archive")
	me.put(400, path+"/file", archive(t, "etc/passwd"))
	if got := me.status(path); got != "queued" {
		t.Errorf("after bad data: %s", got)
	}
	data := archive(t, "manifest.json", "layer.tar")
	other.put(404, path+"/file", data)
	me.put(204, path+"/file", data)
	me.put(409, path+"/file", data)
	x = me.must(200, "GET", path, "")
	sum := md5.Sum([]byte(data)) //nolint:gosec // as above
	if x["status"] != "active" || x["checksum"] != hex.EncodeToString(sum[:]) || x["size"] != float64(len(data)) || x["os_hash_algo"] != "sha512" || x["slipway:reference"] != nil {
		t.Errorf("active %v", x)
	}
	if _, answer := me.do("GET", path+"/file", "", ""); answer["raw"] != data {
		t.Error("other data comes back")
	}
	if list := names(t, me.must(200, "GET", "/v2/images?visibility=private", "")); fmt.Sprint(list) != "[mine]" {
		t.Errorf("private images: %q", list)
	}
	if list := names(t, me.must(200, "GET", "/v2/images?name=mine&color=blue&tag=a", "")); fmt.Sprint(list) != "[mine]" {
		t.Errorf("named mine: %q", list)
	}
	if list := names(t, other.must(200, "GET", "/v2/images", "")); len(list) != 3 {
		t.Errorf("others see %q", list)
	}

	other.must(404, "POST", path+"/actions/deactivate", "")
	me.must(404, "GET", "/v2/images/", "")
	admin.must(204, "POST", path+"/actions/deactivate", "")
	if status, _ := me.do("GET", path+"/file", "", ""); status != 403 || me.status(path) != "deactivated" {
		t.Errorf("data of a deactivated image: %d", status)
	}
	admin.must(204, "POST", path+"/actions/reactivate", "")
	me.must(200, "PATCH", path, `[{"op":"replace","path":"/protected","value":true}]`)
	me.must(403, "DELETE", path, "")
	me.must(200, "PATCH", path, `[{"op":"replace","path":"/protected","value":false}]`)
	s.busy = true
	me.must(409, "DELETE", path, "")
	s.busy = false
	me.must(204, "DELETE", path, "")
	me.must(404, "GET", path, "")
	if len(s.ready) != 3 {
		t.Errorf("the launcher keeps %v", s.ready)
	}
}

func TestCreateRefuses(t *testing.T) {
	h, _ := newAPI(t)
	me := user{t, h, "mine", openstack.Member}
	id := strings.TrimPrefix(me.create(`{"id":"0c3b1ad2-5b8e-4d4c-9d2f-111111111111"}`), "/v2/images/")
	for body, want := range map[string]int{
		`{"id":"` + id + `"}`:                         409,
		`{"id":"x"}`:                                  400,
		`{"visibility":"public"}`:                     403,
		`{"visibility":"secret"}`:                     400,
		`{"container_format":"tarball"}`:              400,
		`{"disk_format":"floppy"}`:                    400,
		`{"min_disk":-1}`:                             400,
		`{"min_ram":"1"}`:                             400,
		`{"protected":"yes"}`:                         400,
		`{"color":7}`:                                 400,
		`{"status":"active"}`:                         403,
		`{"size":1}`:                                  403,
		`{"owner":"others"}`:                          403,
		`{"os_glance_x":"1"}`:                         403,
		`{"tags":"a"}`:                                400,
		`{"name":"` + strings.Repeat("n", 256) + `"}`: 400,
		`[]`: 400,
		``:   400,
	} {
		me.must(want, "POST", "/v2/images", body)
	}
	user{t, h, "mine", openstack.Reader}.must(403, "POST", "/v2/images", `{}`)
	path := me.create(`{"name":"formless"}`)
	me.put(400, path+"/file", "x")
	if status, _ := me.do("PUT", path+"/file", "text/plain", "x"); status != 415 {
		t.Errorf("text uploaded: %d", status)
	}
}

func TestPatch(t *testing.T) {
	h, _ := newAPI(t)
	me, other := user{t, h, "mine", openstack.Member}, user{t, h, "others", openstack.Member}
	path := me.create(`{"visibility":"community","color":"blue","a/b":"1"}`)
	x := me.must(200, "PATCH", path, `[{"op":"replace","path":"/name","value":"new"},{"op":"add","path":"/size_of_shoes","value":"46"},{"op":"remove","path":"/color"},
		{"op":"replace","path":"/a~1b","value":"2"},{"op":"add","path":"/tags","value":["x"]},{"op":"replace","path":"/disk_format","value":"qcow2"},{"op":"replace","path":"/os_hidden","value":true}]`)
	if x["name"] != "new" || x["size_of_shoes"] != "46" || x["color"] != nil || x["a/b"] != "2" || fmt.Sprint(x["tags"]) != "[x]" || x["os_hidden"] != true {
		t.Errorf("patched %v", x)
	}
	for body, want := range map[string]int{
		`[{"op":"replace","path":"/nosuch","value":"x"}]`:          409,
		`[{"op":"remove","path":"/nosuch"}]`:                       409,
		`[{"op":"remove","path":"/name"}]`:                         403,
		`[{"op":"replace","path":"/status","value":"x"}]`:          403,
		`[{"op":"replace","path":"/id","value":"x"}]`:              403,
		`[{"op":"replace","path":"/visibility","value":"public"}]`: 403,
		`[{"op":"move","path":"/name","value":"x"}]`:               400,
		`[{"op":"add","path":"/a/b","value":"x"}]`:                 400,
		`[{"op":"add","path":"name","value":"x"}]`:                 400,
		`[{"op":"add","path":"/name"}]`:                            400,
		`{}`:                                                       400,
	} {
		me.must(want, "PATCH", path, body)
	}
	other.must(403, "PATCH", path, `[{"op":"replace","path":"/name","value":"stolen"}]`)
	if status, _ := me.do("PATCH", path, "application/json", `[]`); status != 415 {
		t.Errorf("a patch of JSON: %d", status)
	}
	if status, x := me.do("PATCH", path, patch20, `[{"replace":"/name","value":"old"}]`); status != 200 || x["name"] != "old" {
		t.Errorf("a patch of v2.0: %d %v", status, x)
	}
	me.must(204, "PUT", path+"/tags/y", "")
	me.must(204, "DELETE", path+"/tags/x", "")
	me.must(404, "DELETE", path+"/tags/x", "")
	if got := fmt.Sprint(me.must(200, "GET", path, "")["tags"]); got != "[y]" {
		t.Errorf("tags %s", got)
	}
	// What is known by its reference is the administrator's to change.
	known := "/v2/images/" + fmt.Sprint(me.must(200, "GET", "/v2/images?name=busybox", "")["images"].([]any)[0].(map[string]any)["id"])
	me.must(403, "PATCH", known, `[{"op":"add","path":"/os_distro","value":"busybox"}]`)
	user{t, h, "ops", openstack.Admin}.must(200, "PATCH", known, `[{"op":"add","path":"/os_distro","value":"busybox"}]`)
	if x := me.must(200, "GET", known, ""); x["os_distro"] != "busybox" || x["status"] != "active" {
		t.Errorf("changed %v", x)
	}
	if list := names(t, me.must(200, "GET", "/v2/images", "")); len(list) != 3 {
		t.Errorf("listed %q", list)
	}
}

func TestMembers(t *testing.T) {
	h, _ := newAPI(t)
	me, other := user{t, h, "mine", openstack.Member}, user{t, h, "others", openstack.Member}
	path := me.create(`{"name":"shared"}`)
	other.must(404, "GET", path, "")
	m := me.must(200, "POST", path+"/members", `{"member":"others"}`)
	if m["status"] != "pending" || m["member_id"] != "others" {
		t.Errorf("member %v", m)
	}
	me.must(409, "POST", path+"/members", `{"member":"others"}`)
	me.must(400, "POST", path+"/members", `{}`)
	other.must(200, "GET", path, "")
	listed := func() int { return len(names(t, other.must(200, "GET", "/v2/images?visibility=shared", ""))) }
	if listed() != 0 {
		t.Error("listed before it is accepted")
	}
	me.must(403, "PUT", path+"/members/others", `{"status":"accepted"}`)
	other.must(400, "PUT", path+"/members/others", `{"status":"perhaps"}`)
	other.must(200, "PUT", path+"/members/others", `{"status":"accepted"}`)
	if listed() != 1 {
		t.Error("not listed when it is accepted")
	}
	other.must(403, "PATCH", path, `[{"op":"replace","path":"/name","value":"stolen"}]`)
	other.must(403, "DELETE", path, "")
	other.must(200, "GET", path+"/members/others", "")
	me.must(404, "GET", path+"/members/nobody", "")
	me.must(204, "DELETE", path+"/members/others", "")
	other.must(404, "GET", path, "")
	private := me.create(`{"visibility":"private"}`)
	me.must(403, "POST", private+"/members", `{"member":"others"}`)
}

func TestImports(t *testing.T) {
	h, _ := newAPI(t)
	me := user{t, h, "mine", openstack.Member}
	ended := func(path string) (status, task string) {
		for range 200 {
			if status = me.status(path); status != "importing" {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		list, _ := me.must(200, "GET", path+"/tasks", "")["tasks"].([]any)
		for range 200 {
			if len(list) != 1 {
				return status, fmt.Sprint(list)
			}
			id := fmt.Sprint(list[0].(map[string]any)["id"])
			x := user{t, h, "ops", openstack.Admin}.must(200, "GET", "/v2/tasks/"+id, "")
			if x["status"] != "processing" {
				return status, fmt.Sprint(x["status"])
			}
			time.Sleep(10 * time.Millisecond)
		}
		return status, "processing"
	}
	staged := me.create(bootable)
	me.must(409, "POST", staged+"/import", `{"method":{"name":"glance-direct"}}`)
	me.put(204, staged+"/stage", archive(t, "oci-layout", "index.json"))
	if got := me.status(staged); got != "uploading" {
		t.Errorf("staged: %s", got)
	}
	me.must(202, "POST", staged+"/import", `{"method":{"name":"glance-direct"}}`)
	if status, task := ended(staged); status != "active" || task != "success" {
		t.Errorf("imported: %s, %s", status, task)
	}
	for uri, want := range map[string]string{"docker.io/library/nginx": "active success", "docker://docker.io/library/nosuch": "queued failure"} {
		path := me.create(bootable)
		me.must(202, "POST", path+"/import", `{"method":{"name":"slipway-registry","uri":"`+uri+`"}}`)
		if status, task := ended(path); status+" "+task != want {
			t.Errorf("%s: %s, %s", uri, status, task)
		}
	}
	me.must(403, "GET", "/v2/tasks", "")
	path := me.create(bootable)
	for _, method := range []string{`{"name":"nosuch"}`, `{"name":"slipway-registry"}`, `{"name":"slipway-registry","uri":"oci:/etc"}`, `{"name":"web-download"}`,
		`{"name":"web-download","uri":"file:///etc/passwd"}`, `{"name":"web-download","uri":"http://example.org:22/"}`} {
		me.must(400, "POST", path+"/import", `{"method":`+method+`}`)
	}
	// The name may be another's, the address is what counts.
	me.must(202, "POST", path+"/import", `{"method":{"name":"web-download","uri":"http://localhost/"}}`)
	if status, task := ended(path); status != "queued" || task != "failure" {
		t.Errorf("of this machine: %s, %s", status, task)
	}
	if x := me.must(200, "GET", path, ""); x["os_glance_failed_import"] != "file" {
		t.Errorf("after an import that failed: %v", x)
	}
	info, _ := json.Marshal(me.must(200, "GET", "/v2/info/import", ""))
	if !strings.Contains(string(info), "glance-direct") {
		t.Errorf("methods %s", info)
	}
}

// A task of the type import makes the image, too.
func TestTask(t *testing.T) {
	h, _ := newAPI(t)
	me, admin := user{t, h, "mine", openstack.Member}, user{t, h, "ops", openstack.Admin}
	input := `{"import_from":"http://localhost/","import_from_format":"raw","image_properties":{"name":"made","disk_format":"qcow2"}}`
	me.must(403, "POST", "/v2/tasks", `{"type":"import","input":`+input+`}`)
	admin.must(400, "POST", "/v2/tasks", `{"type":"export","input":`+input+`}`)
	admin.must(400, "POST", "/v2/tasks", `{"type":"import","input":{}}`)
	admin.must(400, "POST", "/v2/tasks", `{"type":"import","input":`+strings.Replace(input, "http:", "file:", 1)+`}`)
	if list := names(t, admin.must(200, "GET", "/v2/images?name=made", "")); len(list) != 0 {
		t.Errorf("images of no task: %q", list)
	}
	made := admin.must(201, "POST", "/v2/tasks", `{"type":"import","input":`+input+`}`)
	if made["type"] != "import" || made["input"].(map[string]any)["import_from"] != "http://localhost/" {
		t.Errorf("made %v", made)
	}
	for range 200 {
		if admin.must(200, "GET", "/v2/tasks/"+fmt.Sprint(made["id"]), "")["status"] == "failure" { // this machine is no place to download from
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	x := admin.must(200, "GET", "/v2/images/"+fmt.Sprint(made["image_id"]), "")
	if x["name"] != "made" || x["disk_format"] != "qcow2" || x["container_format"] != "bare" || x["status"] != "queued" {
		t.Errorf("image %v", x)
	}
}

// An image that is deleted while it is imported takes the import with it.
func TestDeleteWhileImporting(t *testing.T) {
	h, s := newAPI(t)
	me := user{t, h, "mine", openstack.Member}
	path := me.create(bootable)
	s.pulling = make(chan struct{})
	me.must(202, "POST", path+"/import", `{"method":{"name":"slipway-registry","uri":"docker.io/library/nginx"}}`)
	<-s.pulling
	me.must(204, "DELETE", path, "")
	me.must(404, "GET", path, "")
	<-s.pulling // the import was ended
}

// What a registry has is downloaded as an archive, whose checksums are known from then
// on.
func TestDownload(t *testing.T) {
	h, s := newAPI(t)
	me := user{t, h, "mine", openstack.Reader}
	id := fmt.Sprint(me.must(200, "GET", "/v2/images?name=busybox", "")["images"].([]any)[0].(map[string]any)["id"])
	if status, _ := me.do("GET", "/v2/images/"+id+"/file", "", ""); status != 503 {
		t.Errorf("without its layers: %d", status)
	}
	var err error
	if s.store, err = images.Open(images.Config{Dir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	s.source = launchertest.Image(t, v1.Config{Cmd: []string{"/run"}}, "run")
	img, err := s.store.Resolve(t.Context(), s.source, images.ResolveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s.ready[0].Digest = img.Digest
	if x := me.must(200, "GET", "/v2/images/"+id, ""); x["checksum"] != nil || x["os_hash_value"] != nil {
		t.Errorf("before: %v", x)
	}
	_, answer := me.do("GET", "/v2/images/"+id+"/file", "", "")
	data, _ := answer["raw"].(string)
	sum, hash := md5.Sum([]byte(data)), sha512.Sum512([]byte(data)) //nolint:gosec // as above
	x := me.must(200, "GET", "/v2/images/"+id, "")
	if x["checksum"] != hex.EncodeToString(sum[:]) || x["os_hash_value"] != hex.EncodeToString(hash[:]) || x["size"] != float64(len(data)) || len(data) < 1024 {
		t.Errorf("after %d bytes: %v", len(data), x)
	}
	s.ready[0].Digest = image("x", 5).Digest
	if x := me.must(200, "GET", "/v2/images/"+id, ""); x["checksum"] != nil {
		t.Errorf("of another image: %v", x)
	}
}
