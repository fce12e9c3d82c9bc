//go:build guest

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipway-vm/slipway/cloudinit"
	"github.com/slipway-vm/slipway/cloudinit/seed"
)

// TestSeedDisk has a server take its user-data from disks.
func TestSeedDisk(t *testing.T) {
	t.Parallel()
	s := newState(t)
	told := &cloudinit.Seed{MetaData: cloudinit.MetaData{InstanceID: "i-1"}, UserData: []byte(`#cloud-config
mounts: [[LABEL=cidata, /seed, auto, ro]]
runcmd: [[cp, /seed/meta-data, /told], "echo ran >>/told"]
packages: [vim]
`)}
	disk := filepath.Join(t.TempDir(), "disk")
	write := func(kind seed.FileSystem, label string) {
		t.Helper()
		if err := seed.WriteDisk(disk, kind, label, told); err != nil {
			t.Fatal(err)
		}
	}
	write(seed.ISO9660, cloudinit.NoCloudLabel)
	s.run("boot", "--name", "iso", "--seed-disk", disk, busybox, "cat", "/told").ok().says("instance-id: i-1\nran\n")
	warned := s.run("server", "events", "--since", "1h", "--until", "0s", "--filter", "event=warning").ok().stdout
	if !strings.Contains(warned, "packages: not honoured") {
		t.Errorf("no warning:\n%s", warned)
	}
	write(seed.FAT, cloudinit.ConfigDriveLabel)
	s.run("boot", "--seed-disk", disk, busybox, "tail", "-n", "1", "/told").ok().says("ran\n")

	s.run("boot", "--seed-disk", disk, "--config-drive", busybox, "true").exits(125).complains("leave out")
	if err := os.WriteFile(disk, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	s.run("boot", "--seed-disk", disk, busybox, "true").exits(125).complains("neither of the labels")
}

// TestConfigDrive has a server find its config drive, and boot again once as its
// user-data says.
func TestConfigDrive(t *testing.T) {
	t.Parallel()
	s := newState(t)
	file := userData(t, `#cloud-config
mounts: [[LABEL=config-2, /config, iso9660, ro]]
power_state: {mode: reboot, condition: test -e /config/openstack}
`)
	run := s.run("boot", "--name", "web", "--config-drive", "--user-data", file, busybox, "sh", "-c",
		"if mkdir /first 2>/dev/null; then trap exit TERM; while :; do sleep 1; done; fi; cat /config/openstack/latest/meta_data.json").ok()
	var meta struct {
		UUID, Name, Hostname string
		RandomSeed           []byte `json:"random_seed"`
	}
	if err := json.Unmarshal([]byte(run.stdout), &meta); err != nil {
		t.Fatalf("%v\n%s", err, run.stdout)
	}
	if meta.UUID != s.show("web", "id") || meta.Name != "web" || meta.Hostname != "web" || len(meta.RandomSeed) != 512 {
		t.Errorf("%+v", meta)
	}
}
