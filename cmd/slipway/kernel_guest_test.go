//go:build guest

package main

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
)

// A server runs the kernel that was the default when it was started, and it is
// known which one that is.
func TestKernels(t *testing.T) {
	t.Parallel()
	s := newState(t)
	minimal, stock := os.Getenv("SLIPWAY_TEST_KERNEL"), os.Getenv("SLIPWAY_TEST_KERNEL_DEB")
	if minimal == "" || stock == "" {
		t.Fatal("SLIPWAY_TEST_KERNEL and SLIPWAY_TEST_KERNEL_DEB must name a minimal and a stock kernel: run `make test`")
	}
	s.run("kernel", "import", stock).ok()
	imported := strings.Fields(s.run("kernel", "import", minimal).ok().stdout)
	if again := strings.Fields(s.run("kernel", "import", minimal).ok().stdout); !slices.Equal(again, imported) {
		t.Errorf("imported as %q, and then as %q", imported, again)
	}
	if got := defaultKernel(s); got != "minimal" {
		t.Errorf("the default is %q, want minimal", got)
	}

	const hold = "uname -r; exec sleep 1000"
	s.run("boot", "--detach", "--name", "one", "--stop-timeout", "1s", busybox, "sh", "-c", hold).ok()
	s.run("boot", "--rm", "--kernel", "stock", busybox, "sh", "-c", "uname -r; exit 3").exits(3).says(release(s, "stock") + "\n")
	s.run("server", "list", "--kernel-outdated", "-f", "value", "-c", "Name").ok().says("")

	s.run("kernel", "set-default", "stock").ok()
	if got := defaultKernel(s); got != "stock" {
		t.Errorf("the default is %q, want stock", got)
	}
	s.run("server", "list", "--kernel-outdated", "-f", "value", "-c", "Name").ok().says("one\n")
	s.run("server", "show", "-f", "value", "-c", "kernel_digest", "one").ok().says(imported[2] + "\n")
	s.run("server", "stop", "one").ok()
	s.run("server", "start", "one").ok()
	s.run("server", "list", "--kernel-outdated", "-f", "value", "-c", "Name").ok().says("")
	follow := s.start("server", "logs", "--follow", "one")
	follow.expect(release(s, "minimal") + "\n" + release(s, "stock") + "\n")
	s.run("server", "delete", "one").ok()
	follow.wait()
	s.run("boot", "--kernel", "nosuch", busybox, "true").exits(codeSlipway).complains("nosuch", "slipway kernel build")
}

// A configuration's kernel goes before the one that was chosen.
func TestConfiguredKernel(t *testing.T) {
	t.Parallel()
	s := newState(t, "SLIPWAY_BOOT_KERNEL=stock")
	s.run("kernel", "import", os.Getenv("SLIPWAY_TEST_KERNEL_DEB")).ok()
	if got := defaultKernel(s); got != "stock" {
		t.Errorf("the default is %q, want stock", got)
	}
	s.run("kernel", "set-default", "stock").exits(1).complains("boot.kernel")
}

type kernelRow struct {
	Name, Version string
	Default       bool
}

func kernels(s *state) []kernelRow {
	s.t.Helper()
	var list []kernelRow
	if err := json.Unmarshal([]byte(s.run("kernel", "list", "-f", "json").ok().stdout), &list); err != nil {
		s.t.Fatal(err)
	}
	return list
}

func defaultKernel(s *state) string {
	s.t.Helper()
	for _, k := range kernels(s) {
		if k.Default {
			return k.Name
		}
	}
	return ""
}

func release(s *state, name string) string {
	s.t.Helper()
	for _, k := range kernels(s) {
		if k.Name == name {
			return k.Version
		}
	}
	s.t.Fatalf("no kernel %s", name)
	return ""
}

