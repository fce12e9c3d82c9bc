package launcher

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A file that is appended to all the while takes little of the disk, and its end
// is as it was written.
func TestDropFront(t *testing.T) {
	const limit = 64 << 10
	name := filepath.Join(t.TempDir(), consoleFile)
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	line := bytes.Repeat([]byte("0123456789abcde\n"), 512)
	for range 64 {
		if _, err := f.Write(line); err != nil {
			t.Fatal(err)
		}
		if err := dropFront(name, limit); err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Stat(name, &st); err != nil {
			t.Fatal(err)
		}
		if st.Blocks*512 > limit {
			t.Fatalf("%d bytes written: it takes %d", st.Size, st.Blocks*512)
		}
	}
	got, err := tail(name, limit/2-4096)
	if err != nil || !bytes.Equal(got, bytes.Repeat(line, 8)[len(line)*8-len(got):]) {
		t.Errorf("the end: %d bytes, %v", len(got), err)
	}
	if err := dropFront(name+".not", limit); err != nil {
		t.Error(err)
	}
}
