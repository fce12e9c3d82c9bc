package nova

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
)

// schema says what a JSON value may be, in the part of JSON Schema that Nova's API
// uses. Clients show the messages of a refusal, so they are worded as Nova's, which
// are those of Python's jsonschema.
type schema struct {
	kinds []string // "string", "integer", "number", "boolean", "null", "object", "array"; nil: any
	enum  []any
	// form refuses a string with a message of its own.
	form     func(string) error
	pattern  *regexp.Regexp
	min, max *float64 // of numbers and of strings that are one
	above    bool     // min itself is too small
	minLen   int      // of strings and arrays
	maxLen   int      // 0: any
	items    *schema

	props    map[string]*schema
	required []string
	// names bounds the members that are not in props: nil lets none be, and rest is
	// what they are. open lets any be.
	names            *regexp.Regexp
	rest             *schema
	open             bool
	minProps, maxPro int
}

// body is a request's JSON object.
type body map[string]any

// readBody reads a request's body and holds it against s.
func readBody(r *http.Request, s *schema) (body, error) {
	var raw json.RawMessage
	if err := openstack.ReadJSON(r, &raw); err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, openstack.BadRequest("Malformed request body")
	}
	if err := s.check("", v); err != nil {
		return nil, err
	}
	b, ok := v.(map[string]any)
	if !ok {
		return nil, openstack.BadRequest("Malformed request body")
	}
	return b, nil
}

// in returns the object that is a member of b; the schema has seen to it that it
// is one.
func (b body) in(name string) body {
	inner, _ := b[name].(map[string]any)
	return inner
}

// text returns a string member, or empty.
func (b body) text(name string) string {
	switch v := b[name].(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	}
	return ""
}

// number returns a member that is a whole number or a string of one, or 0.
func (b body) number(name string) int {
	n, _ := strconv.Atoi(b.text(name))
	return n
}

// truth returns a member that is a boolean or one of the words for it.
func (b body) truth(name string, otherwise bool) bool {
	switch v := b[name].(type) {
	case bool:
		return v
	case string:
		return isTrue(v)
	}
	return otherwise
}

func isTrue(s string) bool {
	return slices.Contains([]string{"true", "1", "on", "yes", "t", "y"}, strings.ToLower(s))
}

func isFalse(s string) bool {
	return slices.Contains([]string{"false", "0", "off", "no", "f", "n"}, strings.ToLower(s))
}

// check holds a value against s; name is the member that it is, empty for the body.
func (s *schema) check(name string, v any) error {
	wrong := func(format string, args ...any) error {
		message := fmt.Sprintf(format, args...)
		if name == "" {
			return openstack.BadRequest("%s", message)
		}
		return openstack.BadRequest("Invalid input for field/attribute %s. Value: %s. %s", name, python(v, false), message)
	}
	if s.kinds != nil && !slices.ContainsFunc(s.kinds, func(k string) bool { return is(v, k) }) {
		return wrong("%s is not of type '%s'", python(v, true), strings.Join(s.kinds, "', '"))
	}
	if s.enum != nil && !slices.ContainsFunc(s.enum, func(e any) bool { return e == v }) {
		return wrong("%s is not one of %s", python(v, true), python(s.enum, true))
	}
	switch v := v.(type) {
	case string:
		if err := s.checkText(v, wrong); err != nil {
			return err
		}
		if n, err := strconv.ParseFloat(v, 64); err == nil {
			return s.checkNumber(n, v, wrong)
		}
	case json.Number:
		if n, err := v.Float64(); err == nil {
			return s.checkNumber(n, v.String(), wrong)
		}
	case []any:
		return s.checkItems(v, wrong)
	case map[string]any:
		return s.checkMembers(v, wrong)
	}
	return nil
}

type refuse func(format string, args ...any) error

func (s *schema) checkText(v string, wrong refuse) error {
	n := utf8.RuneCountInString(v)
	switch {
	case n < s.minLen:
		return wrong("%s is too short", python(v, true))
	case s.maxLen > 0 && n > s.maxLen:
		return wrong("%s is too long", python(v, true))
	case s.pattern != nil && !s.pattern.MatchString(v):
		return wrong("%s does not match %s", python(v, true), python(s.pattern.String(), true))
	case s.form != nil:
		return s.form(v)
	}
	return nil
}

func (s *schema) checkNumber(n float64, shown string, wrong refuse) error {
	switch {
	case s.min != nil && s.above && n <= *s.min:
		return wrong("%s is less than or equal to the minimum of %v", shown, *s.min)
	case s.min != nil && n < *s.min:
		return wrong("%s is less than the minimum of %v", shown, *s.min)
	case s.max != nil && n > *s.max:
		return wrong("%s is greater than the maximum of %s", shown, strconv.FormatFloat(*s.max, 'f', -1, 64))
	}
	return nil
}

func (s *schema) checkItems(v []any, wrong refuse) error {
	switch {
	case len(v) < s.minLen:
		return wrong("%s is too short", python(v, true))
	case s.maxLen > 0 && len(v) > s.maxLen:
		return wrong("%s is too long", python(v, true))
	case s.items == nil:
		return nil
	}
	for i, item := range v {
		if err := s.items.check(strconv.Itoa(i), item); err != nil {
			return err
		}
	}
	return nil
}

