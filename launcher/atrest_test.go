package launcher

import (
	"errors"
	"strings"
	"testing"
)

func TestOutside(t *testing.T) {
	volumes := []Volume{{Host: "/host/data", Guest: "/srv/data/"}, {Host: "/host/file", Guest: "/etc/file"}}
	for path, in := range map[string]string{
		"/srv/data": "/host/data", "/srv/data/": "/host/data", "srv/./data/x/y": "/host/data", "/etc/../etc/file": "/host/file",
		"/srv": "", "/srv/database": "", "/": "", "/etc/file2": "",
	} {
		err := outside(path, volumes)
		if in == "" {
			if err != nil {
				t.Errorf("%s: %v", path, err)
			}
			continue
		}
		if !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), in) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
