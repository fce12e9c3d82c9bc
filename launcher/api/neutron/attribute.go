package neutron

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
)

// when says which requests may set an attribute.
type when int

const (
	never    when = 0
	post     when = 1
	put      when = 2
	anyWrite      = post | put
)

// attribute is one of a resource's.
type attribute[T any] struct {
	name string
	show func(*T) any        // nil: it is not shown
	set  func(*T, any) error // what is said of a value that it refuses is the reason alone
	when when
	// adminOnly: only administrators see and set it; adminSets: they set it.
	adminOnly, adminSets bool
}

// The setters of simple attributes. A null is refused where nothing else is said.

func aText[T any](most int, at func(*T) *string) func(*T, any) error {
	return func(x *T, v any) error {
		s, ok := v.(string)
		if !ok {
			return fmt.Errorf("'%v' is not a valid string", shown(v))
		}
		if utf8.RuneCountInString(s) > most {
			return fmt.Errorf("'%.64s' exceeds maximum length of %d", s, most)
		}
		*at(x) = s
		return nil
	}
}

func aBoolean[T any](at func(*T) *bool) func(*T, any) error {
	return func(x *T, v any) error {
		b, err := boolean(v)
		if err == nil {
			*at(x) = b
		}
		return err
	}
}

// anInverse is a boolean whose record says the opposite.
func anInverse[T any](at func(*T) *bool) func(*T, any) error {
	return func(x *T, v any) error {
		b, err := boolean(v)
		if err == nil {
			*at(x) = !b
		}
		return err
	}
}

func anID[T any](at func(*T) *string) func(*T, any) error {
	return func(x *T, v any) (err error) {
		*at(x), err = identifier(v)
		return err
	}
}

// anOptionalID may be null, which clears it.
func anOptionalID[T any](at func(*T) *string) func(*T, any) error {
	return func(x *T, v any) (err error) {
		if v == nil {
			*at(x) = ""
			return nil
		}
		*at(x), err = identifier(v)
		return err
	}
}

// oneOf is a word out of some, or null.
func oneOf[T any](at func(*T) *string, words ...string) func(*T, any) error {
	return func(x *T, v any) error {
		s, ok := v.(string)
		if v != nil && (!ok || !slices.Contains(words, s)) {
			return fmt.Errorf("'%v' is not in ['%s']", shown(v), strings.Join(words, "', '"))
		}
		*at(x) = s
		return nil
	}
}

// ignored takes what says that something is not wanted, which it never is here.
func ignored[T any](nothing ...any) func(*T, any) error {
	return func(_ *T, v any) error {
		if list, ok := v.([]any); v == nil || ok && len(list) == 0 || slices.Contains(nothing, v) {
			return nil
		}
		return fmt.Errorf("'%v' is not supported here", shown(v))
	}
}

func boolean(v any) (bool, error) {
	switch v := v.(type) {
	case bool:
		return v, nil
	case string:
		switch strings.ToLower(v) {
		case "true", "1", "yes", "on":
			return true, nil
		case "false", "0", "no", "off":
			return false, nil
		}
	case float64:
		if v == 0 || v == 1 {
			return v == 1, nil
		}
	}
	return false, fmt.Errorf("'%v' cannot be converted to boolean", shown(v))
}

func integer(v any) (int, error) {
	if n, ok := v.(float64); ok && n == float64(int(n)) {
		return int(n), nil
	}
	if s, ok := v.(string); ok {
		var n int
		if _, err := fmt.Sscanf(s, "%d", &n); err == nil && fmt.Sprint(n) == s {
			return n, nil
		}
	}
	return 0, fmt.Errorf("'%v' is not an integer", shown(v))
}

func identifier(v any) (string, error) {
	s, ok := v.(string)
	if _, err := uuid.Parse(s); !ok || err != nil || len(s) != 36 {
		return "", fmt.Errorf("'%v' is not a valid UUID", shown(v))
	}
	return strings.ToLower(s), nil
}

func address(v any) (netip.Addr, error) {
	s, _ := v.(string)
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		return netip.Addr{}, fmt.Errorf("'%v' is not a valid IP address", shown(v))
	}
	return a, nil
}

// prefix reads a range of addresses, or where host is set also one alone.
func prefix(v any, host bool) (netip.Prefix, error) {
	s, _ := v.(string)
	p, err := netip.ParsePrefix(s)
	if a, aerr := netip.ParseAddr(s); host && aerr == nil && a.Zone() == "" {
		p, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	if err != nil {
		return p, fmt.Errorf("'%v' is not a valid IP subnet", shown(v))
	}
	return p, nil
}

// each applies f to the members of a list.
func each(v any, f func(any) error) error {
	list, ok := v.([]any)
	if !ok {
		return fmt.Errorf("'%v' is not a list", shown(v))
	}
	for _, one := range list {
		if err := f(one); err != nil {
			return err
		}
	}
	return nil
}

// members reads an object that has no other members than those named.
func members(v any, names ...string) (map[string]any, error) {
	m, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("'%v' is not a dictionary", shown(v))
	}
	for name := range m {
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("unexpected keys supplied: %s", name)
		}
	}
	return m, nil
}

// shown is a value as Python's clients know it.
func shown(v any) any {
	if v == nil {
		return "None"
	}
	return v
}

// orNull is an address, or null where it is none.
func orNull(a netip.Addr) any {
	if !a.IsValid() {
		return nil
	}
	return a.String()
}

// textOrNull is a text, or null where it is empty.
func textOrNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// list shows a slice, which is never null.
func list[T any](all []T, show func(T) any) []any {
	out := make([]any, 0, len(all))
	for _, one := range all {
		out = append(out, show(one))
	}
	return out
}

func same[T any](v T) any { return v }

// fixed shows a value that is always the same.
func fixed[T any](v any) func(*T) any { return func(*T) any { return v } }
