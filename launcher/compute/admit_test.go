package compute

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/slipway-vm/slipway/launcher"
)

func (b *bench) small() launcher.Flavor {
	b.t.Helper()
	size, err := b.Flavors.Flavor("p", "small", false)
	if err != nil {
		b.t.Fatal(err)
	}
	return size
}

// create admits servers that then exist, and returns how many of them have a host.
func (b *bench) create(ask Ask) (all, placed int, err error) {
	err = b.Admit(ask, func(n int, noHost error) error {
		all++
		if noHost == nil {
			placed++
		}
		b.boot(launcher.Server{ID: fmt.Sprintf("%s-%d-%p", ask.Group, n, &n), Project: ask.Project, User: ask.User, Group: ask.Group, Flavor: ask.Flavor})
		return nil
	})
	return all, placed, err
}

func TestQuotasHoldUnderARush(t *testing.T) {
	b := newBench(t)
	size := b.small()
	var admitted, refusals atomic.Int32
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			_, _, err := b.create(Ask{Project: "p", User: "u", Flavor: size})
			switch {
			case err == nil:
				admitted.Add(1)
			case errors.Is(err, launcher.ErrForbidden):
				refusals.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if admitted.Load() != 10 || refusals.Load() != 30 {
		t.Errorf("%d admitted, %d refused", admitted.Load(), refusals.Load())
	}
	_, _, err := b.create(Ask{Project: "p", User: "u", Flavor: size})
	refused(t, err, launcher.ErrForbidden, "Quota exceeded for instances: Requested 1, but already used 10 of 10 instances")
	if n, _, err := b.create(Ask{Project: "other", User: "u", Flavor: size}); n != 1 || err != nil {
		t.Errorf("another project: %d, %v", n, err)
	}
}

func TestQuotas(t *testing.T) {
	b, ctx := newBench(t), t.Context()
	size := b.small()
	if n, _, err := b.create(Ask{Project: "p", User: "u", Flavor: size, Min: 2, Max: 50}); n != 10 || err != nil {
		t.Errorf("as many as may be: %d, %v", n, err)
	}
	large := size
	large.VCPUs, large.Memory = 30, 1<<40
	_, _, err := b.create(Ask{Project: "q", User: "u", Flavor: large})
	refused(t, err, launcher.ErrForbidden,
		"Quota exceeded for cores, ram: Requested 30, 1048576, but already used 0, 0 of 20, 51200 cores, ram")
	if err := b.Quotas.SetLimits(ctx, "q", "u", Limits{Instances: 1}); err != nil {
		t.Fatal(err)
	}
	if n, _, err := b.create(Ask{Project: "q", User: "u", Flavor: size, Max: 2}); n != 1 || err != nil {
		t.Errorf("as many as the user may have: %d, %v", n, err)
	}
	if n, _, err := b.create(Ask{Project: "q", User: "v", Flavor: size, Max: 2}); n != 2 || err != nil {
		t.Errorf("another user: %d, %v", n, err)
	}
	if err := b.Quotas.SetClass(ctx, DefaultClass, Limits{Instances: Unlimited, Cores: Unlimited}); err != nil {
		t.Fatal(err)
	}
	b.reopen()
	if n, _, err := b.create(Ask{Project: "p", User: "u", Flavor: size, Max: 50}); n != 50 || err != nil {
		t.Errorf("no limit: %d, %v", n, err)
	}
	if used := b.Quotas.Used("p", "u"); used[Instances] != 60 || used[RAM] != 60*256 || used[KeyPairs] != 0 {
		t.Errorf("used %v", used)
	}
	_, _, err = b.create(Ask{Project: "q", User: "u", Flavor: size})
	refused(t, err, launcher.ErrForbidden, "already used 1 of 1 instances")
	if err := b.Quotas.Reset(ctx, "q", ""); err != nil {
		t.Fatal(err)
	}
	if n, _, err := b.create(Ask{Project: "q", User: "u", Flavor: size}); n != 1 || err != nil {
		t.Errorf("after the reset: %d, %v", n, err)
	}
	called := false
	resize := func() error { called = true; return nil }
	refused(t, b.Resize("q", "u", size, large, resize), launcher.ErrForbidden, "Quota exceeded for ram: Requested")
	if err := b.Resize("q", "u", large, size, resize); err != nil || !called {
		t.Errorf("smaller: %v, called %v", err, called)
	}
	refused(t, b.Quotas.Metadata("q", "u", 129), launcher.ErrForbidden, "Maximum number of metadata items exceeds 128")
}

func TestGroups(t *testing.T) {
	b, ctx := newBench(t), t.Context()
	for policy, want := range map[string]int{Affinity: 3, SoftAffinity: 3, SoftAntiAffinity: 3, AntiAffinity: 1} {
		g, err := b.Groups.Create(ctx, Group{Name: policy, Policy: policy, Project: policy})
		if err != nil {
			t.Fatal(err)
		}
		all, placed, err := b.create(Ask{Project: policy, Group: g.ID, Flavor: b.small(), Min: 3})
		if err != nil || all != 3 || placed != want {
			t.Errorf("%s: %d of %d placed, %v", policy, placed, all, err)
		}
		if g, err = b.Groups.Find(g.ID); err != nil || len(g.Members) != 3 {
			t.Errorf("%s: members %v, %v", policy, g.Members, err)
		}
		_, _, err = b.create(Ask{Project: "foreign", Group: g.ID, Flavor: b.small()})
		refused(t, err, launcher.ErrInvalid, "could not be found")
	}
	two, err := b.Groups.Create(ctx, Group{Name: "two", Policy: AntiAffinity, PerHost: 2, Project: "two"})
	if err != nil {
		t.Fatal(err)
	}
	b.reopen()
	if _, placed, err := b.create(Ask{Project: "two", Group: two.ID, Flavor: b.small(), Min: 3}); err != nil || placed != 2 {
		t.Errorf("two to a host: %d placed, %v", placed, err)
	}
	_, _, err = b.create(Ask{Project: "two", Group: two.ID, Flavor: b.small(), Min: 8, Max: 8})
	if err == nil {
		t.Error("more servers than quotas allow")
	}
	if err := b.Quotas.SetLimits(ctx, "two", "", Limits{ServerGroupMembers: 3, ServerGroups: 1, Instances: 50}); err != nil {
		t.Fatal(err)
	}
	_, _, err = b.create(Ask{Project: "two", Group: two.ID, Flavor: b.small()})
	refused(t, err, launcher.ErrForbidden, "too many servers in group")
	_, err = b.Groups.Create(ctx, Group{Name: "three", Policy: Affinity, Project: "two"})
	refused(t, err, launcher.ErrForbidden, "Quota exceeded, too many server groups.")
	if err := b.Groups.Delete(ctx, two.ID); err != nil {
		t.Error(err)
	}
	refused(t, b.Groups.Delete(ctx, two.ID), launcher.ErrNotFound, two.ID)
}

func TestADisabledServiceTakesNoServers(t *testing.T) {
	b, ctx := newBench(t), t.Context()
	before := b.Service.State()
	if _, err := b.Service.Set(ctx, func(s *ServiceState) { s.Disabled = true }); err != nil {
		t.Fatal(err)
	}
	b.reopen()
	if after := b.Service.State(); after.ID != before.ID || after.NodeID != before.NodeID || !after.Disabled {
		t.Errorf("%+v became %+v", before, after)
	}
	if all, placed, err := b.create(Ask{Project: "p", Flavor: b.small()}); all != 1 || placed != 0 || err != nil {
		t.Errorf("%d of %d placed, %v", placed, all, err)
	}
}
