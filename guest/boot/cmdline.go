package boot

import (
	"os"
	"strconv"
	"strings"

	"github.com/slipway-vm/slipway/guest/share"
)

// cmdline is what init reads from the kernel command line.
type cmdline struct {
	root  string
	share string
	probe bool
	debug bool
	// standby: the server is yet to come.
	standby bool
	// tscKHz is the frequency of the time-stamp counter, where the host has told it.
	tscKHz uint64
	words  []string
}

func readCommandLine() (cmdline, error) {
	data, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return cmdline{}, err
	}
	return parseCommandLine(string(data)), nil
}

func parseCommandLine(s string) cmdline {
	c := cmdline{words: strings.Fields(s)}
	for _, word := range c.words {
		name, value, _ := strings.Cut(word, "=")
		switch name {
		case share.ArgRoot:
			c.root = value
		case share.ArgShare:
			c.share = value
		case share.ArgProbe:
			c.probe = true
		case share.ArgStandby:
			c.standby = true
		case share.ArgDebug:
			c.debug = true
		case "tsc_early_khz":
			c.tscKHz, _ = strconv.ParseUint(value, 10, 64)
		}
	}
	return c
}

// moduleParameters returns the parameters meant for a module, as modprobe
// would find them: QEMU announces a microvm's devices without ACPI that way.
func (c cmdline) moduleParameters(module string) string {
	var params []string
	for _, word := range c.words {
		name, param, ok := strings.Cut(word, ".")
		if ok && strings.ReplaceAll(name, "-", "_") == module {
			params = append(params, param)
		}
	}
	return strings.Join(params, " ")
}
