//go:build guest

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"

	"github.com/slipway-vm/slipway/cmd/internal/traces"
	"github.com/slipway-vm/slipway/guest"
)

// numbering is an entrypoint that numbers what it writes, and says last how far it got.
const numbering = `trap 'echo "end $i"; exit 0' TERM; i=0
while :; do i=$((i+1)); echo $i; [ $((i%20)) = 0 ] && sleep 0.1; done`

// load asks a service that is killed now and then for servers, and keeps account of
// what it was promised.
type load struct {
	t     *testing.T
	nova  *gophercloud.ServiceClient
	url   atomic.Value // string
	image string

	mu      sync.Mutex
	names   map[string]bool   // what was ever asked for
	made    map[string]string // name by ID, of what was promised
	deleted map[string]bool   // IDs
}

func newLoad(t *testing.T, d *slipwayd, image string) *load {
	t.Helper()
	l := &load{t: t, nova: d.nova(), image: image, names: map[string]bool{}, made: map[string]string{}, deleted: map[string]bool{}}
	l.url.Store(d.url)
	return l
}

// client is for the service that runs now; its token outlives each.
func (l *load) client() *gophercloud.ServiceClient {
	c := *l.nova
	c.Endpoint = l.url.Load().(string) + "/compute/v2.1/"
	return &c
}

// broken reports whether a request got no answer because the service was killed. Any
// other failure than that of a state that does not allow the request is the test's.
func (l *load) broken(what string, err error) bool {
	if err == nil {
		return false
	}
	var code gophercloud.ErrUnexpectedResponseCode
	if errors.As(err, &code) && code.Actual != 409 && code.Actual != 404 {
		l.t.Errorf("%s: %v", what, err)
	}
	return true
}

func (l *load) create(ctx context.Context, name string) {
	l.mu.Lock()
	l.names[name] = true
	l.mu.Unlock()
	srv, err := servers.Create(ctx, l.client(), servers.CreateOpts{
		Name: name, ImageRef: l.image, FlavorRef: "m1.nano", Networks: "none",
	}, nil).Extract()
	if l.broken("create", err) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.made[srv.ID] = name
}

// disturb stops, starts or deletes one of the servers.
func (l *load) disturb(ctx context.Context) {
	l.mu.Lock()
	ids := slices.DeleteFunc(slices.Collect(maps.Keys(l.made)), func(id string) bool {
		return l.deleted[id] || strings.HasPrefix(l.made[id], "writer")
	})
	l.mu.Unlock()
	if len(ids) == 0 {
		return
	}
	id := ids[rand.N(len(ids))]
	switch rand.N(4) {
	case 0:
		l.broken("stop", servers.Stop(ctx, l.client(), id).ExtractErr())
	case 1:
		l.broken("start", servers.Start(ctx, l.client(), id).ExtractErr())
	case 2:
		if len(ids) > 2 && !l.broken("delete", servers.Delete(ctx, l.client(), id).ExtractErr()) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.deleted[id] = true
		}
	case 3:
		_, err := servers.List(l.client(), servers.ListOpts{}).AllPages(ctx)
		l.broken("list", err)
	}
}

// run asks for all of it until ctx ends, of new servers for at most some.
func (l *load) run(ctx context.Context, most int) {
	var workers sync.WaitGroup
	workers.Go(func() {
		for n := 0; n < most && ctx.Err() == nil; n++ {
			l.create(ctx, fmt.Sprintf("n%d", n))
			pause(ctx, time.Second)
		}
	})
	for range 3 {
		workers.Go(func() {
			for ctx.Err() == nil {
				l.disturb(ctx)
				pause(ctx, 500*time.Millisecond)
			}
		})
	}
	workers.Wait()
}

func pause(ctx context.Context, atMost time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(rand.N(atMost)):
	}
}

