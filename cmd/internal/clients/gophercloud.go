package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

const (
	gophercloud = "github.com/gophercloud/gophercloud/v2"
	acceptance  = gophercloud + "/internal/acceptance/openstack/"
)

// gophercloudGroups are the packages of acceptance tests for services that are here.
var gophercloudGroups = []string{"identity/v3", "compute/v2", "image/v2"}

// runGophercloud runs the acceptance tests of the gophercloud that go.mod names, in
// the module cache.
func runGophercloud(ctx context.Context, c *cloud) ([]result, error) {
	dir, err := moduleDir(ctx)
	if err != nil {
		return nil, err
	}
	var all []result
	for _, group := range gophercloudGroups {
		args := []string{"test", "-tags", "acceptance", "-json", "-count", "1", "-timeout", "1h"}
		if c.only != "" {
			args = append(args, "-run", c.only)
		}
		cmd := c.command(ctx, "go", append(args, "./internal/acceptance/openstack/"+group)...)
		cmd.Dir = dir
		cmd.Env = append(cmd.Env, "GOFLAGS=-mod=mod -modcacherw", "GOWORK=off", "OS_DOMAIN_NAME=Default", "OS_BRANCH=stable/zed", // Debian 12's
			"OS_IMAGE_ID="+c.image, "OS_FLAVOR_ID=m1.nano", "OS_FLAVOR_ID_RESIZE=m1.tiny",
			"OS_NETWORK_NAME=private", "OS_POOL_NAME=none", "OS_EXTGW_ID=none")
		out, err := cmd.Output()
		var exit *exec.ExitError // it tells of tests that failed
		if err != nil && !errors.As(err, &exit) {
			return nil, err
		}
		results, err := readTests(group, out)
		if err != nil {
			return nil, fmt.Errorf("%w\n%s", err, exit.Stderr)
		}
		all = append(all, results...)
	}
	return all, nil
}

func moduleDir(ctx context.Context) (string, error) {
	version, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Version}}", gophercloud).Output()
	if err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, "go", "mod", "download", "-json", gophercloud+"@"+strings.TrimSpace(string(version))).Output()
	if err != nil {
		return "", fmt.Errorf("download gophercloud: %w\n%s", err, out)
	}
	var module struct{ Dir string }
	err = json.Unmarshal(out, &module)
	return module.Dir, err
}

// readTests reads what go test -json tells of the tests of one package. What a test
// has in it is a part of it.
func readTests(group string, out []byte) ([]result, error) {
	var results []result
	said := map[string]*strings.Builder{}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		var e struct{ Action, Test, Output string }
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil || e.Test == "" || strings.Contains(e.Test, "/") {
			continue
		}
		if said[e.Test] == nil {
			said[e.Test] = &strings.Builder{}
		}
		r := result{group: group, name: e.Test}
		switch e.Action {
		case "output":
			said[e.Test].WriteString(e.Output)
			continue
		case "pass":
			r.state = passed
		case "fail":
			r.state, r.output = failed, said[e.Test].String()
		case "skip":
			r.state = skipped
		default:
			continue
		}
		results = append(results, r)
	}
	if len(results) == 0 {
		return nil, fmt.Errorf("no test of %s%s was run:\n%s", acceptance, group, out)
	}
	return results, nil
}
