package compute

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/launchertest"
)

// bench is a Compute and what it stands on.
type bench struct {
	*Compute
	t       *testing.T
	store   *launchertest.Records
	mu      sync.Mutex
	servers []launcher.Server
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, store: &launchertest.Records{}}
	b.reopen()
	return b
}

// reopen reads everything again, as the next engine does.
func (b *bench) reopen() {
	b.t.Helper()
	ticks := time.Unix(0, 0).UTC()
	var err error
	b.Compute, err = Open(b.t.Context(), Config{
		Store: b.store, Host: "here", DefaultFlavor: "small",
		Flavors: []launcher.Flavor{
			{Name: "small", VCPUs: 1, Memory: 256 << 20, Disk: 3 << 29},
			{Name: "large", VCPUs: 4, Memory: 8 << 30, Disk: 80 << 30},
		},
		Servers: func(yield func(*launcher.Server) bool) {
			b.mu.Lock()
			defer b.mu.Unlock()
			for i := range b.servers {
				if !yield(&b.servers[i]) {
					return
				}
			}
		},
		Now: func() time.Time { ticks = ticks.Add(time.Second); return ticks },
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) boot(s launcher.Server) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.servers = append(b.servers, s)
}

// refused fails the test unless err is of a kind and has the words.
func refused(t *testing.T, err, kind error, words string) {
	t.Helper()
	if !errors.Is(err, kind) || !strings.Contains(err.Error(), words) {
		t.Errorf("error %v, want %q of kind %v", err, words, kind)
	}
}

func TestAFailingStoreChangesNothing(t *testing.T) {
	b, ctx := newBench(t), t.Context()
	b.store.Err = errors.New("disk full")
	if _, err := b.Flavors.Create(ctx, Flavor{Name: "x", VCPUs: 1, RAM: 1}); !errors.Is(err, b.store.Err) {
		t.Errorf("created with %v", err)
	}
	if n := len(b.Flavors.All(nil)); n != 2 {
		t.Errorf("%d flavors", n)
	}
}

func TestFlavors(t *testing.T) {
	b, ctx := newBench(t), t.Context()
	made, err := b.Flavors.Create(ctx, Flavor{Name: "mine", VCPUs: 2, RAM: 512, Private: true})
	if err != nil || made.ID == "" {
		t.Fatal(made, err)
	}
	_, err = b.Flavors.Create(ctx, Flavor{Name: "mine", VCPUs: 1, RAM: 1})
	refused(t, err, launcher.ErrConflict, "Flavor with name mine already exists.")
	_, err = b.Flavors.Create(ctx, Flavor{ID: "small", Name: "other", VCPUs: 1, RAM: 1})
	refused(t, err, launcher.ErrConflict, "Flavor with ID small already exists.")

	_, err = b.Flavors.Flavor("p", made.ID, false)
	refused(t, err, launcher.ErrNotFound, "could not be found")
	if _, err := b.Flavors.Flavor("p", made.ID, true); err != nil {
		t.Errorf("an administrator may not use it: %v", err)
	}
	allow := func(f *Flavor) error { f.Projects = append(f.Projects, "p"); return nil }
	if _, err := b.Flavors.Update(ctx, made.ID, allow); err != nil {
		t.Fatal(err)
	}
	set := func(f *Flavor) error { f.ExtraSpecs = map[string]string{"a": "b"}; return nil }
	if _, err := b.Flavors.Update(ctx, "small", set); err != nil {
		t.Fatal(err)
	}
	b.reopen()
	if size, err := b.Flavors.Flavor("p", made.ID, false); err != nil || size.Disk != 3<<29 || size.Memory != 512<<20 {
		t.Errorf("size %+v, %v: without a disk of its own it has the default's", size, err)
	}
	if f, err := b.Flavors.Find("small"); err != nil || f.ExtraSpecs["a"] != "b" || f.VCPUs != 1 || f.Disk != 2 {
		t.Errorf("configured flavor %+v, %v", f, err)
	}
	refused(t, b.Flavors.Delete(ctx, "small"), launcher.ErrConflict, "configuration")
	if err := b.Flavors.Delete(ctx, made.ID); err != nil {
		t.Error(err)
	}
	refused(t, b.Flavors.Delete(ctx, made.ID), launcher.ErrNotFound, made.ID)
}

func TestFlavorsThatTheConfigurationTakesOver(t *testing.T) {
	b, ctx := newBench(t), t.Context()
	record := []byte(`{"id": "7", "name": "large", "vcpus": 1, "ram": 1}`)
	if err := b.store.PutRecord(ctx, "flavor", "7", record); err != nil {
		t.Fatal(err)
	}
	// What the API added to a configured flavor that is no more.
	if err := b.store.PutRecord(ctx, "flavor", "gone", []byte(`{"id": "gone", "name": "gone", "ram": 1}`)); err != nil {
		t.Fatal(err)
	}
	b.reopen()
	if all := b.Flavors.All(nil); len(all) != 2 || all[0].ID != "large" || all[0].VCPUs != 4 {
		t.Errorf("flavors %+v", all)
	}
}

func TestKeypairs(t *testing.T) {
	b, ctx := newBench(t), t.Context()
	p, private, err := b.Keypairs.Generate(ctx, "p", "u", "k", KeySSH)
	if err != nil || !strings.HasPrefix(p.PublicKey, "ssh-rsa AAAA") || !strings.HasSuffix(p.PublicKey, " Generated-by-Nova") ||
		!strings.HasPrefix(private, "-----BEGIN RSA PRIVATE KEY-----") || len(p.Fingerprint) != 47 {
		t.Errorf("made %+v, %q, %v", p, private, err)
	}
	_, err = b.Keypairs.Import(ctx, "p", "u", "k", KeySSH, p.PublicKey)
	refused(t, err, launcher.ErrConflict, "Key pair 'k' already exists.")
	for _, bad := range []string{"", "ssh-rsa AAAA", "no key", "command=\"x\" " + p.PublicKey, p.PublicKey + "\n" + p.PublicKey} {
		_, err = b.Keypairs.Import(ctx, "p", "u", "bad", KeySSH, bad)
		refused(t, err, launcher.ErrInvalid, "failed to generate fingerprint")
	}
	same, err := b.Keypairs.Import(ctx, "p", "other", "k", KeySSH, p.PublicKey)
	if err != nil || same.Fingerprint != p.Fingerprint {
		t.Errorf("imported %+v, %v", same, err)
	}
	b.reopen()
	if all := b.Keypairs.All("u"); len(all) != 1 || all[0].PublicKey != p.PublicKey {
		t.Errorf("keys %+v", all)
	}
	if err := b.Quotas.SetLimits(ctx, "p", "", Limits{KeyPairs: 1}); err != nil {
		t.Fatal(err)
	}
	_, err = b.Keypairs.Import(ctx, "p", "u", "more", KeySSH, p.PublicKey)
	refused(t, err, launcher.ErrForbidden, "Quota exceeded, too many key pairs.")
	if err := b.Keypairs.Delete(ctx, "u", "k"); err != nil {
		t.Error(err)
	}
	refused(t, b.Keypairs.Delete(ctx, "u", "k"), launcher.ErrNotFound, "Keypair k not found for user u")
}

func TestAggregates(t *testing.T) {
	b, ctx := newBench(t), t.Context()
	a, err := b.Aggregates.Create(ctx, "one", "east")
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.Aggregates.Create(ctx, "one", "")
	refused(t, err, launcher.ErrConflict, "already exists")
	west, err := b.Aggregates.Create(ctx, "two", "west")
	if err != nil || west.ID != 2 {
		t.Fatal(west, err)
	}
	_, err = b.Aggregates.AddHost(ctx, a.ID, "elsewhere")
	refused(t, err, launcher.ErrNotFound, "elsewhere")
	if zone := b.Zone(); zone != DefaultZone {
		t.Errorf("zone %s", zone)
	}
	if _, err := b.Aggregates.AddHost(ctx, a.ID, "here"); err != nil {
		t.Fatal(err)
	}
	_, err = b.Aggregates.AddHost(ctx, a.ID, "here")
	refused(t, err, launcher.ErrConflict, "already has host")
	_, err = b.Aggregates.AddHost(ctx, west.ID, "here")
	refused(t, err, launcher.ErrConflict, "already in availability zone(s) [east]")
	b.reopen()
	if zone := b.Zone(); zone != "east" {
		t.Errorf("zone %s", zone)
	}
	value := "v"
	if got, err := b.Aggregates.SetMetadata(ctx, a.ID, map[string]*string{"k": &value, "none": nil}); err != nil || got.Metadata["k"] != "v" {
		t.Errorf("metadata %v, %v", got, err)
	}
	refused(t, b.Aggregates.Delete(ctx, a.ID), launcher.ErrInvalid, "not empty")
	if _, err := b.Aggregates.RemoveHost(ctx, a.ID, "here"); err != nil {
		t.Error(err)
	}
	if err := b.Aggregates.Delete(ctx, a.ID); err != nil {
		t.Error(err)
	}
	refused(t, b.Aggregates.Delete(ctx, a.ID), launcher.ErrNotFound, "Aggregate 1 could not be found.")
}
