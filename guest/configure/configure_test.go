package configure

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-crypt/crypt/algorithm/shacrypt"

	"github.com/slipway-vm/slipway/cloudinit"
)

// image is a root, and what was done to it.
type image struct {
	System
	t       *testing.T
	ran     []string
	mounted []string
	reports []string
	name    string
}

func newImage(t *testing.T, files map[string]string) *image {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("files get owners: run as root")
	}
	i := &image{t: t}
	i.System = System{
		Root: t.TempDir(), Meta: cloudinit.MetaData{InstanceID: "i-1", PublicKeys: []string{"server key"}}, Memory: 64 << 20,
		Run: func(_ context.Context, args []string) error {
			i.ran = append(i.ran, strings.Join(args, " "))
			if slices.Contains(args, "fail") {
				return errors.New("exit status 1")
			}
			return nil
		},
		Mount: func(device, target, fsType, options string) error {
			i.mounted = append(i.mounted, strings.Join([]string{device, strings.TrimPrefix(target, i.Root), fsType, options}, " "))
			return nil
		},
		Devices: func() ([]Device, error) {
			return []Device{{Name: "x", Path: "/dev/x", FSType: "ext4", Label: "a", UUID: "0a-1"}, {Name: "y", Path: "/dev/y", PartLabel: "p"}}, nil
		},
		SetHostname: func(name string) error { i.name = name; return nil },
		SwapOn: func(path string) error {
			i.mounted = append(i.mounted, "swap "+strings.TrimPrefix(path, i.Root))
			return nil
		},
		Report: func(m string) { i.reports = append(i.reports, m) },
	}
	for name, data := range files {
		if err := i.writeFile(name, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return i
}

func (i *image) apply(userData string) {
	i.t.Helper()
	u := cloudinit.ParseUserData([]byte(userData), nil)
	if len(u.Warnings) > 0 {
		i.t.Fatalf("user-data: %q", u.Warnings)
	}
	i.Apply(i.t.Context(), u)
}

func (i *image) read(name string) string {
	i.t.Helper()
	data, err := os.ReadFile(i.path(name))
	if err != nil {
		i.t.Error(err)
	}
	return string(data)
}

func (i *image) mode(name string, want fs.FileMode) {
	i.t.Helper()
	info, err := os.Lstat(i.path(name))
	if err != nil || info.Mode() != want {
		i.t.Errorf("%s: %v, err %v, want %v", name, info.Mode(), err, want)
	}
}

func (i *image) reported(want ...string) {
	i.t.Helper()
	if !slices.Equal(i.reports, want) {
		i.t.Errorf("reports:\n%s\nwant:\n%s", strings.Join(i.reports, "\n"), strings.Join(want, "\n"))
	}
}

var base = map[string]string{
	"/etc/passwd": "root:x:0:0:root:/root:/bin/sh\nwww:x:33:33::/var/www:/bin/false\n",
	"/etc/group":  "root:x:0:\nwww:x:33:\naudio:x:29:www\n",
	"/etc/shadow": "root:*:19000:0:99999:7:::\n",
	"/bin/bash":   "", "/etc/skel/.profile": "profile",
	"/usr/share/zoneinfo/Europe/Paris":   "tz",
	"/etc/ssl/certs/ca-certificates.crt": "old\n",
}

func TestOrder(t *testing.T) {
	i := newImage(t, base)
	i.apply(`#cloud-config-archive
- type: text/cloud-config
  content: |
    bootcmd: [[boot, "1"], echo $X]
    runcmd: [late, [fail]]
    mounts: [[tmpfs, /scratch, tmpfs, size=1M], [none, none], [/dev/x, /data], [LABEL=b, /b], [LABEL=a, /a], [UUID=0A-1, /u], [y, /y, xfs], [y, /z], [PARTLABEL=p, none, swap]]
    swap: {filename: /swap, size: 1M}
- "#cloud-boothook\n#!/bin/sh\n"
- "#!/bin/sh\necho\n"
`)
	dir := i.instanceDir()
	first := []string{"/" + "var/lib/cloud/instances/i-1/boothooks/part-002", "boot 1", "/bin/sh -c echo $X",
		"/bin/sh -c late", "fail", dir + "/scripts/part-003"}
	if !slices.Equal(i.ran, first) {
		t.Errorf("ran %q\nwant %q", i.ran, first)
	}
	mounts := []string{"tmpfs /scratch tmpfs size=1M", "/dev/x /data ext4 defaults,nofail",
		"/dev/x /a ext4 defaults,nofail", "/dev/x /u ext4 defaults,nofail", "/dev/y /y xfs defaults,nofail", "swap /dev/y", "swap /swap"}
	if !slices.Equal(i.mounted, mounts) {
		t.Errorf("mounted %q\nwant %q", i.mounted, mounts)
	}
	i.mode(dir+"/scripts/part-003", 0o700)
	i.reported("mounts: LABEL=b on /b: the server has no such device",
		"mounts: y on /z: no file system that is known: name its type", "runcmd: command 2: exit status 1")

	// The next boot does what belongs to a boot.
	i.ran, i.mounted, i.reports = nil, nil, nil
	i.apply("#cloud-config\nbootcmd: [again]\nruncmd: [never]\nwrite_files: [{path: /never}]\n")
	if want := []string{"/bin/sh -c again"}; !slices.Equal(i.ran, want) {
		t.Errorf("second boot ran %q, want %q", i.ran, want)
	}
	if _, err := os.Stat(i.path("/never")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("second boot wrote files: %v", err)
	}
	// A root that has become another instance's is configured anew.
	i.Meta.InstanceID = "i-2"
	i.apply("#cloud-config\nwrite_files: [{path: /now}]\n")
	i.mode("/now", 0o644)
}

func TestHostname(t *testing.T) {
	for _, tt := range []struct{ config, name, hosts string }{
		{"hostname: web", "web", "127.0.1.1\told\n::1\tlocalhost\n"},
		{"hostname: web\nfqdn: www.example.org\nmanage_etc_hosts: true", "web", "::1\tlocalhost\n127.0.1.1\twww.example.org web www\n"},
		{"fqdn: www.example.org\nprefer_fqdn_over_hostname: true\nmanage_etc_hosts: localhost", "www.example.org", "::1\tlocalhost\n127.0.1.1\twww.example.org www\n"},
		{"fqdn: www.example.org", "www", "127.0.1.1\told\n::1\tlocalhost\n"},
		{"hostname: web\npreserve_hostname: true", "", "127.0.1.1\told\n::1\tlocalhost\n"},
	} {
		i := newImage(t, map[string]string{"/etc/hosts": "127.0.1.1\told\n::1\tlocalhost\n"})
		i.apply("#cloud-config\n" + tt.config + "\n")
		if got := i.read("/etc/hosts"); i.name != tt.name || got != tt.hosts {
			t.Errorf("%s: name %q, hosts %q", tt.config, i.name, got)
		}
		if tt.name != "" && i.read("/etc/hostname") != tt.name+"\n" {
			t.Errorf("%s: /etc/hostname %q", tt.config, i.read("/etc/hostname"))
		}
		i.reported()
	}
}

func TestFiles(t *testing.T) {
	i := newImage(t, base)
	i.apply(`#cloud-config
write_files:
- {path: /a/b, content: one, owner: 'www:audio', permissions: '4750'}
- {path: /a/b, content: ' two', append: true}
- {path: /home/ann/x, owner: ann, defer: true}
- {path: /y, owner: nobody}
users: [{name: ann}]
timezone: Europe/Paris
ca_certs: {trusted: ["-----BEGIN CERTIFICATE-----"]}
ntp: {servers: [a], pools: [b]}
swap: {filename: /swap, size: 1M, maxsize: 512K}
`)
	if got := i.read("/a/b"); got != "one two" {
		t.Errorf("appended: %q", got)
	}
	i.mode("/a/b", 0o644) // the later entry's
	i.mode("/home/ann/x", 0o644)
	if link, err := os.Readlink(i.path("/etc/localtime")); err != nil || link != "/usr/share/zoneinfo/Europe/Paris" {
		t.Errorf("localtime -> %q, err %v", link, err)
	}
	if got := i.read(bundles[0]); got != "old\n-----BEGIN CERTIFICATE-----\n" {
		t.Errorf("bundle: %q", got)
	}
	if got := i.read("/etc/systemd/timesyncd.conf.d/cloud-init.conf"); got != "[Time]\nNTP=a b\n" {
		t.Errorf("time servers: %q", got)
	}
	if got := i.read("/swap"); len(got) != 512<<10 || got[4086:4096] != "SWAPSPACE2" {
		t.Errorf("swap file of %d bytes", len(got))
	}
	i.reported("write_files: /y: unknown user: nobody is not in the image's /etc/passwd")
}

func TestUsers(t *testing.T) {
	i := newImage(t, base)
	i.apply(`#cloud-config
groups: [{admins: [www, nobody]}, empty]
users:
- {name: ann, gecos: Ann, groups: [admins, audio], sudo: 'ALL=(ALL) ALL', plain_text_passwd: s3cret, lock_passwd: false, ssh_authorized_keys: [k1, k1]}
- {name: daemon1, system: true, no_create_home: true, shell: /bin/false, uid: 77, primary_group: svc}
- {name: www, groups: empty}
ssh_authorized_keys: [k0]
chpasswd: {list: ["root:new", "ghost:x"]}
`)
	passwd := base["/etc/passwd"] + "ann:x:1000:1002:Ann:/home/ann:/bin/bash\ndaemon1:x:77:999::/home/daemon1:/bin/false\n"
	if got := i.read("/etc/passwd"); got != passwd {
		t.Errorf("passwd:\n%s\nwant:\n%s", got, passwd)
	}
	group := "root:x:0:\nwww:x:33:\naudio:x:29:www,ann\nadmins:x:1000:www,ann\nempty:x:1001:www\nann:x:1002:\nsvc:x:999:\n"
	if got := i.read("/etc/group"); got != group {
		t.Errorf("group:\n%s\nwant:\n%s", got, group)
	}
	shadow := map[string]string{}
	for line := range strings.Lines(i.read("/etc/shadow")) {
		f := strings.Split(line, ":")
		shadow[f[0]] = f[1]
	}
	for user, password := range map[string]string{"ann": "s3cret", "root": "new"} {
		digest, err := shacrypt.Decode(shadow[user])
		if err != nil || !digest.Match(password) {
			t.Errorf("%s: %q is not the hash of %s: %v", user, shadow[user], password, err)
		}
	}
	if shadow["daemon1"] != "!" {
		t.Errorf("daemon1's password is not locked: %q", shadow["daemon1"])
	}
	if got := i.read("/home/ann/.ssh/authorized_keys"); got != "k1\n" {
		t.Errorf("ann's keys: %q", got)
	}
	if got := i.read("/root/.ssh/authorized_keys"); got != "server key\nk0\n" {
		t.Errorf("root's keys: %q", got)
	}
	i.mode("/home/ann", fs.ModeDir|0o750)
	i.mode("/home/ann/.ssh", fs.ModeDir|0o700)
	i.mode("/home/ann/.profile", 0o644)
	i.mode("/etc/sudoers.d/90-cloud-init-users", 0o440)
	if _, err := os.Stat(filepath.Join(i.Root, "/home/daemon1")); err == nil {
		t.Error("a home that was not to be made")
	}
	i.reported("groups: admins: there is no user nobody", "chpasswd: there is no user ghost")
}
