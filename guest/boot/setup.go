package boot

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/guest/share"
)

// etcDir holds the files that are laid over the root's /etc.
const etcDir = "/run/slipway/etc"

// openFiles is the limit that docker sets; the kernel's own, 1024 and 4096, is
// too low for many images.
const openFiles = 1 << 20

// setUp gives the guest its name, its limits and its loopback.
func (g *guestState) setUp() error {
	if g.spec.Hostname != "" {
		if err := unix.Sethostname([]byte(g.spec.Hostname)); err != nil {
			return fmt.Errorf("set hostname %q: %w", g.spec.Hostname, err)
		}
	}
	if err := limitOpenFiles(); err != nil {
		return err
	}
	if err := setNetwork(g.spec.Interfaces); err != nil {
		return err
	}
	if err := setEntropy(g.spec.Entropy); err != nil {
		return err
	}
	if err := setSysctls(g.spec.Sysctls); err != nil {
		return err
	}
	if err := os.MkdirAll(etcDir, 0o755); err != nil {
		return err
	}
	for name, data := range etcFiles(g.spec) {
		if err := os.WriteFile(filepath.Join(etcDir, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// limitOpenFiles is for processes that are started afterwards.
func limitOpenFiles() error {
	// syscall's Setrlimit tells the runtime, which would else restore in each
	// child the limit that it found.
	limit := syscall.Rlimit{Cur: openFiles, Max: openFiles}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("set the limit of open files: %w", err)
	}
	return nil
}

// etcFiles makes the files that name this server and its neighbours. The
// resolver is left to the image where the seed names none.
func etcFiles(spec *share.Spec) map[string][]byte {
	files := map[string][]byte{}
	var hosts bytes.Buffer
	hosts.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n" +
		"fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
	if spec.Hostname != "" {
		files["hostname"] = []byte(spec.Hostname + "\n")
		short, _, _ := strings.Cut(spec.Hostname, ".")
		names := spec.Hostname
		if short != spec.Hostname {
			names += " " + short
		}
		for _, a := range ownAddresses(spec) {
			fmt.Fprintf(&hosts, "%s\t%s\n", a, names)
		}
	}
	for _, h := range spec.Hosts {
		fmt.Fprintf(&hosts, "%s\t%s\n", h.Address, strings.Join(h.Names, " "))
	}
	files["hosts"] = hosts.Bytes()
	if len(spec.Nameservers) > 0 {
		var resolv bytes.Buffer
		for _, server := range spec.Nameservers {
			fmt.Fprintf(&resolv, "nameserver %s\n", server)
		}
		if len(spec.Search) > 0 {
			fmt.Fprintf(&resolv, "search %s\n", strings.Join(spec.Search, " "))
		}
		if len(spec.DNSOptions) > 0 {
			fmt.Fprintf(&resolv, "options %s\n", strings.Join(spec.DNSOptions, " "))
		}
		files["resolv.conf"] = resolv.Bytes()
	}
	return files
}

// ownAddresses are what the server's name stands for: its addresses on its first
// network, as in containers.
func ownAddresses(spec *share.Spec) []string {
	var own []string
	for _, i := range spec.Interfaces {
		for _, p := range i.Addresses {
			own = append(own, p.Addr().String())
		}
		if own != nil {
			return own
		}
	}
	return []string{"127.0.1.1"}
}
