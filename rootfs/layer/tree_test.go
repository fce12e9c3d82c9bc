package layer

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-vm/slipway/rootfs/erofs"
)

func TestText(t *testing.T) {
	x := text{arena: arena{free{}}}
	defer x.free()
	places := map[string]uint32{}
	for i := range 1000 {
		s := fmt.Sprint(i, strings.Repeat("x", i*7%4096))
		at, err := x.put(s)
		if err != nil {
			t.Fatal(err)
		}
		places[s] = at
	}
	for s, at := range places {
		if got := string(x.get(at, len(s))); got != s {
			t.Errorf("got %.10q, want %.10q", got, s)
		}
	}
}

func TestSplit(t *testing.T) {
	for _, name := range []string{"", ".", "/", "..", "../..", "a", "./a", "/a/", "a//b", "a/./b/.", "a/../b", "a/../../b", "../a/b/..", "a/b/../../..", "...", "a/..b"} {
		var want []string
		if clean := path.Clean("/" + name)[1:]; clean != "" {
			want = strings.Split(clean, "/")
		}
		if got, err := split(name); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v, want %q", name, got, err, want)
		}
	}
	for _, name := range []string{"a\x00b", strings.Repeat("x", erofs.MaxName+1), strings.Repeat("x/", maxPath)} {
		if _, err := split(name); !errors.Is(err, erofs.ErrUnrepresentable) {
			t.Errorf("%.20q: error %v", name, err)
		}
	}
}

func TestTree(t *testing.T) {
	tr, err := newTree(erofs.NewWriter(&memory{}, [16]byte{}), free{})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.free()
	const n = 20_000
	for i := range n {
		d, err := tr.walk([]string{"d", fmt.Sprint(i % 100)}, true)
		if err != nil {
			t.Fatal(err)
		}
		if err := tr.put(d, fmt.Sprint(i), node{kind: kindRegular, nid: erofs.NID(i+1) << 20}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		e, err := tr.lookup([]string{"d", fmt.Sprint(i % 100), fmt.Sprint(i)})
		if err != nil || e.nid() != erofs.NID(i+1)<<20 {
			t.Fatalf("%d: %+v (%v)", i, e, err)
		}
	}
	// Everything below a replaced directory goes, and comes back new.
	if err := tr.put(0, "d", node{kind: kindRegular, nid: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := tr.walk([]string{"d", "1"}, true); err != nil {
		t.Fatal(err)
	}
	if _, err := tr.lookup([]string{"d", "1", "1"}); !errors.Is(err, errMissing) {
		t.Errorf("error %v", err)
	}
}
