package disk

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/diskfs/go-diskfs/partition/gpt"

	"github.com/slipway-vm/slipway/rootfs/erofs"
)

// tree is a file system of one empty directory.
type tree struct{}

func (tree) Dirs() int                           { return 1 }
func (tree) Dir(int) (erofs.Attr, int, bool)     { return erofs.Attr{Mode: erofs.ModeDir | 0o755}, 0, true }
func (tree) Entries(int) iter.Seq[erofs.Entry]   { return func(func(erofs.Entry) bool) {} }
func (tree) Links() iter.Seq2[erofs.NID, uint32] { return func(func(erofs.NID, uint32) bool) {} }

func testSpec(layout Layout) Spec {
	return Spec{
		Layout: layout, ID: [16]byte{1, 2, 3}, CommandLine: "console=ttyS0",
		Kernel: bytes.Repeat([]byte("kernel"), 1e6), Initramfs: bytes.Repeat([]byte("initramfs"), 5e5), Seed: []byte("seed"),
		Base: func(w io.WriterAt) (int64, error) {
			image, err := erofs.NewWriter(w, [16]byte{1}).Finish(tree{})
			return image.Size, err
		},
	}
}

func write(t *testing.T, s Spec) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := Write(t.Context(), f, s); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// output runs a program that must be there.
func output(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func digest(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(b))
}

// What other programs read of a disk is what was written to it.
func TestWrite(t *testing.T) {
	partitions := map[Layout]int{LayoutBIOS: 5, LayoutUEFI: 4, LayoutBoth: 5, LayoutNone: 3}
	for _, layout := range Layouts {
		t.Run(string(layout), func(t *testing.T) {
			t.Parallel()
			s := testSpec(layout)
			name := write(t, s)
			if out := output(t, "sgdisk", "--verify", name); !strings.Contains(out, "No problems found") {
				t.Errorf("sgdisk: %s", out)
			}
			if out := output(t, "sfdisk", "--dump", name); strings.Count(out, "start=") != partitions[layout] {
				t.Errorf("sfdisk: %s", out)
			}
			parts := extract(t, name)
			output(t, "fsck.erofs", parts[BaseName])
			output(t, "e2fsck", "-f", "-n", parts[UpperName])
			if b, err := os.ReadFile(parts["slipway-seed"]); err != nil || !bytes.HasPrefix(b, s.Seed) {
				t.Errorf("seed: %v", err)
			}
			if layout == LayoutNone {
				return
			}
			esp := parts["EFI system"]
			output(t, "fsck.fat", "-n", "-v", esp)
			for file, want := range map[string][]byte{kernelFile: s.Kernel, initramfsFile: s.Initramfs} {
				if got := output(t, "mtype", "-i", esp, "::"+file); got != string(want) {
					t.Errorf("%s has %d bytes of other content", file, len(got))
				}
			}
			loader := output(t, "mdir", "-b", "-i", esp, "::/")
			if got := strings.Contains(loader, "EFI"); got != (layout != LayoutBIOS) {
				t.Errorf("files: %s", loader)
			}
		})
	}
}

// extract makes a file of each partition, by name.
func extract(t *testing.T, name string) map[string]string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	table, err := gpt.Read(f, sectorSize, sectorSize)
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string]string{}
	for _, p := range table.Partitions {
		b := make([]byte, p.Size)
		if _, err := f.ReadAt(b, int64(p.Start)*sectorSize); err != nil {
			t.Fatal(err)
		}
		part := filepath.Join(t.TempDir(), "part")
		if err := os.WriteFile(part, b, 0o600); err != nil {
			t.Fatal(err)
		}
		parts[p.Name] = part
	}
	return parts
}

// The same disk is the same bytes, whenever and wherever it is made.
func TestReproducible(t *testing.T) {
	first := write(t, testSpec(LayoutBoth))
	time.Sleep(2100 * time.Millisecond) // FAT's times have two seconds
	t.Setenv("TZ", "Asia/Tokyo")
	t.Setenv("LANG", "de_DE.UTF-8")
	second := write(t, testSpec(LayoutBoth))
	if a, b := digest(t, first), digest(t, second); a != b {
		t.Errorf("%s, and then %s", a, b)
		fmt.Println(output(t, "sh", "-c", "cmp -l "+first+" "+second+" | head -n 20"))
	}
	other := testSpec(LayoutBoth)
	other.ID[0]++
	if digest(t, first) == digest(t, write(t, other)) {
		t.Error("another ID makes the same disk")
	}
}

func TestSize(t *testing.T) {
	s := testSpec(LayoutNone)
	s.Size = 200<<20 + 5
	name := write(t, s)
	info, err := os.Stat(name)
	if err != nil || info.Size() != 200<<20 {
		t.Errorf("%v, %v", info, err)
	}
	output(t, "e2fsck", "-f", "-n", extract(t, name)[UpperName])
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s.Size = 10 << 20
	if err := Write(t.Context(), f, s); !errors.Is(err, ErrSize) {
		t.Errorf("too small: %v", err)
	}
	s.Layout = "floppy"
	if err := Write(t.Context(), f, s); !errors.Is(err, ErrLayout) {
		t.Errorf("unknown layout: %v", err)
	}
}
