package identity

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestKeysRotate(t *testing.T) {
	now := time.Now()
	dir := filepath.Join(t.TempDir(), "keys")
	cfg := KeysConfig{Dir: dir, Rotate: time.Hour, Keep: 2 * time.Hour, Now: func() time.Time { return now }}
	open := func() *Keys {
		k, err := OpenKeys(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	first, err := open().seal([]byte("hello"))
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Hour)
	k := open()
	second, err := k.seal([]byte("hello"))
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(90 * time.Minute)
	if err := os.WriteFile(filepath.Join(dir, ".key-half"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{first, second} {
		if got, err := open().open(text); err != nil || string(got) != "hello" {
			t.Errorf("opened %q, %v", got, err)
		}
	}
	now = now.Add(time.Hour) // the first is out of use for more than two hours
	k = open()
	if _, err := k.open(first); !errors.Is(err, ErrUnauthorized) {
		t.Errorf("a key that should be gone opens: %v", err)
	}
	if _, err := k.open(second); err != nil {
		t.Errorf("the second key: %v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 || strings.HasPrefix(e.Name(), ".") {
			t.Errorf("%s has mode %v, %v", e.Name(), info.Mode(), err)
		}
	}
}
