package cloudinit

import (
	"errors"
	"fmt"
	"strings"
)

// texts are the scalars of a list, or the one that stands in its place.
func texts(v any) []string {
	list, ok := v.([]any)
	if !ok {
		if s := text(v); s != "" {
			return []string{s}
		}
		return nil
	}
	var out []string
	for _, v := range list {
		if s := text(v); s != "" {
			out = append(out, s)
		}
	}
	return out
}

// commaTexts are the words of a list, of a text with commas between them, or the
// keys of a map that has them for keys.
func commaTexts(v any) []string {
	if m, ok := v.(map[string]any); ok {
		var out []string
		for k := range m {
			out = append(out, k)
		}
		return out
	}
	var out []string
	for _, s := range texts(v) {
		for w := range strings.SplitSeq(s, ",") {
			if w = strings.TrimSpace(w); w != "" {
				out = append(out, w)
			}
		}
	}
	return out
}

func anys(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}

func mapOf(v any) (map[string]any, error) {
	m, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("not a map of keys and values")
	}
	return m, nil
}

func textOf(to *string, v any) error {
	switch v.(type) {
	case map[string]any, []any:
		return errors.New("not a text")
	}
	*to = text(v)
	return nil
}

func textsOf(to *[]string, v any) error {
	list, ok := v.([]any)
	if !ok {
		return errors.New("not a list")
	}
	*to = texts(list)
	return nil
}

// boolOf takes the texts that cloud-init takes besides YAML's own.
func boolOf(to *bool, v any) error {
	switch strings.ToLower(text(v)) {
	case "true", "1", "on", "yes":
		*to = true
	case "false", "0", "off", "no":
		*to = false
	default:
		return fmt.Errorf("%q is neither true nor false", text(v))
	}
	return nil
}

func hostnameOf(to *string, v any) error {
	if !validHostname(text(v)) {
		return fmt.Errorf("%q is no host name", text(v))
	}
	*to = text(v)
	return nil
}

func commandsOf(to *[]Command, v any) error {
	list, ok := v.([]any)
	if !ok {
		return errors.New("not a list of commands")
	}
	var bad []error
	for i, v := range list {
		if v == nil {
			continue
		}
		cmd, err := commandOf(v)
		if err != nil {
			bad = append(bad, fmt.Errorf("entry %d: %w", i+1, err))
			continue
		}
		*to = append(*to, cmd)
	}
	return errors.Join(bad...)
}

// commandOf reads a text for the shell, or a list of arguments.
func commandOf(v any) (Command, error) {
	list, ok := v.([]any)
	if !ok {
		if s := text(v); s != "" {
			return Command{Shell: s}, nil
		}
		return Command{}, errors.New("neither a text nor a list of arguments")
	}
	var cmd Command
	for _, v := range list {
		switch v.(type) {
		case map[string]any, []any, nil:
			return Command{}, errors.New("an argument that is no text")
		}
		cmd.Args = append(cmd.Args, text(v))
	}
	if len(cmd.Args) == 0 {
		return Command{}, errors.New("an empty command")
	}
	return cmd, nil
}
