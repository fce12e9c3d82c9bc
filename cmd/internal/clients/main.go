// Command clients runs the clients that OpenStack's users have against a slipwayd
// with real guests, and writes down what of it passes: commands of the openstack
// client, acceptance tests of gophercloud and of Terraform's OpenStack provider, Tempest's
// API tests.
//
// What is known to fail stands in etc/clients/known-failures with the reason. A
// failure that does not is an error, and so is one that does and has passed. What
// became of each test when it was run last is kept in etc/clients/results, and makes
// the tables of etc/clients/README.md.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "clients:", err)
		os.Exit(1)
	}
}

// suite is a part of a client's tests that is run as a whole.
type suite struct {
	client string
	part   string // of the client's; empty: all
	title  string
	// tests are the package of gophercloud's, or an expression.
	tests string
	run   func(ctx context.Context, c *cloud, s suite) ([]result, error)
}

func (s suite) name() string {
	if s.part == "" {
		return s.client
	}
	return s.client + "-" + s.part
}

// suites are in the order of the tables. Tempest's are cut so that none takes long.
var suites = []suite{
	{"openstack", "", "python-openstackclient", "", runOpenstack},
	{"gophercloud", "identity", "gophercloud's acceptance tests", "identity/v3", runGophercloud},
	{"gophercloud", "image", "gophercloud's acceptance tests", "image/v2", runGophercloud},
	{"gophercloud", "compute", "gophercloud's acceptance tests", "compute/v2", runGophercloud},
	{"terraform", "identity", "Terraform's OpenStack provider's acceptance tests", "^TestAccIdentity", runTerraform},
	{"terraform", "image", "Terraform's OpenStack provider's acceptance tests", "^TestAccImages", runTerraform},
	{"terraform", "network", "Terraform's OpenStack provider's acceptance tests", "^TestAccNetworking", runTerraform},
	{"terraform", "compute", "Terraform's OpenStack provider's acceptance tests", "^TestAccCompute", runTerraform},
	{"tempest", "identity", "Tempest", `^tempest\.api\.identity\.`, runTempest},
	{"tempest", "image", "Tempest", `^tempest\.api\.image\.`, runTempest},
	{"tempest", "compute", "Tempest", `^tempest\.api\.compute\.(?!servers\.|admin\.)`, runTempest},
	{"tempest", "admin", "Tempest", `^tempest\.api\.compute\.admin\.`, runTempest},
	{"tempest", "servers-a", "Tempest", `^tempest\.api\.compute\.servers\.test_[a-l]`, runTempest},
	{"tempest", "servers-m", "Tempest", `^tempest\.api\.compute\.servers\.test_[m-z](?!erver_actions)`, runTempest},
	{"tempest", "actions", "Tempest", `^tempest\.api\.compute\.servers\.test_server_actions`, runTempest},
}

// result is what became of one test.
type result struct {
	client string
	group  string // what it is about
	name   string
	state  state
	// output is what a test that failed has written.
	output string
}

type state string

const (
	passed  state = "pass"
	failed  state = "fail"
	skipped state = "skip"
)

// told says on the way what became of a test.
func told(r result) result {
	fmt.Fprintf(os.Stderr, "%s %s %s\n", time.Now().Format(time.TimeOnly), r.state, r.name)
	return r
}

func run(ctx context.Context) (err error) {
	wanted := flag.String("run", "openstack,gophercloud,terraform-identity,terraform-image,tempest", "`suites` to run, or clients, of all suites: "+strings.Join(names(), ", "))
	only := flag.String("only", "", "regular `expression` of the tests to run, but of the openstack client's; the others keep their results")
	limit := flag.Duration("timeout", time.Hour, "the longest `time` that a suite may take")
	flag.Parse()
	chosen, err := choose(*wanted)
	if err != nil {
		return err
	}
	var errs []error
	var results []result
	for _, s := range chosen {
		fmt.Fprintf(os.Stderr, "clients: %s (%s)\n", s.title, cmp.Or(s.part, "all"))
		some, err := s.runAlone(ctx, *only, *limit)
		if err != nil {
			return errors.Join(append(errs, fmt.Errorf("%s: %w", s.name(), err))...)
		}
		results = append(results, some...)
		errs = append(errs, keep(s, some, *only == ""))
	}
	return errors.Join(append(errs, conclude(results))...)
}

// runAlone runs a suite on a cloud of its own: what one leaves behind does not
// disturb another.
func (s suite) runAlone(ctx context.Context, only string, limit time.Duration) (_ []result, err error) {
	c, err := startCloud(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.end()) }()
	c.only = only
	within, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it takes longer than %v (-timeout)", limit))
	defer cancel()
	results, err := s.run(within, c, s)
	if within.Err() != nil {
		return nil, context.Cause(within)
	}
	for i := range results {
		results[i].client = s.client
	}
	return results, err
}

func names() []string {
	var all []string
	for _, s := range suites {
		all = append(all, s.name())
	}
	return all
}

// choose finds the suites of a list of suites and clients.
func choose(list string) ([]suite, error) {
	wanted := strings.Split(list, ",")
	for _, name := range wanted {
		if !slices.ContainsFunc(suites, func(s suite) bool { return s.name() == name || s.client == name }) {
			return nil, fmt.Errorf("-run %s: there are %s", name, strings.Join(names(), ", "))
		}
	}
	return slices.DeleteFunc(slices.Clone(suites), func(s suite) bool {
		return !slices.Contains(wanted, s.name()) && !slices.Contains(wanted, s.client)
	}), nil
}
