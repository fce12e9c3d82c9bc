package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Errors of a KernelStore.
var (
	ErrKernelNotFound  = errors.New("guest kernel not found")
	ErrKernelAmbiguous = errors.New("guest kernel name is ambiguous")
	ErrNotKernel       = errors.New("not a guest kernel")
	ErrKernelPreferred = errors.New("the configuration (boot.kernel) chooses the default kernel")
)

// Names of kernels.
const (
	// StockName is that of a kernel imported from the distribution's package.
	StockName = "stock"
	// MinimalName is that of the kernel that etc/kernel builds.
	MinimalName = "minimal"
)

const (
	kernelRecord = "kernel.json"
	kernelImage  = "vmlinux"
	bootImage    = "vmlinuz"
	modulesDir   = "modules"
	defaultFile  = "default"
	initramfsDir = "initramfs"
	sourcesDir   = "sources"
)

// Kernel is one guest kernel.
type Kernel struct {
	Name    string `json:"name"`
	Digest  string `json:"digest"`  // of the image and its modules together
	Version string `json:"version"` // as uname -r will say
	// Path is an ELF vmlinux with a PVH entry.
	Path string `json:"-"`
	// BootImage is the same kernel as a bzImage, for boot loaders; a kernel that was
	// imported from an ELF file has none.
	BootImage string `json:"-"`
	// MinMemory is the least memory in bytes with which a guest boots.
	MinMemory int64 `json:"minMemory"`
	// MPTable says that it reads the firmware's MP table, which routes interrupts in
	// ACPI's place.
	MPTable bool `json:"mpTable,omitempty"`
	// Minimal says that it was built by etc/kernel, so that what is in it is known.
	Minimal  bool      `json:"minimal,omitempty"`
	Modules  []Module  `json:"modules,omitempty"` // in load order
	Imported time.Time `json:"imported"`
}

// KernelStore keeps guest kernels and the initramfs made from them below one
// directory: a directory per kernel named by its digest, initramfs/, sources/,
// which tells what files have been imported as, and a file that names the default.
// Several processes may read and import at once.
type KernelStore struct {
	dir       string
	preferred string
	made      sync.Map // madeFrom: path of the initramfs
}

// OpenKernels opens the store in dir, which is made where it is missing.
func OpenKernels(dir string) (*KernelStore, error) {
	for _, sub := range []string{initramfsDir, sourcesDir} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, fmt.Errorf("open kernel store: %w", err)
		}
	}
	return &KernelStore{dir: dir}, nil
}

// Prefer makes ref, as Lookup takes it, the default whatever SetDefault chose; it
// is what a configuration says. Empty means nothing.
func (s *KernelStore) Prefer(ref string) { s.preferred = ref }

// List returns all kernels, the newest import last.
func (s *KernelStore) List() ([]Kernel, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list kernels: %w", err)
	}
	var kernels []Kernel
	for _, e := range entries {
		if !e.IsDir() || !isHex(e.Name()) {
			continue
		}
		k, err := s.load(e.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue // an import of another process, not yet in place or just removed
		}
		if err != nil {
			return nil, err
		}
		kernels = append(kernels, k)
	}
	slices.SortFunc(kernels, func(a, b Kernel) int { return a.Imported.Compare(b.Imported) })
	return kernels, nil
}

func (s *KernelStore) load(hex string) (Kernel, error) {
	dir := filepath.Join(s.dir, hex)
	data, err := os.ReadFile(filepath.Join(dir, kernelRecord))
	if err != nil {
		return Kernel{}, fmt.Errorf("read kernel %s: %w", hex, err)
	}
	var k Kernel
	if err := json.Unmarshal(data, &k); err != nil {
		return Kernel{}, fmt.Errorf("read kernel %s: %w", hex, err)
	}
	k.Path = filepath.Join(dir, kernelImage)
	if name := filepath.Join(dir, bootImage); isFile(name) {
		k.BootImage = name
	}
	return k, nil
}

// Lookup finds a kernel by the path of a kernel file (which is imported), by
// name, or by a prefix of its digest. The newest import wins among kernels of
// one name. Empty means the default.
func (s *KernelStore) Lookup(ctx context.Context, ref string) (Kernel, error) {
	if strings.ContainsRune(ref, '/') {
		return s.Import(ctx, ref)
	}
	if ref == "" {
		return s.Default(ctx)
	}
	kernels, err := s.List()
	if err != nil {
		return Kernel{}, err
	}
	for _, k := range slices.Backward(kernels) {
		if k.Name == ref || k.Version == ref {
			return k, nil
		}
	}
	hex := strings.TrimPrefix(ref, "sha256:")
	var found []Kernel
	for _, k := range kernels {
		if isHex(hex) && strings.HasPrefix(strings.TrimPrefix(k.Digest, "sha256:"), hex) {
			found = append(found, k)
		}
	}
	switch len(found) {
	case 0:
		return Kernel{}, fmt.Errorf("%w: %s", ErrKernelNotFound, ref)
	case 1:
		return found[0], nil
	}
	return Kernel{}, fmt.Errorf("%w: %s matches %d kernels", ErrKernelAmbiguous, ref, len(found))
}

// Default returns the preferred kernel, or else the one that SetDefault chose, or
// else the minimal kernel imported last, or else the stock kernel imported last.
func (s *KernelStore) Default(ctx context.Context) (Kernel, error) {
	if s.preferred != "" {
		return s.Lookup(ctx, s.preferred)
	}
	data, err := os.ReadFile(filepath.Join(s.dir, defaultFile))
	switch {
	case err == nil:
		return s.load(strings.TrimSpace(string(data)))
	case !errors.Is(err, fs.ErrNotExist):
		return Kernel{}, fmt.Errorf("read default kernel: %w", err)
	}
	kernels, err := s.List()
	if err != nil {
		return Kernel{}, err
	}
	for _, name := range []string{MinimalName, StockName} {
		for _, k := range slices.Backward(kernels) {
			if k.Name == name {
				return k, nil
			}
		}
	}
	return Kernel{}, fmt.Errorf("%w: no default is set, and neither a minimal nor a stock kernel is there", ErrKernelNotFound)
}

// SetDefault makes the kernel that ref names the default. It fails where another is
// preferred.
func (s *KernelStore) SetDefault(ctx context.Context, ref string) (Kernel, error) {
	if s.preferred != "" {
		return Kernel{}, fmt.Errorf("%w: %s", ErrKernelPreferred, s.preferred)
	}
	k, err := s.Lookup(ctx, ref)
	if err != nil {
		return Kernel{}, err
	}
	hex := strings.TrimPrefix(k.Digest, "sha256:")
	if err := writeFileDurably(filepath.Join(s.dir, defaultFile), []byte(hex+"\n")); err != nil {
		return Kernel{}, fmt.Errorf("set default kernel: %w", err)
	}
	return k, nil
}

func isFile(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular()
}

func isHex(s string) bool {
	return s != "" && strings.Trim(s, "0123456789abcdef") == ""
}
