package catalog

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/slipway-vm/slipway/images"
	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/compute"
	"github.com/slipway-vm/slipway/launcher/launchertest"
)

// bare is a launcher without images.
type bare struct{}

func (bare) Pull(context.Context, string, string, *launcher.Credentials, func(launcher.PullProgress)) (launcher.Image, error) {
	return launcher.Image{}, launcher.Errorf(launcher.ErrNotFound, "none")
}
func (bare) DeleteImage(context.Context, string, bool) error { return nil }
func (bare) SaveImage(context.Context, string, string, *launcher.Credentials) (*images.Archive, error) {
	return nil, launcher.Errorf(launcher.ErrNotFound, "none")
}

// Of a server's backups of a kind the latest stay.
func TestRotate(t *testing.T) {
	ctx := t.Context()
	around, err := compute.Open(ctx, compute.Config{Store: &launchertest.Records{}})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c, err := Open(ctx, Config{
		Dir: t.TempDir(), Store: launchertest.NewSection(), Launcher: bare{}, Referred: around.Images,
		Now: func() time.Time { now = now.Add(time.Minute); return now },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	who := Caller{Project: "mine"}
	create := func(name, server, kind string) Snapshot {
		s := Snapshot{Name: name, Server: server, Backup: &kind, Keep: 2}
		i, err := c.NewSnapshot(ctx, who, s)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.EndSnapshot(ctx, i.ID, launcher.Image{Record: images.Record{Reference: i.Reference}}, nil); err != nil {
			t.Fatal(err)
		}
		return s
	}
	for _, s := range []string{"a", "b"} {
		create("other "+s, s, "weekly")
		create("saved "+s, s, "")
	}
	for n := range 4 {
		if err := c.Rotate(ctx, who, create(fmt.Sprintf("daily %d", n), "a", "daily")); err != nil {
			t.Error(err)
		}
	}
	var names []string
	all, err := c.All(ctx, who)
	for _, i := range all {
		names = append(names, i.Name)
	}
	if want := "[daily 3 daily 2 saved b other b saved a other a]"; err != nil || fmt.Sprint(names) != want {
		t.Errorf("there are %v, %v, want %s", names, err, want)
	}
}
