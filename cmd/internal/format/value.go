package format

import (
	"cmp"
	"encoding"
	"encoding/json"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"time"
)

// clean copies rows, with every value as nil, a bool, a number, a string, or a
// list, map or struct of the caller's.
func clean(rows [][]any) [][]any {
	cleaned := make([][]any, len(rows))
	for i, row := range rows {
		cleaned[i] = make([]any, len(row))
		for j, v := range row {
			cleaned[i][j] = cleanValue(v)
		}
	}
	return cleaned
}

func cleanValue(v any) any {
	switch v := v.(type) {
	case nil, bool, string:
		return v
	case time.Time:
		if v.IsZero() {
			return nil
		}
		return v.UTC().Format(time.RFC3339)
	}
	r := reflect.ValueOf(v)
	if r.Kind() == reflect.Pointer && r.IsNil() {
		return nil
	}
	switch v := v.(type) {
	case encoding.TextMarshaler:
		if text, err := v.MarshalText(); err == nil {
			return string(text)
		}
	case fmt.Stringer:
		return v.String()
	case error:
		return v.Error()
	}
	switch r.Kind() {
	case reflect.Pointer:
		return cleanValue(r.Elem().Interface())
	case reflect.String:
		return r.String()
	case reflect.Bool:
		return r.Bool()
	}
	return v
}

func isNumber(v any) bool {
	switch reflect.ValueOf(v).Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64,
		reflect.Float32, reflect.Float64:
		return true
	}
	return false
}

// numeric tells which columns hold numbers, going by the first row.
func numeric(row []any) []bool {
	numbers := make([]bool, len(row))
	for i, v := range row {
		numbers[i] = isNumber(v)
	}
	return numbers
}

// compare orders two values of a column: numbers by size, others as text.
func compare(a, b any) int {
	if isNumber(a) && isNumber(b) {
		return number(a).Cmp(number(b))
	}
	return cmp.Compare(text(a), text(b))
}

func number(v any) *big.Float {
	n, _, err := big.ParseFloat(fmt.Sprint(v), 10, 64, big.ToNearestEven)
	if err != nil {
		return new(big.Float)
	}
	return n
}

// text is a value as a script reads it: lists and maps are JSON.
func text(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool:
		if v {
			return "True"
		}
		return "False"
	case string:
		return v
	}
	if isNumber(v) {
		return fmt.Sprint(v)
	}
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(data)
}

func texts(row []any) []string {
	all := make([]string, len(row))
	for i, v := range row {
		all[i] = text(v)
	}
	return all
}

// human is a value as a person reads it: lists with commas, maps as key='value'.
func human(v any) string {
	r := reflect.ValueOf(v)
	var parts []string
	switch r.Kind() {
	case reflect.Slice, reflect.Array:
		for i := range r.Len() {
			parts = append(parts, human(cleanValue(r.Index(i).Interface())))
		}
	case reflect.Map:
		for _, key := range r.MapKeys() {
			parts = append(parts, fmt.Sprintf("%v='%s'", key, human(cleanValue(r.MapIndex(key).Interface()))))
		}
		slices.Sort(parts)
	default:
		return text(v)
	}
	return strings.Join(parts, ", ")
}
