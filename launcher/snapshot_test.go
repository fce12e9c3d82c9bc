package launcher_test

import (
	"testing"

	"github.com/slipway-vm/slipway/launcher"
)

// An engine that ends while it makes an image leaves servers that the next one can
// be asked about.
func TestSnapshotEndsWithTheEngine(t *testing.T) {
	b := newBench(t)
	running, stopped := b.create(launcher.Spec{Command: []string{"/count"}}), b.create(launcher.Spec{Command: []string{"/count"}})
	b.until(running.ID, active)
	b.until(stopped.ID, active)
	if err := b.m.Stop(t.Context(), stopped.ID, nil); err != nil {
		t.Fatal(err)
	}
	b.until(stopped.ID, settled)
	b.close()
	for _, id := range []string{running.ID, stopped.ID} {
		all, err := b.store.Servers(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range all {
			if s.ID == id {
				s.TaskState = launcher.TaskImageSnapshot
				if err := b.store.Save(t.Context(), s); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	b.open()
	for id, state := range map[string]launcher.VMState{running.ID: launcher.VMActive, stopped.ID: launcher.VMStopped} {
		s, err := b.m.Server(id)
		if err != nil || s.VMState != state || s.TaskState != launcher.TaskNone {
			t.Errorf("server is %s, %q (%v)", s.VMState, s.TaskState, err)
		}
		b.until(id, func(s launcher.Server) bool { return s.VMState == state })
		made := make(chan error, 1)
		err = b.m.CreateImage(t.Context(), id, "made:"+string(state), func(img launcher.Image, err error) { made <- err })
		if err != nil {
			t.Fatal(err)
		}
		if err := <-made; err != nil {
			t.Error(err)
		}
	}
	if imgs, err := b.m.Images(t.Context()); err != nil || len(imgs) != 3 {
		t.Errorf("%d images (%v)", len(imgs), err)
	}
}
