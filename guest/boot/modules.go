package boot

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/guest/share"
)

// drivers maps virtio device types (the virtio specification's numbers) to
// modules. Each module costs boot time, so only those of devices that exist
// are loaded, and only the urgent ones before the entrypoint runs.
var drivers = map[string]string{
	"0x0001": "virtio_net",
	"0x0002": "virtio_blk",
	"0x0003": "virtio_console",
	"0x0004": "virtio_rng",
	"0x0005": "virtio_balloon",
	"0x0009": "9pnet_virtio",
	"0x0013": "vmw_vsock_virtio_transport",
	"0x001a": "virtiofs",
}

// urgent modules are needed to reach the entrypoint.
var urgent = map[string]bool{
	"virtio_console": true, "virtiofs": true, "9pnet_virtio": true,
	"virtio_blk": true, "virtio_net": true,
}

// optional modules drive hardware that may be absent.
var optional = map[string]bool{"crc32c_intel": true}

// loader loads modules of the initramfs with their dependencies, each once.
type loader struct {
	index   map[string]share.Module
	cmdline cmdline

	mu    sync.Mutex
	state map[string]*loadState
}

type loadState struct {
	once sync.Once
	err  error
}

// newLoader reads the initramfs's list; a kernel without modules has none.
func newLoader(c cmdline) (*loader, error) {
	l := &loader{index: map[string]share.Module{}, cmdline: c, state: map[string]*loadState{}}
	data, err := os.ReadFile(share.ModuleIndex)
	if errors.Is(err, os.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return nil, err
	}
	var modules []share.Module
	if err := json.Unmarshal(data, &modules); err != nil {
		return nil, fmt.Errorf("%s: %w", share.ModuleIndex, err)
	}
	for _, m := range modules {
		l.index[m.Name] = m
	}
	return l, nil
}

// load inserts a module after its dependencies. A module that is not in the
// initramfs is taken to be built in.
func (l *loader) load(name string) error {
	m, ok := l.index[name]
	if !ok {
		return nil
	}
	l.mu.Lock()
	st := l.state[name]
	if st == nil {
		st = &loadState{}
		l.state[name] = st
	}
	l.mu.Unlock()
	st.once.Do(func() { st.err = l.insert(m) })
	return st.err
}

func (l *loader) insert(m share.Module) error {
	for _, dep := range m.Depends {
		if err := l.load(dep); err != nil {
			return err
		}
	}
	f, err := os.Open(filepath.Join(share.ModuleRoot, filepath.Base(m.File)))
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.FinitModule(int(f.Fd()), l.cmdline.moduleParameters(m.Name), 0)
	if err != nil && !errors.Is(err, unix.EEXIST) && !optional[m.Name] {
		return fmt.Errorf("load module %s: %w", m.Name, err)
	}
	return nil
}

// loadAll loads modules at the same time.
func (l *loader) loadAll(names []string) error {
	errs := make([]error, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() { errs[i] = l.load(name) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (g *guestState) loadModules() error {
	l, err := newLoader(g.cmdline)
	if err != nil {
		return err
	}
	g.modules = l
	if len(l.index) == 0 {
		return nil // all that the kernel has is built in
	}
	var transports []string
	if exists("/sys/bus/platform/devices/LNRO0005:*") || l.cmdline.moduleParameters("virtio_mmio") != "" {
		transports = append(transports, "virtio_mmio")
	}
	if anyContains("/sys/bus/pci/devices/*/vendor", "0x1af4") {
		transports = append(transports, "virtio_pci")
	}
	if err := l.loadAll(transports); err != nil {
		return err
	}
	var now []string
	for _, name := range presentDrivers() {
		if urgent[name] {
			now = append(now, name)
		} else {
			g.later = append(g.later, name)
		}
	}
	now = append(now, g.cmdline.fileSystems()...)
	return l.loadAll(now)
}

// loadRemaining loads what the entrypoint did not have to wait for.
func (g *guestState) loadRemaining() {
	if err := g.modules.loadAll(g.later); err != nil {
		logf("%v", err)
	}
}

func presentDrivers() []string {
	files, _ := filepath.Glob("/sys/bus/virtio/devices/*/device")
	var names []string
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		if name, ok := drivers[strings.TrimSpace(string(data))]; ok {
			names = append(names, name)
		}
	}
	return names
}

func exists(pattern string) bool {
	files, _ := filepath.Glob(pattern)
	return len(files) > 0
}

func anyContains(pattern, want string) bool {
	files, _ := filepath.Glob(pattern)
	for _, file := range files {
		if data, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(data)) == want {
			return true
		}
	}
	return false
}