func (s *schema) checkMembers(v map[string]any, wrong refuse) error {
	for _, name := range s.required {
		if _, ok := v[name]; !ok {
			return wrong("'%s' is a required property", name)
		}
	}
	var extra []string
	for _, name := range slices.Sorted(maps.Keys(v)) {
		inner := s.props[name]
		if inner == nil && s.names != nil && s.names.MatchString(name) {
			inner = s.rest
		}
		switch {
		case inner != nil:
			if err := inner.check(name, v[name]); err != nil {
				return err
			}
		case !s.open:
			extra = append(extra, name)
		}
	}
	switch {
	case len(extra) == 1:
		return wrong("Additional properties are not allowed (%s was unexpected)", python(extra[0], true))
	case len(extra) > 1:
		return wrong("Additional properties are not allowed ('%s' were unexpected)", strings.Join(extra, "', '"))
	case len(v) < s.minProps:
		return wrong("%s does not have enough properties", python(v, true))
	case s.maxPro > 0 && len(v) > s.maxPro:
		return wrong("%s has too many properties", python(v, true))
	}
	return nil
}

// is reports whether a value is of a kind.
func is(v any, kind string) bool {
	switch v := v.(type) {
	case nil:
		return kind == "null"
	case bool:
		return kind == "boolean"
	case string:
		return kind == "string"
	case json.Number:
		_, err := v.Int64()
		return kind == "number" || kind == "integer" && err == nil
	case []any:
		return kind == "array"
	}
	return kind == "object"
}

// python writes a value as Python's repr or, for a string alone, as its str does.
func python(v any, quoted bool) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool:
		if v {
			return "True"
		}
		return "False"
	case string:
		if !quoted {
			return v
		}
		if strings.Contains(v, "'") && !strings.Contains(v, `"`) {
			return `"` + v + `"`
		}
		return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`, "\n", `\n`, "\t", `\t`, "\r", `\r`).Replace(v) + "'"
	case []any:
		var items []string
		for _, item := range v {
			items = append(items, python(item, true))
		}
		return "[" + strings.Join(items, ", ") + "]"
	case map[string]any:
		var items []string
		for _, k := range slices.Sorted(maps.Keys(v)) {
			items = append(items, python(k, true)+": "+python(v[k], true))
		}
		return "{" + strings.Join(items, ", ") + "}"
	}
	return fmt.Sprint(v)
}

// checkQuery refuses, from 2.75 on, parameters that are not known.
func checkQuery(r *http.Request, known ...string) (url.Values, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, openstack.BadRequest("Query string is malformed: %v", err)
	}
	if openstack.MicroversionOf(r.Context()) < 75 {
		return q, nil
	}
	for _, name := range slices.Sorted(maps.Keys(q)) {
		if !slices.Contains(known, name) {
			return nil, openstack.BadRequest("Additional properties are not allowed ('%s' was unexpected)", name)
		}
	}
	return q, nil
}

// bound is for limits of numbers.
func bound(n float64) *float64 { return &n }

// maxInt is the largest number that Nova's columns hold.
const maxInt = 1<<31 - 1

// one makes the schema of a body whose only member is an object.
func one(name string, s *schema) *schema {
	return &schema{kinds: []string{"object"}, props: map[string]*schema{name: s}, required: []string{name}}
}

// object makes the schema of an object with members.
func object(props map[string]*schema, required ...string) *schema {
	return &schema{kinds: []string{"object"}, props: props, required: required}
}

// The schemas that several resources use.
var (
	aName    = &schema{kinds: []string{"string"}, minLen: 1, maxLen: 255, form: checkName}
	aText    = &schema{kinds: []string{"string"}}
	aWord    = &schema{kinds: []string{"string"}, minLen: 1, maxLen: 255}
	aHost    = &schema{kinds: []string{"string"}, minLen: 1, maxLen: 255, pattern: regexp.MustCompile(`^[a-zA-Z0-9-._]*$`)}
	aBoolean = &schema{kinds: []string{"boolean", "string"}, enum: booleans}
	aCount   = &schema{kinds: []string{"integer", "string"}, pattern: regexp.MustCompile(`^[0-9]*$`), min: bound(1), minLen: 1}
	// aCountOrNone may be 0.
	aCountOrNone = &schema{kinds: []string{"integer", "string"}, pattern: regexp.MustCompile(`^[0-9]*$`), min: bound(0), minLen: 1}

	metadataName = regexp.MustCompile(`^[a-zA-Z0-9-_:. ]{1,255}$`)
)

var booleans = []any{
	true, "True", "TRUE", "true", "1", "ON", "On", "on", "YES", "Yes", "yes",
	false, "False", "FALSE", "false", "0", "OFF", "Off", "off", "NO", "No", "no",
}

// invalidName is the fault of a name of a wrong form.
func invalidName(must string) error {
	return openstack.BadRequest("An invalid 'name' value was provided. The name must be: %s", must)
}

func printable(r rune) bool { return unicode.IsPrint(r) || unicode.Is(unicode.Zs, r) }

func checkName(s string) error {
	first, _ := utf8.DecodeRuneInString(s)
	last, _ := utf8.DecodeLastRuneInString(s)
	if strings.ContainsFunc(s, func(r rune) bool { return !printable(r) }) || unicode.IsSpace(first) || unicode.IsSpace(last) {
		return invalidName("printable characters. Can not start or end with whitespace.")
	}
	return nil
}

func checkZoneName(s string) error {
	if strings.Contains(s, ":") || checkName(s) != nil {
		return invalidName("printable characters except :.Can not start or end with whitespace.")
	}
	return nil
}
