package share

import (
	"fmt"
	"slices"
	"strings"
)

// Capabilities is a set of the kernel's capabilities, by number.
type Capabilities uint64

// capabilityNames are the kernel's, by number (linux/capability.h).
var capabilityNames = []string{
	"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
	"LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
	"SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
	"SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
	"MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
	"CHECKPOINT_RESTORE",
}

// defaultCapabilities are docker's. The guest's kernel would bear them all,
// but these are what images are made for and tested with: some ask for what
// they may do and behave differently with more.
var defaultCapabilities = []string{
	"CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "NET_BIND_SERVICE",
	"NET_RAW", "SYS_CHROOT", "MKNOD", "AUDIT_WRITE", "SETFCAP",
}

// allCapabilities are those that have names; a kernel may have fewer.
var allCapabilities = Capabilities(1)<<len(capabilityNames) - 1

// Has reports whether the set contains capability n.
func (c Capabilities) Has(n int) bool { return c>>n&1 != 0 }

// Capabilities returns the capabilities that processes may have, by docker's
// rules: CapDrop from the default set and then CapAdd, where ALL in the one
// makes the other the exception.
func (o *Options) Capabilities() (Capabilities, error) {
	add, addAll, err := parseCapabilities(o.CapAdd)
	if err != nil {
		return 0, err
	}
	drop, dropAll, err := parseCapabilities(o.CapDrop)
	if err != nil {
		return 0, err
	}
	defaults, _, err := parseCapabilities(defaultCapabilities)
	switch {
	case err != nil:
		return 0, err
	case o.Privileged:
		return allCapabilities, nil
	case addAll:
		return allCapabilities &^ drop, nil
	case dropAll:
		return add, nil
	}
	return defaults&^drop | add, nil
}

func parseCapabilities(names []string) (set Capabilities, all bool, err error) {
	for _, s := range names {
		name := strings.TrimPrefix(strings.ToUpper(s), "CAP_")
		if name == "ALL" {
			all = true
			continue
		}
		n := slices.Index(capabilityNames, name)
		if n < 0 {
			return 0, false, fmt.Errorf("capability %q: there is none of this name: use a name such as NET_ADMIN, or ALL", s)
		}
		set |= 1 << n
	}
	return set, all, nil
}
