package dataplane

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// listening is TCP's state LISTEN.
const listening = 10

// holder names the process that has an endpoint's port.
func holder(e endpoint) string {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		for _, s := range sockets(e.protocol, family) {
			if s.ID.SourcePort != e.port || e.protocol == "tcp" && s.State != listening {
				continue
			}
			if name := ownerOf(s.INode); name != "" {
				return name
			}
		}
	}
	return "another process"
}

func sockets(protocol string, family uint8) []*netlink.Socket {
	if protocol == "udp" {
		all, _ := netlink.SocketDiagUDP(family)
		return all
	}
	all, _ := netlink.SocketDiagTCP(family)
	return all
}

// ownerOf finds the process that has a socket open.
func ownerOf(inode uint32) string {
	want := fmt.Sprintf("socket:[%d]", inode)
	files, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, f := range files {
		if link, err := os.Readlink(f); err != nil || link != want {
			continue
		}
		process := filepath.Dir(filepath.Dir(f))
		name, _ := os.ReadFile(filepath.Join(process, "comm"))
		return fmt.Sprintf("%s (process %s)", strings.TrimSpace(string(name)), filepath.Base(process))
	}
	return ""
}
