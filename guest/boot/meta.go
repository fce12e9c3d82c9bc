package boot

import (
	"strings"
)

const metaDataFile = "meta-data"

// metaValue reads one plain value at the top level of meta-data as package
// cloudinit writes it: "key: value", with or without quotes. What init needs
// is so little that it goes without a YAML parser, which would cost each boot
// 10 ms to initialise.
func metaValue(data []byte, key string) string {
	for line := range strings.Lines(string(data)) {
		value, ok := strings.CutPrefix(line, key+":")
		if !ok {
			continue
		}
		value = strings.TrimSpace(value)
		for _, quote := range []string{`"`, "'"} {
			if len(value) >= 2 && strings.HasPrefix(value, quote) && strings.HasSuffix(value, quote) {
				return value[1 : len(value)-1]
			}
		}
		return value
	}
	return ""
}
