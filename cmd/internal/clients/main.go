// Command clients runs the clients that OpenStack's users have against a slipwayd
// with real guests, and writes down what of it passes: commands of the openstack
// client, gophercloud's acceptance tests, Tempest's API tests.
//
// What is known to fail stands in etc/clients/known-failures with the reason. A
// failure that does not is an error, and so is one that does and has passed. A suite
// that was run as a whole is told of in etc/clients/SUITE.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "clients:", err)
		os.Exit(1)
	}
}

// suite is a client's tests.
type suite struct {
	name  string // as -run names it
	title string
	run   func(ctx context.Context, c *cloud) ([]result, error)
}

var suites = []suite{
	{"openstack", "python-openstackclient", runOpenstack},
	{"gophercloud", "gophercloud's acceptance tests", runGophercloud},
	{"tempest", "Tempest", runTempest},
}

// result is what became of one test.
type result struct {
	suite string
	group string // what it is about
	name  string
	state state
	// output is what a test that failed has written.
	output string
}

type state int

const (
	passed state = iota
	failed
	skipped
)

func run(ctx context.Context) (err error) {
	wanted := flag.String("run", "openstack,gophercloud,tempest", "`suites` to run")
	only := flag.String("only", "", "regular `expression` of the tests of gophercloud and Tempest to run; nothing is written down then")
	flag.Parse()
	c, err := startCloud(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.end()) }()
	c.only = *only
	var results []result
	for _, s := range suites {
		if !slices.Contains(strings.Split(*wanted, ","), s.name) {
			continue
		}
		fmt.Fprintln(os.Stderr, "clients:", s.title)
		some, err := s.run(ctx, c)
		if err != nil {
			return fmt.Errorf("%s: %w", s.title, err)
		}
		for _, r := range some {
			r.suite = s.name
			results = append(results, r)
		}
	}
	return conclude(results, *only == "")
}
