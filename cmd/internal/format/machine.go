package format

import (
	"bytes"
	"encoding/json"

	"go.yaml.in/yaml/v3"
)

// An object is a JSON object whose keys keep their order.
type object struct {
	keys   []string
	values []any
}

func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, key := range o.keys {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := encode(&b, key); err != nil {
			return nil, err
		}
		b.WriteByte(':')
		if err := encode(&b, o.values[i]); err != nil {
			return nil, err
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// encode writes v as JSON for terminals and scripts, where < needs no escape.
func encode(b *bytes.Buffer, v any) error {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

func writeJSON(b *bytes.Buffer, v any, indent bool) error {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	if indent {
		e.SetIndent("", "  ")
	}
	return e.Encode(v)
}

func jsonOne(b *bytes.Buffer, fields []string, values []any, indent bool) error {
	return writeJSON(b, object{fields, values}, indent)
}

func jsonList(b *bytes.Buffer, columns []string, rows [][]any, indent bool) error {
	objects := make([]object, len(rows))
	for i, row := range rows {
		objects[i] = object{columns, row}
	}
	return writeJSON(b, objects, indent)
}

func writeYAML(b *bytes.Buffer, v any) error {
	e := yaml.NewEncoder(b)
	e.SetIndent(2)
	e.CompactSeqIndent()
	if err := e.Encode(v); err != nil {
		return err
	}
	return e.Close()
}

// yamlOne keeps the fields in order; a list's keys are sorted, as the openstack
// client has it.
func yamlOne(b *bytes.Buffer, fields []string, values []any) error {
	for i, field := range fields {
		if err := writeYAML(b, map[string]any{field: plain(values[i])}); err != nil {
			return err
		}
	}
	return nil
}

func yamlList(b *bytes.Buffer, columns []string, rows [][]any) error {
	items := make([]map[string]any, len(rows))
	for i, row := range rows {
		items[i] = map[string]any{}
		for j, column := range columns {
			items[i][column] = plain(row[j])
		}
	}
	return writeYAML(b, items)
}

// plain gives lists, maps and structs the same keys in YAML as in JSON.
func plain(v any) any {
	switch v.(type) {
	case nil, bool, string:
		return v
	}
	if isNumber(v) {
		return v
	}
	data, err := json.Marshal(v)
	if err != nil {
		return v
	}
	var p any
	if err := json.Unmarshal(data, &p); err != nil {
		return v
	}
	return p
}
