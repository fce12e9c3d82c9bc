package config

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// fields maps each key to a pointer to its field in c.
func fields(c *Config) map[string]any {
	all := map[string]any{}
	var walk func(prefix string, v reflect.Value)
	walk = func(prefix string, v reflect.Value) {
		for i := range v.NumField() {
			key, f := prefix+v.Type().Field(i).Tag.Get("key"), v.Field(i)
			if f.Kind() == reflect.Struct {
				walk(key+".", f)
			} else {
				all[key] = f.Addr().Interface()
			}
		}
	}
	walk("", reflect.ValueOf(c).Elem())
	return all
}

func keysOf(c *Config) iter.Seq[string] { return maps.Keys(fields(c)) }

// decode puts value, as YAML decodes it or a text, into a field. It is stricter
// than viper's own decoding, which takes "30" for 30 nanoseconds.
func decode(value, field any) error {
	text, isText := value.(string)
	switch field := field.(type) {
	case *string:
		switch value.(type) {
		case string, int, float64:
			*field = fmt.Sprint(value)
			return nil
		}
		return fmt.Errorf("%v is not a text", value)
	case *time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%v is not a duration such as 30s, 2m or 1h", quoted(value))
		}
		*field = d
		return nil
	case *Size:
		n, err := ParseSize(fmt.Sprint(value))
		if err != nil {
			return err
		}
		*field = n
		return nil
	case *int64:
		n, err := strconv.ParseInt(fmt.Sprint(value), 10, 64)
		if err != nil {
			return fmt.Errorf("%v is not a whole number", quoted(value))
		}
		*field = n
		return nil
	case *[]string:
		if isText && !strings.HasPrefix(text, "[") {
			*field = strings.Split(text, ",")
			return nil
		}
		*field = nil
	case *map[string][]string, *[]Flavor:
	default:
		return fmt.Errorf("a field of type %T cannot be read", field)
	}
	return decodeYAML(value, field)
}

func quoted(value any) any {
	if s, ok := value.(string); ok {
		return strconv.Quote(s)
	}
	return value
}

// decodeYAML decodes lists and maps, refusing keys that they do not have.
func decodeYAML(value, field any) error {
	text, ok := value.(string)
	if !ok {
		data, err := yaml.Marshal(value)
		if err != nil {
			return err
		}
		text = string(data)
	}
	reflect.ValueOf(field).Elem().SetZero()
	d := yaml.NewDecoder(strings.NewReader(text))
	d.KnownFields(true)
	err := d.Decode(field)
	var types *yaml.TypeError
	if errors.As(err, &types) {
		// Its lines are those of the value alone, so they would mislead.
		for i, m := range types.Errors {
			if _, after, ok := strings.Cut(m, ": "); ok && strings.HasPrefix(m, "line ") {
				m = after
			}
			types.Errors[i] = strings.ReplaceAll(m, "type config.Flavor", "a flavor")
		}
		return errors.New(strings.Join(types.Errors, "; "))
	}
	return err
}
