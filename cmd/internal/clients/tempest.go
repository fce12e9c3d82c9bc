package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"text/template"
)

//go:embed tempest.conf
var tempestConf string

// runTempest runs API tests of the services that are here. Those of identity's
// version 2, which Keystone has no more, Tempest leaves out by itself.
func runTempest(ctx context.Context, c *cloud, s suite) ([]result, error) {
	dir := filepath.Join(c.dir, "tempest")
	create := c.command(ctx, "tempest", "init", dir)
	create.Dir, create.Env = c.dir, append(create.Env, "HOME="+c.dir) // where it logs, and notes what it made
	if out, err := create.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("tempest init: %w\n%s", err, out)
	}
	var conf bytes.Buffer
	err := template.Must(template.New("").Parse(tempestConf)).Execute(&conf, map[string]string{
		"Dir": dir, "URL": c.url, "Password": c.password, "Image": c.image, "Other": c.other, "Web": c.web + "/image.img",
	})
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "etc/tempest.conf"), conf.Bytes(), 0o600); err != nil {
		return nil, err
	}
	cmd := c.command(ctx, "tempest", "run", "--regex", cmp.Or(c.only, s.tests), "--concurrency", "2")
	cmd.Dir, cmd.Env = dir, append(cmd.Env, "HOME="+c.dir)
	var results []result
	err = follow(cmd, func(out io.Reader) error {
		results = readTempest(out)
		return nil
	})
	if err == nil && len(results) == 0 {
		return nil, errors.New("no test was run")
	}
	return results, err
}

var (
	// {0} tempest.api.MODULE.Class.test[id-...,tags] [1.0s] ... ok, and of a class that is
	// left out {0} setUpClass (tempest.api.MODULE.Class) ... SKIPPED: why
	tempestLine = regexp.MustCompile(`^\{\d+\} (.*?)(?: \[[0-9.]+s\])? \.\.\. (ok|FAILED|SKIPPED)`)
	// The heading of what a test that failed has written.
	tempestHead = regexp.MustCompile(`^(tempest\.[\w.]+|(?:setUp|tearDown)Class \([\w.]+\))(\[.*\])?$`)
	tempestTags = regexp.MustCompile(`\[.*\]`)
)

// readTempest reads the results that tempest run prints. A class that could not be
// set up is a test that failed.
func readTempest(out io.Reader) []result {
	var results []result
	said := map[string]*strings.Builder{}
	var into *strings.Builder
	for lines := bufio.NewReader(out); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			break
		}
		line = strings.TrimSuffix(line, "\n")
		if m := tempestLine.FindStringSubmatch(line); m != nil {
			r := result{name: tempestTags.ReplaceAllString(m[1], "")}
			r.state = map[string]state{"ok": passed, "FAILED": failed, "SKIPPED": skipped}[m[2]]
			_, module, _ := strings.Cut(r.name, "tempest.api.")
			r.group, _, _ = strings.Cut(module, ".test_")
			results = append(results, told(r))
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
