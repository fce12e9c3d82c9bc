package dataplane

import (
	"errors"
	"fmt"
	"testing"

	"github.com/vishvananda/netlink"
)

// TestDumpWhileLinksChange lists interfaces while many come and go.
func TestDumpWhileLinksChange(t *testing.T) {
	// So many that one answer of the kernel does not hold them.
	for i := range 60 {
		l := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprintf("still%d", i)}}
		if err := netlink.LinkAdd(l); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := netlink.LinkDel(l); err != nil {
				t.Error(err)
			}
		})
	}
	stop, stopped := make(chan struct{}), make(chan error)
	go func() {
		for {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			l := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "churn"}}
			if err := errors.Join(netlink.LinkAdd(l), netlink.LinkDel(l)); err != nil {
				stopped <- err
				return
			}
		}
	}()
	for range 300 {
		all, err := dump(netlink.LinkList)
		if err != nil {
			t.Error(err)
			break
		}
		seen := map[string]bool{}
		for _, l := range all {
			seen[l.Attrs().Name] = true
		}
		if !seen["lo"] || !seen["up0"] {
			t.Errorf("got interfaces %v, want lo and up0 among them", seen)
			break
		}
	}
	close(stop)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
}
