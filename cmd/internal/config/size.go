package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Size is a number of bytes. As text it is a number with an optional unit: K, M,
// G or T, also written MiB or MB. Units are powers of 1024, as they are to Nova
// and docker. A *Size is a flag's value.
type Size int64

// Units of a Size.
const (
	KiB Size = 1 << (10 * (iota + 1))
	MiB
	GiB
	TiB
)

// ParseSize reads a size such as 512M, 2GiB or 1073741824.
func ParseSize(s string) (Size, error) {
	text := strings.TrimSpace(s)
	digits := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
	unit, ok := map[string]Size{
		"": 1, "b": 1,
		"k": KiB, "kb": KiB, "kib": KiB,
		"m": MiB, "mb": MiB, "mib": MiB,
		"g": GiB, "gb": GiB, "gib": GiB,
		"t": TiB, "tb": TiB, "tib": TiB,
	}[strings.ToLower(strings.TrimSpace(text[len(digits):]))]
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || !ok {
		return 0, fmt.Errorf("%q is not a size such as 512M, 2GiB or 1073741824", s)
	}
	if n > math.MaxInt64/uint64(unit) {
		return 0, fmt.Errorf("%q is more than %d bytes", s, int64(math.MaxInt64))
	}
	return Size(n) * unit, nil
}

// String gives the size in the largest unit that divides it: 512MiB.
func (s Size) String() string {
	for _, u := range []struct {
		unit Size
		name string
	}{{TiB, "TiB"}, {GiB, "GiB"}, {MiB, "MiB"}, {KiB, "KiB"}} {
		if s != 0 && s%u.unit == 0 {
			return strconv.FormatInt(int64(s/u.unit), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// Set and Type make *Size a pflag.Value.
func (s *Size) Set(text string) error {
	n, err := ParseSize(text)
	if err == nil {
		*s = n
	}
	return err
}

// Type is what a help text says in the place of the flag's value.
func (*Size) Type() string { return "size" }

// MarshalText and UnmarshalText are String and ParseSize.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText is ParseSize.
func (s *Size) UnmarshalText(text []byte) error { return s.Set(string(text)) }

// UnmarshalYAML takes a bare number too, which UnmarshalText would not be given.
func (s *Size) UnmarshalYAML(node *yaml.Node) error { return s.Set(node.Value) }
