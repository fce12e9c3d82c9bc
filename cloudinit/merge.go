package cloudinit

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Merging follows
// https://cloudinit.readthedocs.io/en/latest/reference/merging.html: a strategy
// names, for each kind of value, what becomes of an old and a new one.

// defaultStrategy is how a cloud-config is merged with those before it in the same
// user-data: a key's last value holds.
var defaultStrategy = strategy{"dict": {"replace"}, "list": nil, "str": nil}

// vendorStrategy is how vendor-data is merged into user-data: what the user says
// holds, maps are united.
var vendorStrategy = strategy{"list": nil, "dict": nil, "str": nil}

// strategy holds the options for each kind of value. A kind that is not there
// keeps its old value.
type strategy map[string][]string

func (s strategy) has(kind, option string) bool { return slices.Contains(s[kind], option) }

var strategyWord = regexp.MustCompile(`^([a-z_][a-z0-9_]*)\((.*?)\)$`)

// parseStrategy reads the form "list(append)+dict(recurse_array)+str()".
func parseStrategy(s string) (strategy, error) {
	out := strategy{}
	for word := range strings.SplitSeq(s, "+") {
		word = strings.ReplaceAll(strings.ToLower(strings.TrimSpace(word)), "-", "_")
		if word == "" {
			continue
		}
		m := strategyWord.FindStringSubmatch(word)
		if m == nil {
			return nil, fmt.Errorf("merge type %q", word)
		}
		var options []string
		for o := range strings.SplitSeq(m[2], ",") {
			if o = strings.TrimSpace(o); o != "" {
				options = append(options, o)
			}
		}
		if err := out.add(m[1], options); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (s strategy) add(kind string, options []string) error {
	switch kind {
	case "dict", "list", "str":
	default:
		return fmt.Errorf("merge type %q: not dict, list or str", kind)
	}
	if _, ok := s[kind]; !ok { // the first holds, as in cloud-init
		s[kind] = options
	}
	return nil
}

// takeStrategy removes the strategy that a cloud-config names from it, nil where
// it names none.
func takeStrategy(config map[string]any) (strategy, error) {
	how := config["merge_how"]
	if how == nil {
		how = config["merge_type"]
	}
	delete(config, "merge_how")
	delete(config, "merge_type")
	switch how := how.(type) {
	case nil:
		return nil, nil
	case string:
		return parseStrategy(how)
	case []any:
		s := strategy{}
		for _, v := range how {
			name, options, err := strategyEntry(v)
			if err == nil {
				err = s.add(name, options)
			}
			if err != nil {
				return nil, err
			}
		}
		return s, nil
	default:
		return nil, fmt.Errorf("merge_how: neither a text nor a list")
	}
}

// strategyEntry reads {name: list, settings: [append]} or [list, append].
func strategyEntry(v any) (name string, options []string, err error) {
	switch v := v.(type) {
	case map[string]any:
		name, options = text(v["name"]), texts(v["settings"])
	case []any:
		if len(v) > 0 {
			name, options = text(v[0]), texts(v[1:])
		}
	}
	name = strings.ReplaceAll(strings.TrimSpace(name), "-", "_")
	if name == "" {
		return "", nil, fmt.Errorf("merge_how: an entry without a name")
	}
	return name, options, nil
}

// merge returns what old becomes by next. Neither is changed.
func (s strategy) merge(old, next any) any {
	var kind string
	switch old.(type) {
	case map[string]any:
		kind = "dict"
	case []any:
		kind = "list"
	case string:
		kind = "str"
	}
	if _, ok := s[kind]; !ok {
		return old
	}
	switch old := old.(type) {
	case map[string]any:
		return s.dict(old, next)
	case []any:
		return s.list(old, next)
	case string:
		if add, ok := next.(string); ok && s.has("str", "append") {
			return old + add
		}
		return next
	}
	return old
}

func (s strategy) dict(old map[string]any, next any) any {
	add, ok := next.(map[string]any)
	if !ok {
		return old
	}
	merged := maps.Clone(old)
	for k, v := range add {
		before, ok := merged[k]
		switch {
		case !ok:
			merged[k] = v
		case v == nil && s.has("dict", "allow_delete"):
			delete(merged, k)
		case s.has("dict", "replace"):
			merged[k] = v
		default:
			merged[k] = s.within("dict", before, v, before)
		}
	}
	return merged
}

func (s strategy) list(old []any, next any) any {
	add, ok := next.([]any)
	switch {
	case s.has("list", "append") && ok:
		return slices.Concat(old, add)
	case s.has("list", "prepend") && ok:
		return slices.Concat(add, old)
	case s.has("list", "no_replace"), !ok && (s.has("list", "append") || s.has("list", "prepend")):
		return old
	case !ok:
		return next
	}
	merged := slices.Clone(old)
	for i := range min(len(old), len(add)) {
		merged[i] = s.within("list", old[i], add[i], add[i])
	}
	return merged
}

// within merges two values inside a map or list of the given kind where its
// options let it go on; otherwise it returns keep.
func (s strategy) within(kind string, old, next, keep any) any {
	var recurse bool
	switch next.(type) {
	case []any:
		recurse = s.has(kind, "recurse_array") || s.has(kind, "recurse_list")
	case string:
		recurse = s.has(kind, "recurse_str")
	case map[string]any:
		recurse = kind == "dict" || s.has(kind, "recurse_dict")
	}
	if recurse {
		return s.merge(old, next)
	}
	return keep
}
