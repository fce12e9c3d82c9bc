package share

import (
	"fmt"
	"strconv"
	"strings"
)

// ConsolePrefix begins the lines of slipway-init on the console, which it shares with
// the kernel and, in a guest that no engine hears, with the entrypoint.
const ConsolePrefix = "slipway-init: "

const consoleEnd = "the entrypoint has ended with status "

// ConsoleEndLine says how the entrypoint ended, to whoever reads the console.
func ConsoleEndLine(status int) string { return fmt.Sprint(consoleEnd, status) }

// ConsoleEnd reads such a line of the console.
func ConsoleEnd(line string) (status int, ok bool) {
	// What the entrypoint wrote last may have no end of its line.
	_, number, ok := strings.Cut(line, ConsolePrefix+consoleEnd)
	if !ok {
		return 0, false
	}
	status, err := strconv.Atoi(strings.TrimSpace(number))
	return status, err == nil
}
