package metadefs_test

import (
	"errors"
	"testing"
	"time"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/launchertest"
	"github.com/slipway-vm/slipway/launcher/metadefs"
)

func TestReopen(t *testing.T) {
	t.Parallel()
	store := launchertest.NewSection()
	open := func() *metadefs.Definitions {
		d, err := metadefs.Open(t.Context(), store)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	who := metadefs.Caller{Project: "p"}
	d := open()
	if _, err := d.Create(t.Context(), who, metadefs.Namespace{Name: "a", Tags: []metadefs.Tag{{Name: "t"}}}); err != nil {
		t.Fatal(err)
	}
	rename := func(d *metadefs.Definitions) error {
		_, err := d.Change(t.Context(), who, "a", func(n *metadefs.Namespace, _ time.Time) error {
			n.Name, n.Tags[0].Name = "b", "u"
			return nil
		})
		return err
	}
	store.Broken = errors.New("no space")
	if err := rename(d); !errors.Is(err, store.Broken) {
		t.Errorf("change without a store: %v", err)
	}
	for _, d := range []*metadefs.Definitions{d, open()} {
		if n, err := d.Find(who, "a"); err != nil || n.Tags[0].Name != "t" {
			t.Errorf("after a change that was not stored: %+v, %v", n, err)
		}
	}
	store.Broken = nil
	if err := rename(d); err != nil {
		t.Fatal(err)
	}
	d = open()
	if _, err := d.Find(who, "a"); !errors.Is(err, launcher.ErrNotFound) {
		t.Errorf("the old name: %v", err)
	}
	if n, err := d.Find(who, "b"); err != nil || n.Tags[0].Name != "u" {
		t.Errorf("the new name: %+v, %v", n, err)
	}
}
