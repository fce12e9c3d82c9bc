package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// commands are lines of the openstack client's, in order: later ones work on what
// those before have made. A heading begins with "#".
//
//go:embed openstack.commands
var commands string

// commandTime bounds one command; a boot of an emulated guest may be part of it.
const commandTime = 5 * time.Minute

// runOpenstack runs the commands; one has passed when its exit status is 0.
func runOpenstack(ctx context.Context, c *cloud, _ suite) ([]result, error) {
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
		out, err := c.runCommand(ctx, words)
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			return nil, err
		}
		r := result{group: group, name: "openstack " + line, state: passed}
		if err != nil {
			r.state, r.output = failed, fmt.Sprintf("%s%v\n", out, err)
		}
		results = append(results, told(r))
	}
	return results, nil
}

// runCommand runs the openstack client.
func (c *cloud) runCommand(ctx context.Context, words []string) ([]byte, error) {
	within, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	cmd := c.command(within, "openstack", words...)
	cmd.Dir = filepath.Join(c.dir, "home")
	return cmd.CombinedOutput()
}