// containerWork is what container engines, and those who debug them, ask of a
// kernel; each line is one thing. It runs with the programs of this host.
const containerWork = `
unshare --user --map-root-user --pid --fork --net --uts --ipc --cgroup --time --mount-proc true
ip link add br0 type bridge vlan_filtering 1
ip link add veth0 type veth peer name veth1
ip link set veth0 master br0
ip link set br0 up
ip link add dummy7 type dummy
ip link add mac0 link dummy7 type macvlan mode bridge
ip link add vlan0 link dummy7 type vlan id 7
ip link add vx0 type vxlan id 42 dstport 4789
ip tuntap add tun0 mode tun
ip rule add fwmark 1 table 100
tc qdisc add dev dummy7 root tbf rate 1mbit burst 10k latency 1ms
nft add table inet f
nft add chain inet f in '{ type filter hook input priority 0; policy accept; }'
nft add rule inet f in ct state established,related counter accept
nft add rule inet f in tcp dport '{ 80, 443 }' limit rate 10/second log accept
nft add rule inet f in fib daddr type local meta l4proto udp reject
nft add table ip n
nft add chain ip n post '{ type nat hook postrouting priority 100; }'
nft add rule ip n post ip saddr 172.17.0.0/16 masquerade
nft add chain ip n pre '{ type nat hook prerouting priority -100; }'
nft add rule ip n pre tcp dport 8080 dnat to 172.17.0.2:80
nft add table bridge b
nft add chain bridge b f '{ type filter hook forward priority 0; }'
iptables-nft -t nat -A POSTROUTING -s 172.18.0.0/16 ! -o br0 -j MASQUERADE
iptables-nft -t nat -A PREROUTING -m addrtype --dst-type LOCAL -p tcp --dport 81 -j DNAT --to-destination 172.18.0.2:80
iptables-nft -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -m comment --comment x -j ACCEPT
iptables-legacy -t nat -A POSTROUTING -s 172.19.0.0/16 ! -o br0 -j MASQUERADE
iptables-legacy -t mangle -A PREROUTING -j MARK --set-mark 1
iptables-legacy -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
iptables-legacy -t raw -A PREROUTING -m multiport -p tcp --dports 1,2 -j DROP
ip6tables-legacy -t nat -A POSTROUTING -j MASQUERADE
test -e /proc/sys/net/bridge/bridge-nf-call-iptables
mkdir -p /t && mount -t tmpfs none /t && mkdir /t/l /t/u /t/w /t/m
mount -t overlay -o lowerdir=/t/l,upperdir=/t/u,workdir=/t/w none /t/m
touch /t/f && setfattr -n security.capability -v 0x0100000200000000000000000000000000000000 /t/f
setfattr -n system.posix_acl_access -v 0x0200000001000600ffffffff020004000100000004000400ffffffff10000400ffffffff20000400ffffffff /t/f
truncate -s 16M /t/disk && mkfs.ext4 -q /t/disk && mkdir /t/e && mount -o loop /t/disk /t/e && touch /t/e/f && umount /t/e
losetup -f --show /t/disk && losetup -d /dev/loop0
mount -t binfmt_misc none /t/l
grep -qw autofs /proc/filesystems && test -c /dev/autofs
test "$(cat /sys/class/dmi/id/sys_vendor)" = QEMU
test -c /dev/fuse
test -c /dev/net/tun
test -c /dev/loop-control
test -c /dev/rtc0
test "$(cat /proc/sys/net/core/bpf_jit_enable)" = 1
test "$(cat /proc/sys/kernel/io_uring_disabled 2>/dev/null || echo 0)" = 0
test -d /proc/sys/fs/inotify
test -d /proc/sys/fs/fanotify
test -d /proc/sys/fs/mqueue
test -e /proc/keys
grep -q VSOCK /proc/net/protocols
ipcmk --shmem 4096
mount -t cgroup2 none /t/w && for c in cpuset cpu io memory hugetlb pids; do grep -qw $c /t/w/cgroup.controllers; done
mkdir /t/w/x && test -e /t/w/x/cgroup.freeze
zcat /proc/config.gz | grep -q CONFIG_PVH=y
`

// The minimal kernel has what containers within a server need.
func TestContainerWork(t *testing.T) {
	t.Parallel()
	s := newState(t)
	var script strings.Builder
	script.WriteString("mkdir -p /run\n")
	for line := range strings.Lines(strings.TrimSpace(containerWork)) {
		line = strings.TrimSpace(line)
		script.WriteString("( " + line + " ) >/out 2>&1 || { echo '" + strings.ReplaceAll(line, "'", `'\''`) + "'; cat /out; }\n")
	}
	s.run("boot", "--rm", "--privileged", "-v", "/usr:/usr:ro", "-v", "/usr/lib:/lib:ro", "-v", "/usr/lib64:/lib64:ro", "-v", "/usr/bin:/bin:ro",
		"-v", "/etc/alternatives:/etc/alternatives:ro", "-e", "PATH=/usr/sbin:/usr/bin",
		busybox, "/usr/bin/bash", "-c", script.String()).ok().says("")
}
