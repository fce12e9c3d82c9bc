package store

import (
	"maps"
	"path/filepath"
	"testing"
)

func TestRecordsOfAKind(t *testing.T) {
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "slipway.db")
	s, err := Open(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range [][3]string{{"flavor", "a", "1"}, {"flavor", "a", "2"}, {"flavor", "b", "3"}, {"keypair", "a", "4"}} {
		if err := s.PutRecord(ctx, r[0], r[1], []byte(r[2])); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second time it is not there
		if err := s.RemoveRecord(ctx, "flavor", "b"); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(ctx, path); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	got := map[string]string{}
	for _, kind := range []string{"flavor", "keypair", "nothing"} {
		records, err := s.Records(ctx, kind)
		if err != nil {
			t.Fatal(err)
		}
		for key, record := range records {
			got[kind+" "+key] = string(record)
		}
	}
	if want := map[string]string{"flavor a": "2", "keypair a": "4"}; !maps.Equal(got, want) {
		t.Errorf("records %v", got)
	}
}
