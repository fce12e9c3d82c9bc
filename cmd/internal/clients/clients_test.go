package main

import (
	"slices"
	"strings"
	"testing"
)

// What Tempest prints becomes results: a class that could not be set up is a failure,
// and a failure has what it has written.
func TestReadTempest(t *testing.T) {
	const out = `{0} tempest.api.compute.test_x.X.test_one[id-1,smoke] [1.000000s] ... ok
{1} tempest.api.compute.test_x.X.test_two[id-2] [0.5s] ... FAILED
{0} setUpClass (tempest.api.compute.servers.test_y.Y) [0.000000s] ... FAILED
{0} tempest.api.compute.test_x.X.test_three [0.0s] ... SKIPPED: not there
{0} setUpClass (tempest.api.compute.test_z.Z) ... SKIPPED: Z is not there

==============================
Failed 2 tests - output below:
==============================

tempest.api.compute.test_x.X.test_two[id-2]
-------------------------------------------
why two failed

setUpClass (tempest.api.compute.servers.test_y.Y)
-------------------------------------------------
why Y failed
`
	want := []result{
		{group: "compute", name: "tempest.api.compute.test_x.X.test_one", state: passed},
		{group: "compute", name: "tempest.api.compute.test_x.X.test_two", state: failed},
		{group: "compute.servers", name: "setUpClass (tempest.api.compute.servers.test_y.Y)", state: failed},
		{group: "compute", name: "tempest.api.compute.test_x.X.test_three", state: skipped},
		{group: "compute", name: "setUpClass (tempest.api.compute.test_z.Z)", state: skipped},
	}
	got := readTempest(strings.NewReader(out))
	for i := range got {
		if has := strings.Contains(got[i].output, "why "); has != (got[i].state == failed) {
			t.Errorf("%s: output %q", got[i].name, got[i].output)
		}
		got[i].output = ""
	}
	if !slices.Equal(got, want) {
		t.Errorf("read %+v", got)
	}
}

func TestReadTests(t *testing.T) {
	const out = `{"Action":"output","Test":"TestOne","Output":"why\n"}
{"Action":"fail","Test":"TestOne"}
{"Action":"pass","Test":"TestTwo/part"}
{"Action":"pass","Test":"TestTwo"}
{"Action":"skip","Test":"TestThree"}
`
	got, err := readTests("compute/v2", strings.NewReader(out))
	want := []result{{group: "compute/v2", name: "TestOne", state: failed, output: "why\n"}, {group: "compute/v2", name: "TestTwo", state: passed}, {group: "compute/v2", name: "TestThree", state: skipped}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("read %+v, %v", got, err)
	}
	if _, err := readTests("compute/v2", strings.NewReader(`{"Action":"output","Output":"does not build"}`+"\n")); err == nil || !strings.Contains(err.Error(), "does not build") {
		t.Errorf("no tests: %v", err)
	}
}

func TestChoose(t *testing.T) {
	for list, want := range map[string]int{"openstack": 1, "tempest-image,openstack": 2, "gophercloud": 3} {
		if got, err := choose(list); err != nil || len(got) != want {
			t.Errorf("%s: %v, %v", list, got, err)
		}
	}
	if _, err := choose("horizon"); err == nil || !strings.Contains(err.Error(), "tempest-actions") {
		t.Errorf("no suite: %v", err)
	}
}

// Tests that were run again have their new results, and the others those they had. A
// class that could be set up at last has the results of its tests.
func TestMerge(t *testing.T) {
	before := []result{
		{client: "tempest", name: "x.X.test_one", state: failed}, {client: "tempest", name: "x.X.test_two", state: passed},
		{client: "tempest", name: "setUpClass (y.Y)", state: failed}, {client: "tempest", name: "setUpClass (z.Z)", state: failed},
	}
	again := []result{{client: "tempest", name: "x.X.test_one", state: passed}, {client: "tempest", name: "y.Y.test_one", state: passed}}
	want := []result{before[1], before[3], again[0], again[1]}
	if got := merge(before, again); !slices.Equal(got, want) {
		t.Errorf("merged %+v", got)
	}
}

// A test that one user was not fit for is the other's.
func TestFillIn(t *testing.T) {
	got := fillIn([]result{{name: "a", state: passed}, {name: "b", state: skipped}, {name: "c", state: skipped}},
		[]result{{name: "a", state: skipped}, {name: "b", state: failed}, {name: "c", state: skipped}})
	if want := []result{{name: "a", state: passed}, {name: "b", state: failed}, {name: "c", state: skipped}}; !slices.Equal(got, want) {
		t.Errorf("filled in %+v", got)
	}
}
