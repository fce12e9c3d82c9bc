// Package traces finds what servers have left on a host, so that tests can tell that
// it is nothing.
package traces

import (
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
)

// Of lists what servers of a state directory have on the host: mounts, loop
// devices, processes, interfaces, directories, libvirt's logs and half-made files.
func Of(dir string) (found []string, err error) {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return nil, err
	}
	for _, m := range mounts {
		// The state directory may be a mount point itself.
		if m.Mountpoint != dir {
			found = append(found, "mount "+m.Mountpoint)
		}
	}
	loops, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	for _, name := range loops {
		file, err := os.ReadFile(name) // fails when the device has gone meanwhile
		if err == nil && strings.HasPrefix(string(file), dir+"/") {
			found = append(found, "loop device of "+strings.TrimSpace(string(file)))
		}
	}
	for pid, args := range Processes() {
		if name := filepath.Base(args[0]); strings.HasPrefix(name, "qemu") || name == "virtiofsd" || name == "passt" {
			if slices.ContainsFunc(args, func(a string) bool { return strings.Contains(a, dir+"/") }) {
				found = append(found, fmt.Sprintf("process %d %s", pid, name))
			}
		}
	}
	for _, sub := range []string{"servers", "libvirt/log/qemu", "rootfs/tmp", "images/tmp", "images/blobs/tmp"} {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil && !os.IsNotExist(err) {
			return nil, err
		}
		for _, e := range entries {
			found = append(found, "file "+sub+"/"+e.Name())
		}
	}
	for _, pattern := range []string{"libvirt/run/qemu/*.xml*", "libvirt/run/qemu/*-*.pid", "libvirt/lib/qemu/domain-*"} {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			found = append(found, "file "+strings.TrimPrefix(name, dir+"/"))
		}
	}
	return append(found, networks(dir)...), nil
}

// networks lists the interfaces and the tables of nftables of a state directory.
func networks(dir string) (found []string) {
	h := fnv.New32a()
	_, _ = h.Write([]byte(dir))
	identity := fmt.Sprintf("slipway-%08x", h.Sum32())
	aliases, _ := filepath.Glob("/sys/class/net/*/ifalias")
	for _, name := range aliases {
		if alias, err := os.ReadFile(name); err == nil && strings.TrimSpace(string(alias)) == identity {
			found = append(found, "interface "+filepath.Base(filepath.Dir(name)))
		}
	}
	tables, err := exec.CommandContext(context.Background(), "nft", "list", "tables").Output()
	if err != nil {
		return append(found, "whatever nft could not list: "+err.Error())
	}
	for table := range strings.Lines(string(tables)) {
		if strings.HasSuffix(strings.TrimSpace(table), identity) {
			found = append(found, strings.TrimSpace(table))
		}
	}
	return found
}

// Processes returns the arguments of all processes, by pid.
func Processes() map[int][]string {
	all := map[int][]string{}
	lists, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range lists {
		b, err := os.ReadFile(name)
		if err != nil || len(b) == 0 {
			continue // ended, or a thread of the kernel's
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name))); err == nil {
			all[pid] = strings.Split(string(bytes.TrimRight(b, "\x00")), "\x00")
		}
	}
	return all
}
