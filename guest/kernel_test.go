package guest

import (
	"bytes"
	"debug/elf"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func writeTree(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	for name, data := range files {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// testDeb builds a linux-image package.
func testDeb(t *testing.T, files map[string][]byte) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "pkg")
	writeTree(t, dir, files)
	writeTree(t, dir, map[string][]byte{"DEBIAN/control": []byte(
		"Package: linux-image-test\nVersion: 1\nArchitecture: amd64\nMaintainer: x <x@example.org>\nDescription: x\n")})
	deb := filepath.Join(t.TempDir(), "linux-image.deb")
	if out, err := exec.Command("dpkg-deb", "-Zgzip", "--build", dir, deb).CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb: %v: %s", err, out)
	}
	return deb
}

func openStore(t *testing.T) *KernelStore {
	t.Helper()
	s, err := OpenKernels(filepath.Join(t.TempDir(), "kernels"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestImportDeb(t *testing.T) {
	const dir = "lib/modules/6.1.0-test/kernel/"
	deb := testDeb(t, map[string][]byte{
		"boot/vmlinuz-6.1.0-test":          testBzImage(t, testVmlinux(t, "6.1.0-test")),
		"boot/System.map":                  []byte("x"),
		dir + "drivers/virtio-rng.ko":      testModule(t, ""),
		dir + "fs/fuse/virtiofs.ko":        testModule(t, "fuse,odd-dependency"),
		dir + "fs/fuse/fuse.ko":            testModule(t, ""),
		dir + "fs/ext4/ext4.ko":            testModule(t, "jbd2"),
		dir + "fs/jbd2/jbd2.ko":            testModule(t, ""),
		dir + "crypto/crc32c_generic.ko":   testModule(t, ""),
		dir + "aaa/odd-dependency.ko":      testModule(t, "deeper"),
		dir + "aaa/deeper.ko":              testModule(t, ""),
		dir + "drivers/gpu/huge-driver.ko": testModule(t, "nothing_there"),
		dir + "lib/lz4_decompress.ko":      testModule(t, ""), // usual, but not needed by this erofs
	})
	s := openStore(t)
	k, err := s.Import(t.Context(), deb)
	if err != nil {
		t.Fatal(err)
	}
	if k.Name != StockName || k.Version != "6.1.0-test" || k.MinMemory < 8<<20 {
		t.Errorf("kernel %+v", k)
	}
	var order []string
	for _, m := range k.Modules {
		order = append(order, m.Name)
	}
	want := []string{"virtio_rng", "fuse", "deeper", "odd_dependency", "virtiofs", "crc32c_generic", "jbd2", "ext4"}
	if !slices.Equal(order, want) {
		t.Errorf("modules %v, want %v", order, want)
	}
	image, err := os.ReadFile(k.Path)
	if err != nil || !bytes.Equal(image, testVmlinux(t, "6.1.0-test")) {
		t.Errorf("image of %d bytes differs, err %v", len(image), err)
	}
	if boot, err := os.ReadFile(k.BootImage); err != nil || !isBzImage(boot) {
		t.Errorf("bzImage of %d bytes, err %v", len(boot), err)
	}
	again, err := s.Import(t.Context(), deb)
	if err != nil || again.Digest != k.Digest || !again.Imported.Equal(k.Imported) {
		t.Errorf("imported again: %+v, err %v", again, err)
	}
	if left, _ := filepath.Glob(filepath.Join(s.dir, ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A kernel that was imported without its bzImage gets it with the next import.
func TestImportBootImage(t *testing.T) {
	dir := t.TempDir()
	vmlinux := testVmlinux(t, "6.1.1")
	writeTree(t, dir, map[string][]byte{"elf/minimal": vmlinux, "bz/minimal": testBzImage(t, vmlinux)})
	s := openStore(t)
	k, err := s.Import(t.Context(), filepath.Join(dir, "elf/minimal"))
	if err != nil || k.BootImage != "" {
		t.Fatalf("imported %+v, err %v", k, err)
	}
	again, err := s.Import(t.Context(), filepath.Join(dir, "bz/minimal"))
	if err != nil || again.Digest != k.Digest || !isFile(again.BootImage) {
		t.Errorf("imported %+v, err %v", again, err)
	}
	if found, err := s.Lookup(t.Context(), "minimal"); err != nil || found.BootImage != again.BootImage {
		t.Errorf("found %+v, err %v", found, err)
	}
}

func TestImportRefuses(t *testing.T) {
	elfWithoutNote := elfFile(t, elf.ET_EXEC, elf.EM_X86_64, nil, ".rodata", []byte("Linux version 1 "))
	arm := elfFile(t, elf.ET_EXEC, elf.EM_AARCH64, note("Xen", pvhNote, nil), ".rodata", []byte("Linux version 1 "))
	cut := testBzImage(t, testVmlinux(t, "1"))
	dir := t.TempDir()
	for name, data := range map[string][]byte{
		"empty":        {},
		"text":         []byte("#!/bin/sh\necho hello, this is no kernel\n"),
		"no PVH":       elfWithoutNote,
		"other arch":   arm,
		"a module":     testModule(t, ""),
		"cut bzImage":  cut[:len(cut)-100],
		"not really":   testBzImage(t, []byte("something else")),
		"no version":   elfFile(t, elf.ET_EXEC, elf.EM_X86_64, note("Xen", pvhNote, nil), ".rodata", []byte("x")),
		"endless note": elfFile(t, elf.ET_EXEC, elf.EM_X86_64, []byte("\xff\xff\xff\xff\xff\xff\xff\xff\x12\x00\x00\x00"), ".rodata", nil),
	} {
		file := filepath.Join(dir, "kernel")
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
		s := openStore(t)
		if k, err := s.Import(t.Context(), file); !errors.Is(err, ErrNotKernel) {
			t.Errorf("%s: %+v, err %v", name, k, err)
		}
		if kernels, err := s.List(); len(kernels) > 0 || err != nil {
			t.Errorf("%s: left %v, err %v", name, kernels, err)
		}
	}
	deb := testDeb(t, map[string][]byte{"usr/share/doc/x": []byte("x")})
	if _, err := openStore(t).Import(t.Context(), deb); !errors.Is(err, ErrNotKernel) {
		t.Errorf("package without a kernel: %v", err)
	}
	if _, err := openStore(t).Import(t.Context(), filepath.Join(dir, "nothing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

func TestLookup(t *testing.T) {
	ctx := t.Context()
	s := openStore(t)
	if _, err := s.Lookup(ctx, ""); !errors.Is(err, ErrKernelNotFound) {
		t.Errorf("default of an empty store: %v", err)
	}
	dir := t.TempDir()
	writeTree(t, dir, map[string][]byte{
		"vmlinux": testVmlinux(t, "6.1.1"), "minimal": testVmlinux(t, "6.1.2"),
	})
	stock, err := s.Import(ctx, testDeb(t, map[string][]byte{"boot/vmlinuz-x": testBzImage(t, testVmlinux(t, "6.1.0"))}))
	if err != nil {
		t.Fatal(err)
	}
	minimal, err := s.Lookup(ctx, filepath.Join(dir, "minimal"))
	if err != nil {
		t.Fatal(err)
	}
	for ref, want := range map[string]string{
		"":                       minimal.Digest,
		"stock":                  stock.Digest,
		"6.1.0":                  stock.Digest,
		"minimal":                minimal.Digest,
		minimal.Digest:           minimal.Digest,
		minimal.Digest[:7+12]:    minimal.Digest,
		stock.Digest[7 : 7+10]:   stock.Digest,
		dir + "/minimal":         minimal.Digest,
		dir + "/../" + "nowhere": "",
		"other":                  "",
		"../" + StockName:        "",
	} {
		k, err := s.Lookup(ctx, ref)
		if (want == "") != (err != nil) || k.Digest != want {
			t.Errorf("%q: %s, err %v, want %s", ref, k.Digest, err, want)
		}
	}
	if _, err := s.SetDefault(ctx, "stock"); err != nil {
		t.Fatal(err)
	}
	if k, err := s.Lookup(ctx, ""); err != nil || k.Digest != stock.Digest {
		t.Errorf("default %s, err %v", k.Digest, err)
	}
	if _, err := s.SetDefault(ctx, "nothing"); !errors.Is(err, ErrKernelNotFound) {
		t.Errorf("set an unknown default: %v", err)
	}
	kernels, err := s.List()
	if err != nil || len(kernels) != 2 {
		t.Errorf("list %v, err %v", kernels, err)
	}
}

func TestInitramfs(t *testing.T) {
	s := openStore(t)
	k, err := s.Import(t.Context(), testDeb(t, map[string][]byte{
		"boot/vmlinuz-x":              testBzImage(t, testVmlinux(t, "6.1.0")),
		"lib/modules/x/virtio_net.ko": testModule(t, ""),
	}))
	if err != nil {
		t.Fatal(err)
	}
	init := filepath.Join(t.TempDir(), "slipway-init")
	if err := os.WriteFile(init, []byte("init"), 0o755); err != nil {
		t.Fatal(err)
	}
	first, err := s.Initramfs(t.Context(), k, init)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	second, err := s.Initramfs(t.Context(), k, init)
	if err != nil || second != first {
		t.Errorf("made again: %s, err %v", second, err)
	}
	other, err := openStore(t).Initramfs(t.Context(), k, init)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := os.ReadFile(other); err != nil || !bytes.Equal(again, data) {
		t.Errorf("built twice, the bytes differ, err %v", err)
	}
	if err := os.WriteFile(init, []byte("other"), 0o755); err != nil {
		t.Fatal(err)
	}
	if third, err := s.Initramfs(t.Context(), k, init); err != nil || third == first {
		t.Errorf("another init gives %s, err %v", third, err)
	}
	listing := cpioList(t, data)
	want := "dev 40755|dev/console 20600|init 100755|lib 40755|lib/modules 40755|" +
		"lib/modules/index.json 100644|lib/modules/virtio_net.ko 100644|proc 40755|run 40755|sys 40755"
	if listing != want {
		t.Errorf("archive holds %s, want %s", listing, want)
	}
	if _, err := s.Initramfs(t.Context(), k, init+".missing"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing init: %v", err)
	}
}

// cpioList reads an archive back with Python-like means of its own: by the
// format's fixed offsets.
func cpioList(t *testing.T, data []byte) string {
	t.Helper()
	var names []string
	for {
		field := func(i int) int {
			n := 0
			for _, c := range string(data[6+8*i : 6+8*i+8]) {
				n = n*16 + strings.IndexRune("0123456789abcdef", c)
			}
			return n
		}
		if string(data[:6]) != "070701" {
			t.Fatalf("bad magic %q", data[:6])
		}
		mode, size, nameLen := field(1), field(6), field(11)
		name := string(data[110 : 110+nameLen-1])
		if name == "TRAILER!!!" {
			break
		}
		names = append(names, name+" "+octal(mode))
		data = data[(110+nameLen+3)&^3:]
		data = data[(size+3)&^3:]
	}
	slices.Sort(names)
	return strings.Join(names, "|")
}

func octal(n int) string {
	if n < 8 {
		return string(rune('0' + n))
	}
	return octal(n/8) + string(rune('0'+n%8))
}

func TestOrderModulesRefusesCycles(t *testing.T) {
	a := moduleFile{Module: Module{Name: "overlay", Depends: []string{"b"}}}
	b := moduleFile{Module: Module{Name: "b", Depends: []string{"overlay"}}}
	if order, err := orderModules([]moduleFile{a, b}); err == nil {
		t.Errorf("order %v", order)
	}
}