// TestKillUnderLoad kills the service again and again while servers are created,
// stopped and deleted: none is lost, none is there twice, and of the output of those
// that run on not a line is missing.
func TestKillUnderLoad(t *testing.T) {
	dir := newStateDir(t)
	d := startService(t, dir)
	l := newLoad(t, d, newImage(t, numbering))
	prepare(t, dir, l.image)
	for i := range 2 {
		l.create(t.Context(), fmt.Sprintf("writer%d", i))
	}
	for _, s := range d.settled(l) {
		if s.Status != "ACTIVE" {
			t.Fatalf("server %s is %s: %+v", s.Name, s.Status, s.Fault)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.run(ctx, 4)
	}()
	for range 6 {
		pause(ctx, 4*time.Second)
		d.kill()
		d = startService(t, dir)
		l.url.Store(d.url)
	}
	cancel()
	<-ended
	list := d.settled(l)
	l.check(dir, list)
	for _, s := range list {
		if strings.HasPrefix(s.Name, "writer") {
			if err := servers.Stop(t.Context(), l.client(), s.ID).ExtractErr(); err != nil {
				t.Error(err)
			}
		}
	}
	for _, s := range d.settled(l) {
		if strings.HasPrefix(s.Name, "writer") {
			checkNumbered(t, s.Name, slipway(t, dir, "server", "logs", s.ID))
		}
		if err := servers.Delete(t.Context(), l.client(), s.ID).ExtractErr(); err != nil {
			t.Error(err)
		}
	}
	if left := d.settled(l); len(left) > 0 {
		t.Errorf("deleted servers are still there: %+v", left)
	}
	d.end()
	d.clean(dir)
}

// kill ends the service as the kernel does for want of memory.
func (d *slipwayd) kill() {
	d.t.Helper()
	if err := d.cmd.Process.Kill(); err != nil {
		d.t.Fatal(err)
	}
	_ = d.cmd.Wait()
}

// settled waits until nothing is being done to any server.
func (d *slipwayd) settled(l *load) []servers.Server {
	d.t.Helper()
	for limit := time.Now().Add(3 * patience); ; time.Sleep(200 * time.Millisecond) {
		list := d.list(l.client())
		busy := slices.IndexFunc(list, func(s servers.Server) bool { return s.TaskState != "" || s.Status == "BUILD" })
		if busy < 0 {
			return list
		}
		if time.Now().After(limit) {
			d.t.Fatalf("server %s does not come to a rest: %s, %s", list[busy].Name, list[busy].Status, list[busy].TaskState)
		}
	}
}

// check holds what there is against what was promised, and records against directories
// and guests.
func (l *load) check(dir string, list []servers.Server) {
	l.t.Helper()
	var ids, running []string
	found := map[string]bool{}
	for _, s := range list {
		ids = append(ids, s.ID)
		if s.Status == "ACTIVE" {
			running = append(running, s.ID)
		}
		if s.Status == "ERROR" {
			l.t.Errorf("server %s: %+v", s.Name, s.Fault)
		}
		if found[s.Name] || !l.names[s.Name] {
			l.t.Errorf("server %s is there twice, or was never asked for", s.Name)
		}
		found[s.Name] = true
		if l.deleted[s.ID] {
			l.t.Errorf("server %s was deleted and is there", s.Name)
		}
	}
	for id, name := range l.made {
		if !l.deleted[id] && !slices.Contains(ids, id) {
			l.t.Errorf("server %s (%s) is lost", name, id)
		}
	}
	entries, err := os.ReadDir(filepath.Join(dir, "servers"))
	if err != nil {
		l.t.Fatal(err)
	}
	var dirs, guests []string
	standsBy := map[string]bool{} // by ID
	for _, args := range traces.Processes() {
		line := strings.Join(args, " ")
		if strings.HasPrefix(filepath.Base(args[0]), "qemu-system") && strings.Contains(line, dir+"/") {
			if _, name, ok := strings.Cut(line, "guest=slipway-"); ok {
				name, _, _ = strings.Cut(name, ",")
				id := name[len(name)-36:] // before it there may be whose it is
				if strings.Contains(line, guest.ArgStandby) && !slices.Contains(ids, id) {
					standsBy[id] = true
				} else {
					guests = append(guests, id)
				}
			}
		}
	}
	for _, e := range entries {
		if !standsBy[e.Name()] {
			dirs = append(dirs, e.Name())
		}
	}
	for _, lists := range [][]string{ids, running, dirs, guests} {
		slices.Sort(lists)
	}
	if !slices.Equal(ids, dirs) {
		l.t.Errorf("directories %q, records %q", dirs, ids)
	}
	if !slices.Equal(running, guests) {
		l.t.Errorf("guests %q, active servers %q", guests, running)
	}
}

// checkNumbered fails the test unless lines are counted from 1, and the last says
// where the count ended.
func checkNumbered(t *testing.T, name, log string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(log), "\n")
	for i, line := range lines[:len(lines)-1] {
		if line != strconv.Itoa(i+1) {
			t.Errorf("%s: line %d is %q", name, i+1, line)
			return
		}
	}
	end, n := lines[len(lines)-1], len(lines)-1
	if n < 100 || end != fmt.Sprintf("end %d", n) && end != fmt.Sprintf("end %d", n+1) {
		t.Errorf("%s: %d lines, the last is %q", name, n, end)
	}
}
