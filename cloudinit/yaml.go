package cloudinit

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxNodes bounds a YAML document, its aliases followed.
const maxNodes = 200_000

var errTooLarge = fmt.Errorf("more than %d YAML nodes, aliases followed", maxNodes)

// parseYAML reads a YAML document as cloud-init does, by the rules of YAML 1.1:
// maps become map[string]any, lists []any, scalars string, bool, int, float64 or
// nil; a key that is given twice has its last value.
func parseYAML(data []byte) (any, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, err
	}
	if len(doc.Content) == 0 {
		return nil, nil
	}
	c := converter{budget: maxNodes, open: map[*yaml.Node]bool{}}
	return c.value(doc.Content[0])
}

// converter turns nodes into values.
type converter struct {
	budget int
	open   map[*yaml.Node]bool // anchors that are being followed
}

func (c *converter) value(n *yaml.Node) (any, error) {
	if c.budget--; c.budget < 0 {
		return nil, errTooLarge
	}
	switch n.Kind {
	case yaml.AliasNode:
		if c.open[n.Alias] {
			return nil, fmt.Errorf("line %d: the anchor %s contains itself", n.Line, n.Value)
		}
		c.open[n.Alias] = true
		defer delete(c.open, n.Alias)
		return c.value(n.Alias)
	case yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for _, e := range n.Content {
			v, err := c.value(e)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case yaml.MappingNode:
		return c.mapping(n)
	default:
		return scalar(n)
	}
}

func (c *converter) mapping(n *yaml.Node) (map[string]any, error) {
	m := make(map[string]any, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		v, err := c.value(n.Content[i+1])
		if err != nil {
			return nil, err
		}
		if n.Content[i].Tag == "!!merge" {
			if err := inherit(m, v); err != nil {
				return nil, fmt.Errorf("line %d: %w", n.Content[i].Line, err)
			}
			continue
		}
		k, err := c.value(n.Content[i])
		if err != nil {
			return nil, err
		}
		switch k.(type) {
		case map[string]any, []any:
			return nil, fmt.Errorf("line %d: a key that is no scalar", n.Content[i].Line)
		}
		m[text(k)] = v
	}
	return m, nil
}

// inherit adds what a merge key refers to; what the map says itself goes first.
func inherit(m map[string]any, v any) error {
	from, ok := v.([]any)
	if !ok {
		from = []any{v}
	}
	for _, v := range from {
		other, ok := v.(map[string]any)
		if !ok {
			return errors.New("a merge key that refers to no map")
		}
		for k, v := range other {
			if _, ok := m[k]; !ok {
				m[k] = v
			}
		}
	}
	return nil
}

// scalar resolves a scalar as YAML 1.1 has it: yes, no, on and off are booleans.
func scalar(n *yaml.Node) (any, error) {
	if n.Style == 0 && n.Tag == "!!str" {
		switch strings.ToLower(n.Value) {
		case "yes", "on":
			return true, nil
		case "no", "off":
			return false, nil
		}
	}
	switch n.Tag {
	case "!!null":
		return nil, nil
	case "!!bool", "!!int", "!!float":
		var v any
		if err := n.Decode(&v); err != nil {
			return nil, err
		}
		return v, nil
	case "!!binary":
		data, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(n.Value), ""))
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n.Line, err)
		}
		return string(data), nil
	default:
		return n.Value, nil
	}
}

// text is a scalar as a text; "" for nil, maps and lists.
func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	case int:
		return strconv.Itoa(v)
	case int64, uint64:
		return fmt.Sprint(v)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	default:
		return ""
	}
}
