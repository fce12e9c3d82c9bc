package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
)

const gophercloud = "github.com/gophercloud/gophercloud/v2"

// runGophercloud runs the acceptance tests of the gophercloud that go.mod names, in
// the module cache.
func runGophercloud(ctx context.Context, c *cloud, s suite) ([]result, error) {
	version, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Version}}", gophercloud).Output()
	if err != nil {
		return nil, err
	}
	dir, err := download(ctx, gophercloud, strings.TrimSpace(string(version)))
	if err != nil {
		return nil, err
	}
	args := []string{"test", "-tags", "acceptance", "-json", "-count", "1", "-timeout", "1h"}
	if c.only != "" {
		args = append(args, "-run", c.only)
	}
	cmd := c.command(ctx, "go", append(args, "./internal/acceptance/openstack/"+s.tests)...)
	cmd.Dir = dir
	cmd.Env = append(cmd.Env, "GOFLAGS=-mod=mod -modcacherw", "GOWORK=off", "OS_DOMAIN_NAME=Default", "OS_BRANCH=stable/zed", // Debian 12's
		"OS_IMAGE_ID="+c.image, "OS_FLAVOR_ID=m1.nano", "OS_FLAVOR_ID_RESIZE=m1.tiny",
		"HTTP_PROXY="+c.web, "OS_NETWORK_NAME=private", "OS_POOL_NAME=none", "OS_EXTGW_ID=none")
	var results []result
	err = follow(cmd, func(out io.Reader) (err error) {
		results, err = readTests(s.tests, out)
		return err
	})
	return results, err
}

// follow runs a command whose exit status only tells of tests that failed, and has
// its output read as it comes.
func follow(cmd *exec.Cmd, read func(io.Reader) error) error {
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		return err
	}
	failed := read(out)
	_, rest := io.Copy(io.Discard, out)
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		return err
	}
	if failed != nil {
		return fmt.Errorf("%w\n%s", failed, &said)
	}
	return rest
}

// download returns the directory of a module in the module cache.
func download(ctx context.Context, path, version string) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "mod", "download", "-json", path+"@"+version).Output()
	if err != nil {
		return "", fmt.Errorf("download %s: %w\n%s", path, err, out)
	}
	var module struct{ Dir string }
	err = json.Unmarshal(out, &module)
	return module.Dir, err
}

// readTests reads what go test -json tells of the tests of one package. What a test
// has in it is a part of it.
func readTests(group string, out io.Reader) ([]result, error) {
	var results []result
	said := map[string]*strings.Builder{}
	var whole strings.Builder
	for lines := bufio.NewReader(out); ; {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			break
		}
		var e struct{ Action, Test, Output string }
		if err := json.Unmarshal(line, &e); err != nil || e.Test == "" {
			whole.WriteString(e.Output)
			continue
		}
		if strings.Contains(e.Test, "/") {
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
		results = append(results, told(r))
	}
	if len(results) == 0 {
		return nil, fmt.Errorf("no test of %s was run:\n%s", group, &whole)
	}
	return results, nil
}
