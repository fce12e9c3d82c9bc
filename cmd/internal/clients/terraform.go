package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
)

// provider is Terraform's.
const (
	provider        = "github.com/terraform-provider-openstack/terraform-provider-openstack/v3"
	providerVersion = "v3.4.0"
)

// runTerraform runs the provider's acceptance tests in the module cache, with the
// terraform that is installed: they plan, apply and destroy. Some want an
// administrator, others a user demo who is none.
func runTerraform(ctx context.Context, c *cloud, s suite) ([]result, error) {
	terraform, err := exec.LookPath("terraform")
	if err != nil {
		return nil, errors.New("terraform is not in PATH: see https://developer.hashicorp.com/terraform/install")
	}
	dir, err := download(ctx, provider, providerVersion)
	if err != nil {
		return nil, err
	}
	for _, line := range []string{
		"network create --external public", "subnet create --network public --subnet-range 10.252.0.0/24 public4",
		"project create demo", "user create --password " + c.password + " demo", "role add --project demo --user demo member",
	} {
		if out, err := c.runCommand(ctx, strings.Fields(line)); err != nil {
			return nil, fmt.Errorf("openstack %s: %w\n%s", line, err, out)
		}
	}
	ids := map[string]string{}
	for _, name := range []string{"private", "public"} {
		out, err := c.command(ctx, "openstack", "network", "show", name, "-f", "value", "-c", "id").Output()
		if err != nil {
			return nil, fmt.Errorf("find the network %s: %w", name, err)
		}
		ids[name] = strings.TrimSpace(string(out))
	}
	test := func(user string) (results []result, err error) {
		cmd := c.command(ctx, "go", "test", "-json", "-count", "1", "-timeout", "1h", "-run", cmp.Or(c.only, s.tests), "./openstack")
		cmd.Dir = dir
		cmd.Env = append(cmd.Env, "GOFLAGS=-mod=mod -modcacherw", "GOWORK=off", "TF_ACC=1", "TF_ACC_TERRAFORM_PATH="+terraform,
			"OS_USERNAME="+user, "OS_PROJECT_NAME="+user, "HTTP_PROXY="+c.web, "NO_PROXY=127.0.0.1",
			"OS_IMAGE_ID="+c.image, "OS_IMAGE_NAME=oci:"+c.dir+"/one", "OS_FLAVOR_ID=m1.nano", "OS_FLAVOR_NAME=m1.nano",
			"OS_NETWORK_ID="+ids["private"], "OS_EXTGW_ID="+ids["public"], "OS_POOL_NAME=public")
		err = follow(cmd, func(out io.Reader) (err error) {
			results, err = readTests(s.part, out)
			return err
		})
		return results, err
	}
	results, err := test("admin")
	if err != nil {
		return nil, err
	}
	others, err := test("demo")
	return fillIn(results, others), err
}

// fillIn takes in place of tests that were skipped what else became of them.
func fillIn(results, others []result) []result {
	for i, r := range results {
		at := slices.IndexFunc(others, func(o result) bool { return o.name == r.name })
		if r.state == skipped && at >= 0 {
			results[i] = others[at]
		}
	}
	return results
}
