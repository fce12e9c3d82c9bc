package main

import (
	"context"
	_ "embed"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// commands are lines of the openstack client's, in order: later ones work on what
// those before have made. A heading begins with "#".
//
//go:embed openstack.commands
var commands string

// runOpenstack runs the commands; one has passed when its exit status is 0.
func runOpenstack(ctx context.Context, c *cloud) ([]result, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	var results []result
	group := ""
	for line := range strings.Lines(commands) {
		line = strings.TrimSpace(line)
		if heading, ok := strings.CutPrefix(line, "# "); ok || line == "" {
			group = heading
			continue
		}
		words := strings.Fields(strings.NewReplacer("IMAGE", c.image, "OTHER", c.other, "HOST", host).Replace(line))
		cmd := c.command(ctx, "openstack", words...)
		cmd.Dir = filepath.Join(c.dir, "home")
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			return nil, err
		}
		r := result{group: group, name: "openstack " + line}
		if err != nil {
			r.state, r.output = failed, string(out)
		}
		results = append(results, r)
	}
	return results, nil
}
