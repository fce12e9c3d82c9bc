package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// parseFile returns the settings of a configuration file. It looks at the nodes
// rather than at decoded values so that an error can name the line.
func parseFile(path string, data []byte) ([]setting, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	// Decoding finds what parsing does not: keys that stand twice.
	var whole any
	if err := doc.Decode(&whole); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if whole == nil {
		return nil, nil
	}
	if _, ok := whole.(map[string]any); !ok {
		return nil, fmt.Errorf("%s: not a mapping of keys to values", path)
	}
	p := &fileParser{path: path, known: slices.Sorted(keysOf(Default()))}
	p.mapping("", doc.Content[0])
	return p.settings, errors.Join(p.problems...)
}

type fileParser struct {
	path     string
	known    []string
	settings []setting
	problems []error
}

func (p *fileParser) problem(n *yaml.Node, format string, args ...any) {
	p.problems = append(p.problems, fmt.Errorf("%s:%d: %w", p.path, n.Line, fmt.Errorf(format, args...)))
}

// mapping reads the keys of the file ("") or of a section ("boot.").
func (p *fileParser) mapping(prefix string, n *yaml.Node) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		key := prefix + name.Value
		isSection := slices.ContainsFunc(p.known, func(k string) bool { return strings.HasPrefix(k, key+".") })
		switch {
		case value.Tag == "!!null" && (isSection || slices.Contains(p.known, key)):
			// All of it commented out: the defaults.
		case isSection && value.Kind == yaml.MappingNode:
			p.mapping(key+".", value)
		case isSection:
			p.problem(name, "%s: not a mapping of keys to values", key)
		case slices.Contains(p.known, key):
			p.setting(key, value)
		default:
			p.problem(name, "unknown key %s (known here: %s)", key, strings.Join(p.namesUnder(prefix), ", "))
		}
	}
}

func (p *fileParser) setting(key string, n *yaml.Node) {
	var value any
	if err := n.Decode(&value); err != nil {
		p.problem(n, "%s: %w", key, err)
		return
	}
	// A relative directory would depend on where a program is started.
	if s, ok := value.(string); ok && key == "state_dir" && !strings.HasPrefix(s, "/") {
		p.problem(n, "%s: %q is not an absolute path", key, s)
		return
	}
	p.settings = append(p.settings, setting{key, fmt.Sprintf("%s:%d", p.path, n.Line), value})
}

// namesUnder lists what may stand in a section.
func (p *fileParser) namesUnder(prefix string) []string {
	var names []string
	for _, k := range p.known {
		if rest, ok := strings.CutPrefix(k, prefix); ok {
			name, _, _ := strings.Cut(rest, ".")
			names = append(names, name)
		}
	}
	return slices.Compact(names)
}
