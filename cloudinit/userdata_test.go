package cloudinit

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

func zip(t testing.TB, s string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// mimeMessage has a part of each kind.
const mimeMessage = `Content-Type: multipart/mixed; boundary="b"
MIME-Version: 1.0

--b
Content-Type: text/cloud-config; charset="utf-8"
Content-Disposition: attachment; filename="one.yaml"

#cloud-config
runcmd: [echo one]
hostname: first
--b
Content-Type: text/cloud-config
Merge-Type: list(append)+dict(recurse_array)+str()

runcmd: [echo two]
hostname: second
--b
Content-Type: text/x-shellscript
Content-Transfer-Encoding: base64
Content-Disposition: attachment; filename="run.sh"

IyEvYmluL3NoCmVjaG8gaGkK
--b
Content-Type: text/plain

#cloud-boothook
#!/bin/sh
echo early
--b
Content-Type: multipart/mixed; boundary="c"

--c
Content-Type: text/x-shellscript

#!/bin/sh
nested
--c--
--b--
`

func TestParseUserData(t *testing.T) {
	tests := []struct {
		name, user, vendor string
		want               UserData
	}{
		{name: "nothing"},
		{name: "script", user: "#!/bin/sh\r\necho hi\r\n", want: UserData{
			Scripts: []Script{{"part-001", []byte("#!/bin/sh\necho hi\n")}}}},
		{name: "compressed", user: string(zip(t, "#cloud-config\nhostname: web\n")), want: UserData{
			Config: Config{Hostname: "web"}}},
		{name: "archive", user: "#cloud-config-archive\n- |\n  #!/bin/sh\n  a\n- {type: text/cloud-config, content: 'fqdn: web.example'}\n", want: UserData{
			Config:  Config{FQDN: "web.example"},
			Scripts: []Script{{"part-001", []byte("#!/bin/sh\na\n")}}}},
		{name: "MIME", user: mimeMessage, want: UserData{
			Config:    Config{Hostname: "first", RunCmd: []Command{{Shell: "echo one"}, {Shell: "echo two"}}},
			Scripts:   []Script{{"run.sh", []byte("#!/bin/sh\necho hi\n")}, {"part-005", []byte("#!/bin/sh\nnested")}},
			Boothooks: []Script{{"part-004", []byte("#!/bin/sh\necho early")}}}},
		{name: "vendor", user: "#cloud-config\nruncmd: [a]\nntp: {servers: [x]}\n", vendor: "#cloud-config\nruncmd: [b]\nntp: {pools: [p]}\ntimezone: UTC\n", want: UserData{
			Config: Config{RunCmd: []Command{{Shell: "a"}}, Timezone: "UTC", NTP: NTP{Enabled: true, Servers: []string{"x"}, Pools: []string{"p"}}}}},
		{name: "include", user: "#include\nhttp://example/x\n", want: UserData{
			Warnings: []string{"user-data: part-001: #include is refused: a server is told everything at once, nothing is fetched; put the text itself here"}}},
		{name: "text", vendor: "hello", want: UserData{
			Warnings: []string{"vendor-data: part-001: not user-data: it begins with none of #cloud-config, #!, #cloud-boothook, #cloud-config-archive, and is no MIME message"}}},
		{name: "unknown keys", user: "#cloud-config\npackages: [x]\nhostname: -x\n", vendor: "#cloud-config\nsnap: 1\n", want: UserData{
			Warnings: []string{`user-data: hostname: "-x" is no host name`, "user-data: packages: not honoured", "vendor-data: snap: not honoured"}}},
		{name: "no map", user: "#cloud-config\n- a\n", want: UserData{
			Warnings: []string{"user-data: part-001: a cloud-config is a map of keys and values"}}},
		{name: "cycle", user: "#cloud-config\na: &a [*a]\n", want: UserData{
			Warnings: []string{"user-data: part-001: line 2: the anchor a contains itself"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := ParseUserData([]byte(tt.user), []byte(tt.vendor))
			tt.want.Config.ExpirePasswords = true
			if !reflect.DeepEqual(*got, tt.want) {
				t.Errorf("%+v\nwant %+v", *got, tt.want)
			}
		})
	}
}

func TestConfig(t *testing.T) {
	coded := base64.StdEncoding.EncodeToString(zip(t, "zipped"))
	got := ParseUserData([]byte(`#cloud-config
prefer_fqdn_over_hostname: yes
manage_etc_hosts: localhost
bootcmd:
- [ls, -l, 1]
- null
- echo $HOME
write_files:
- {path: /a, content: text, permissions: '0640', owner: 'www:www', append: true}
- {path: /b, content: !!binary aGVsbG8=, permissions: 0755}
- {path: /c, encoding: gz+b64, content: `+coded+`, defer: true}
- {path: relative}
- {path: /d, permissions: 'rwx'}
- {path: /e, encoding: rot13}
- {path: /f, permissions: '4755'}
mount_default_fields: [null, null, ext4]
mounts:
- [vdb, /data]
- [tmpfs, /scratch, tmpfs, 'size=1M', '0', '0']
- [x, y]
swap: {filename: /swap, size: 64M, maxsize: 1G}
groups:
- admins: [root, ann]
- empty
users:
- default
- {name: ann, uid: 1500, groups: 'a, b', sudo: 'ALL=(ALL) NOPASSWD:ALL', lock_passwd: false, plain_text_passwd: s3cret, ssh_authorized_keys: [k1], snapuser: x}
- bob
- {name: 'b:ad'}
ssh_authorized_keys: [k0]
chpasswd: {expire: no, list: "ann:pw\nbob:$6$salt$hash\ncid:RANDOM", users: [{name: dan, password: x, type: text}]}
timezone: ../etc/passwd
ca-certs: {remove-defaults: true, trusted: ["-----BEGIN CERTIFICATE-----\nx"]}
phone_home: {url: 'http://h/$INSTANCE_ID', tries: 3}
power_state: {mode: reboot, delay: '+5', timeout: 7, condition: [test, -e, /x]}
final_message: up $uptime
`), nil)
	want := Config{
		PreferFQDN: true, ManageEtcHosts: true,
		BootCmd: []Command{{Args: []string{"ls", "-l", "1"}}, {Shell: "echo $HOME"}},
		WriteFiles: []WriteFile{
			{Path: "/a", Content: []byte("text"), Owner: "www:www", Mode: 0o640, Append: true},
			{Path: "/b", Content: []byte("hello"), Owner: "root:root", Mode: 0o755},
			{Path: "/c", Content: []byte("zipped"), Owner: "root:root", Mode: 0o644, Defer: true},
			{Path: "/f", Content: []byte{}, Owner: "root:root", Mode: 0o755 | 1<<23},
		},
		Mounts: []MountEntry{
			{"vdb", "/data", "ext4", "defaults,nofail", "0", "2"},
			{"tmpfs", "/scratch", "tmpfs", "size=1M", "0", "0"},
		},
		Swap:   &Swap{"/swap", 64 << 20, 1 << 30},
		Groups: []Group{{"admins", []string{"root", "ann"}}, {"empty", nil}},
		Users: []User{
			{Name: "ann", UID: "1500", Groups: []string{"a", "b"}, Sudo: []string{"ALL=(ALL) NOPASSWD:ALL"}, PlainPassword: "s3cret", AuthorizedKeys: []string{"k1"}},
			{Name: "bob", LockPassword: true},
		},
		AuthorizedKeys: []string{"k0"},
		Passwords: []Password{
			{User: "dan", Value: "x"}, {User: "ann", Value: "pw"}, {User: "bob", Value: "$6$salt$hash", Hashed: true},
			{User: "cid", Value: "RANDOM", Random: true},
		},
		CACerts:      CACerts{true, []string{"-----BEGIN CERTIFICATE-----\nx"}},
		PhoneHome:    &PhoneHome{"http://h/$INSTANCE_ID", []string{"all"}, 3},
		PowerState:   &PowerState{Mode: "reboot", Delay: 5 * time.Minute, Timeout: 7 * time.Second, Condition: Command{Args: []string{"test", "-e", "/x"}}},
		FinalMessage: "up $uptime",
	}
	if !reflect.DeepEqual(got.Config, want) {
		t.Errorf("%+v\nwant %+v", got.Config, want)
	}
	warnings := strings.Join(got.Warnings, "\n")
	for _, w := range []string{
		`mounts: entry 3: mount point "y" is not absolute`, `timezone: "../etc/passwd" is no time zone`,
		`users: entry 2: user ann: snapuser is not honoured`, `users: entry 4: "b:ad" is no user name`,
		`write_files: entry 4: path "relative" is not absolute`, `write_files: entry 5: /d: permissions "rwx" are not octal digits`,
		`write_files: entry 6: /e: content: unknown encoding "rot13"`,
	} {
		if !strings.Contains(warnings, w) {
			t.Errorf("no warning %q", w)
		}
	}
	if len(got.Warnings) != 7 {
		t.Errorf("warnings:\n%s", warnings)
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	got := ParseUserData([]byte("#cloud-config\npassword: s3cret\nusers: [{name: ann, plain_text_passwd: s3cret}]\n"), nil)
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if s := fmt.Sprintf(format, got); strings.Contains(s, "s3cret") {
			t.Errorf("%s: %s", format, s)
		}
	}
}

// TestBounds has user-data that would take everything if it were let.
func TestBounds(t *testing.T) {
	bomb := "#cloud-config\na: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for i := range 12 {
		bomb += string(rune('b'+i)) + ": &" + string(rune('b'+i)) + " [" + strings.TrimSuffix(strings.Repeat("*"+string(rune('a'+i))+",", 10), ",") + "]\n"
	}
	nested := "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n"
	for range 50 {
		nested += "--b\nContent-Type: multipart/mixed; boundary=b\n\n"
	}
	for name, data := range map[string][]byte{
		"aliases": []byte(bomb),
		"gzip":    zip(t, strings.Repeat("x", maxUserData+1)),
		"parts":   []byte("MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n" + strings.Repeat("--b\n\n#!/bin/sh\n", maxParts+10)),
		"nesting": []byte(nested),
		"depth":   []byte("#cloud-config\na: " + strings.Repeat("[", 20000)),
		"nodes":   []byte("#cloud-config\na: [" + strings.Repeat("1,", maxNodes) + "]\n"),
	} {
		t.Run(name, func(t *testing.T) {
			u := ParseUserData(data, nil)
			if len(u.Warnings) == 0 {
				t.Error("no warning")
			}
			if len(u.Scripts) > maxParts {
				t.Errorf("%d scripts", len(u.Scripts))
			}
		})
	}
}

func FuzzParseUserData(f *testing.F) {
	f.Add([]byte("#cloud-config\nusers: [default, {name: a, groups: {b: c}}]\nmounts: [[a]]\n"), []byte("#!/bin/sh"))
	f.Add([]byte(mimeMessage), []byte("#cloud-config\nmerge_how: list(append)\nx: {<<: {a: 1}}\n"))
	f.Add(zip(f, "#cloud-config-archive\n- {content: !!binary aGk=}\n"), []byte{})
	f.Fuzz(func(t *testing.T, user, vendor []byte) {
		ParseUserData(user, vendor)
	})
}
