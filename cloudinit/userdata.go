package cloudinit

import (
	"bytes"
	"fmt"
)

// Script is a program that user-data holds, as a file to execute.
type Script struct {
	Name string
	Body []byte
}

// UserData is what user-data and vendor-data together ask for.
type UserData struct {
	Config Config
	// Scripts run once per instance, late; Boothooks at each boot, early.
	Scripts   []Script
	Boothooks []Script
	// Warnings say what was left out and why, each beginning with user-data or
	// vendor-data.
	Warnings []string
}

// ParseUserData reads user-data and vendor-data, either of which may be empty: a
// cloud-config, a script, a boothook, a cloud-config-archive or a MIME message of
// these, compressed by gzip or not. Formats follow
// https://cloudinit.readthedocs.io/en/latest/explanation/format.html. What the
// user says holds over what the vendor says. Nothing is an error, as in cloud-init:
// what cannot be read or is not honoured leaves a warning.
func ParseUserData(user, vendor []byte) *UserData {
	u := new(UserData)
	vendorConfig := u.take("vendor-data", vendor)
	config := u.take("user-data", user)
	merged := vendorStrategy.merge(config, vendorConfig).(map[string]any)
	var warnings []string
	u.Config, warnings = decodeConfig(merged)
	for _, w := range warnings {
		source := "user-data"
		if key, _, _ := bytes.Cut([]byte(w), []byte(":")); config[string(key)] == nil {
			source = "vendor-data"
		}
		u.Warnings = append(u.Warnings, source+": "+w)
	}
	return u
}

// take reads the parts of one source and returns its cloud-config.
func (u *UserData) take(source string, data []byte) map[string]any {
	config := map[string]any{}
	if len(bytes.TrimSpace(data)) == 0 {
		return config
	}
	parts, warnings := split(data)
	for _, p := range parts {
		var err error
		switch p.mediaType {
		case typeConfig:
			config, err = addConfig(config, p)
		case typeScript, typeScript + "-per-instance", typeScript + "-per-once":
			u.Scripts = append(u.Scripts, Script{p.name, unixLines(p.body)})
		case typeBoothook, typeScript + "-per-boot":
			u.Boothooks = append(u.Boothooks, Script{p.name, boothook(p.body)})
		case typeInclude, typeIncludeOnce:
			err = fmt.Errorf("#include is refused: a server is told everything at once, nothing is fetched; put the text itself here")
		case typePartHandler, typeConfigPatch, typeTemplate:
			err = fmt.Errorf("%s is not honoured", p.mediaType)
		default:
			err = fmt.Errorf("not user-data: it begins with none of #cloud-config, #!, #cloud-boothook, #cloud-config-archive, and is no MIME message")
		}
		if err != nil {
			warnings = append(warnings, p.name+": "+err.Error())
		}
	}
	for _, w := range warnings {
		u.Warnings = append(u.Warnings, source+": "+w)
	}
	return config
}

// addConfig merges a cloud-config into those before it.
func addConfig(config map[string]any, p part) (map[string]any, error) {
	v, err := parseYAML(p.body)
	if err != nil {
		return config, err
	}
	next, ok := v.(map[string]any)
	if !ok {
		return config, fmt.Errorf("a cloud-config is a map of keys and values")
	}
	how, err := takeStrategy(next)
	if err != nil {
		return config, err
	}
	if how == nil && p.mergeType != "" {
		if how, err = parseStrategy(p.mergeType); err != nil {
			return config, err
		}
	}
	if how == nil {
		how = defaultStrategy
	}
	return how.merge(config, next).(map[string]any), nil
}

// boothook is the script after the first line that marks it as a boothook.
func boothook(body []byte) []byte {
	if typeOf(body) == typeBoothook {
		_, body, _ = bytes.Cut(bytes.TrimLeft(body, " \t\r\n"), []byte("\n"))
	}
	return unixLines(body)
}

func unixLines(text []byte) []byte { return bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")) }
