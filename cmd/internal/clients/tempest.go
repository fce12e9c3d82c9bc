package main

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"text/template"
)

//go:embed tempest.conf
var tempestConf string

// tempestTests are the API tests of the services that are here. Those of identity's
// version 2, which Keystone has no more, Tempest leaves out by itself.
const tempestTests = `^tempest\.api\.(identity|compute|image)\.`

func runTempest(ctx context.Context, c *cloud) ([]result, error) {
	dir := filepath.Join(c.dir, "tempest")
	if out, err := c.command(ctx, "tempest", "init", dir).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("tempest init: %w\n%s", err, out)
	}
	var conf bytes.Buffer
	err := template.Must(template.New("").Parse(tempestConf)).Execute(&conf, map[string]string{
		"Dir": dir, "URL": c.url, "Password": c.password, "Image": c.image, "Other": c.other,
	})
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "etc/tempest.conf"), conf.Bytes(), 0o600); err != nil {
		return nil, err
	}
	tests := tempestTests
	if c.only != "" {
		tests = c.only
	}
	cmd := c.command(ctx, "tempest", "run", "--regex", tests, "--concurrency", "2")
	cmd.Dir = dir
	out, err := cmd.Output()
	var exit *exec.ExitError // it tells of tests that failed
	if err != nil && !errors.As(err, &exit) {
		return nil, err
	}
	results := readTempest(out)
	if len(results) == 0 {
		return nil, fmt.Errorf("no test was run:\n%s", out)
	}
	return results, nil
}

var (
	// {0} tempest.api.MODULE.Class.test[id-...,tags] [1.0s] ... ok
	tempestLine = regexp.MustCompile(`^\{\d+\} (.*) \[[0-9.]+s\] \.\.\. (ok|FAILED|SKIPPED)`)
	// The heading of what a test that failed has written.
	tempestHead = regexp.MustCompile(`^(tempest\.[\w.]+|(?:setUp|tearDown)Class \([\w.]+\))(\[.*\])?$`)
	tempestTags = regexp.MustCompile(`\[.*\]`)
)

// readTempest reads the results that tempest run prints. A class that could not be
// set up is a test that failed.
func readTempest(out []byte) []result {
	var results []result
	said := map[string]*strings.Builder{}
	var into *strings.Builder
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		line := lines.Text()
		if m := tempestLine.FindStringSubmatch(line); m != nil {
			r := result{name: tempestTags.ReplaceAllString(m[1], "")}
			r.state = map[string]state{"ok": passed, "FAILED": failed, "SKIPPED": skipped}[m[2]]
			_, module, _ := strings.Cut(r.name, "tempest.api.")
			r.group, _, _ = strings.Cut(module, ".test_")
			results = append(results, r)
			continue
		}
		if m := tempestHead.FindStringSubmatch(line); m != nil {
			into = &strings.Builder{}
			said[m[1]] = into
		} else if into != nil {
			fmt.Fprintln(into, line)
		}
	}
	for i := range results {
		if text := said[results[i].name]; text != nil && results[i].state == failed {
			results[i].output = text.String()
		}
	}
	return results
}
