//go:build guest

package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// What is shown can be read by programs, in the forms that the openstack client
// has.
func TestFormats(t *testing.T) {
	t.Parallel()
	s := newState(t)
	id := strings.TrimSpace(s.run("boot", "--detach", "--name", "shown", "--flavor", "m1.nano", busybox, "sh", "-c", "exec sleep 1000").ok().stdout)

	s.run("server", "list", "-f", "value", "-c", "Name", "-c", "Status").ok().says("shown ACTIVE\n")
	table := s.run("server", "list").ok().stdout
	if !strings.HasPrefix(table, "+--") || !strings.Contains(table, "| shown ") {
		t.Errorf("table:\n%s", table)
	}
	for _, columns := range [][]string{nil, {"Name", "Status"}} {
		args := []string{"server", "list"}
		for _, c := range columns {
			args = append(args, "-c", c)
		}
		var fromJSON, fromYAML []map[string]any
		readJSON(t, s.run(append(args, "-f", "json")...).ok().stdout, &fromJSON)
		if err := yaml.Unmarshal([]byte(s.run(append(args, "-f", "yaml")...).ok().stdout), &fromYAML); err != nil {
			t.Error(err)
		}
		for _, list := range [][]map[string]any{fromJSON, fromYAML} {
			if len(list) != 1 || list[0]["Name"] != "shown" || list[0]["Status"] != "ACTIVE" {
				t.Fatalf("servers: %v", list)
			}
			if columns != nil && len(list[0]) != len(columns) {
				t.Errorf("columns %v, want %v", list[0], columns)
			}
			if columns == nil && list[0]["ID"] != id {
				t.Errorf("columns %v", list[0])
			}
		}
	}

	var srv map[string]any
	readJSON(t, s.run("server", "show", "shown", "-f", "json").ok().stdout, &srv)
	for field, want := range map[string]any{
		"id": id, "name": "shown", "status": "ACTIVE", "OS-EXT-STS:vm_state": "active", "OS-EXT-STS:task_state": nil,
		"flavor": "m1.nano", "vcpus": 1.0, "root_mode": "virtiofs", "kernel": testKernel, "exit_code": nil, "fault": nil,
	} {
		if got, ok := srv[field]; !ok || got != want {
			t.Errorf("server show: %s is %v, want %v", field, got, want)
		}
	}
	if ms, _ := srv["boot_ms"].(float64); ms <= 0 {
		t.Errorf("server show: boot_ms is %v", srv["boot_ms"])
	}

	var list []map[string]any
	readJSON(t, s.run("image", "list", "-f", "json").ok().stdout, &list)
	for _, column := range []string{"ID", "Name", "Digest", "Size"} {
		if len(list) != 1 || list[0][column] == nil {
			t.Fatalf("image list: no %s in %v", column, list)
		}
	}
	var img map[string]any
	readJSON(t, s.run("image", "show", list[0]["ID"].(string), "-f", "json").ok().stdout, &img)
	if img["digest"] != list[0]["Digest"] || img["command"] != "sh" || img["layers"] != 1.0 {
		t.Errorf("image show: %v", img)
	}
	readJSON(t, s.run("kernel", "list", "-f", "json").ok().stdout, &list)
	if len(list) != 1 || list[0]["Name"] != testKernel || list[0]["Default"] != true {
		t.Errorf("kernel list: %v", list)
	}

	// What the doctor says will be used is what the server was given.
	readJSON(t, s.run("host", "doctor", "-f", "json").ok().stdout, &list)
	found := map[string]string{}
	for _, row := range list {
		found[row["Item"].(string)] = row["Detail"].(string)
	}
	for _, item := range []string{"privileges", "libvirt", "qemu", "virtiofsd", "overlayfs", "erofs", "guest kernel", "kvm", "engine", "state directory"} {
		if found[item] == "" {
			t.Errorf("the doctor says nothing of %s: %v", item, found)
		}
	}
	accel := found["uses: accelerator"]
	if !slices.Contains([]string{"kvm", "tcg"}, accel) || srv["accelerator"] != accel {
		t.Errorf("the accelerator is %v, the doctor says %q", srv["accelerator"], accel)
	}
}

func readJSON(t *testing.T, s string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(s), v); err != nil {
		t.Fatalf("%v in %s", err, tail(s))
	}
}

// Where nothing is, the formats say so in their own way.
func TestFormatsOfNothing(t *testing.T) {
	t.Parallel()
	s := newState(t)
	for format, want := range map[string]string{"json": "[]\n", "yaml": "[]\n", "value": ""} {
		s.run("server", "list", "-f", format).ok().says(want)
	}
}
