package guest

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

type moduleFile struct {
	Module
	data []byte
}

// wantedModules names what a guest may need and the stock kernel does not
// build in. slipway-init loads those that the devices and the root mode at
// hand ask for.
func wantedModules() []string {
	return []string{
		"virtio_mmio", "virtio_pci",
		"virtio_blk", "virtio_console", "virtio_net", "virtio_rng", "virtio_balloon",
		"vmw_vsock_virtio_transport",
		"virtiofs", "9p", "9pnet_virtio",
		"overlay", "ext4", "erofs", "isofs", "loop",
	}
}

// usualDependencies are what the modules above need on Debian 12, wanted from
// the start so that one pass over the package is enough.
var usualDependencies = []string{
	"virtio", "virtio_ring", "virtio_pci_modern_dev", "virtio_pci_legacy_dev",
	"net_failover", "failover", "vsock", "vmw_vsock_virtio_transport_common",
	"fuse", "9pnet", "netfs", "fscache",
	"jbd2", "mbcache", "crc16", "crc32c_generic", "crc32c_intel", "libcrc32c",
	"lz4_decompress", "cdrom",
}

// unrecordedDependencies are asked for at run time by name (libcrc32c looks up
// the crypto algorithm "crc32c"), so the module's own list does not show them.
var unrecordedDependencies = map[string][]string{
	"libcrc32c": {"crc32c_generic", "crc32c_intel"},
	"ext4":      {"crc32c_generic", "crc32c_intel"},
	"jbd2":      {"crc32c_generic", "crc32c_intel"},
}

func isModule(base string) bool { return strings.HasSuffix(base, ".ko") }

// moduleName is the kernel's name of a module file: dashes are underscores.
func moduleName(base string) string {
	return strings.ReplaceAll(strings.TrimSuffix(base, ".ko"), "-", "_")
}

// parseModule reads a module's dependencies from its .modinfo section.
func parseModule(base string, data []byte) (moduleFile, error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return moduleFile{}, fmt.Errorf("module %s: %w", base, err)
	}
	defer f.Close()
	section := f.Section(".modinfo")
	if section == nil {
		return moduleFile{}, fmt.Errorf("module %s: no .modinfo section", base)
	}
	info, err := section.Data()
	if err != nil {
		return moduleFile{}, fmt.Errorf("module %s: %w", base, err)
	}
	sum := sha256.Sum256(data)
	m := moduleFile{data: data, Module: Module{
		Name:   moduleName(base),
		File:   base,
		Digest: "sha256:" + hex.EncodeToString(sum[:]),
	}}
	for field := range strings.SplitSeq(string(info), "\x00") {
		if deps, ok := strings.CutPrefix(field, "depends="); ok && deps != "" {
			for dep := range strings.SplitSeq(deps, ",") {
				m.Depends = append(m.Depends, moduleName(dep))
			}
		}
	}
	return m, nil
}

func missingDependencies(modules []moduleFile) []string {
	have := map[string]bool{}
	for _, m := range modules {
		have[m.Name] = true
	}
	var missing []string
	for _, m := range modules {
		for _, dep := range m.Depends {
			if !have[dep] {
				missing = append(missing, dep)
			}
		}
	}
	return missing
}

// orderModules sorts modules so that each comes after what it depends on, and
// leaves out those that no wanted module needs. The order is a function of the
// set alone, so that the same package makes the same kernel.
func orderModules(modules []moduleFile) ([]moduleFile, error) {
	byName := map[string]moduleFile{}
	for _, m := range modules {
		for _, dep := range unrecordedDependencies[m.Name] {
			if slices.ContainsFunc(modules, func(o moduleFile) bool { return o.Name == dep }) {
				m.Depends = append(m.Depends, dep)
			}
		}
		byName[m.Name] = m
	}
	var order []moduleFile
	state := map[string]int{} // 1 being visited, 2 placed
	var visit func(name string) error
	visit = func(name string) error {
		switch state[name] {
		case 1:
			return fmt.Errorf("module %s depends on itself", name)
		case 2:
			return nil
		}
		m, ok := byName[name]
		if !ok {
			return fmt.Errorf("module %s is missing", name)
		}
		state[name] = 1
		for _, dep := range m.Depends {
			if err := visit(dep); err != nil {
				return fmt.Errorf("module %s: %w", m.Name, err)
			}
		}
		state[name] = 2
		order = append(order, m)
		return nil
	}
	for _, name := range wantedModules() {
		if _, ok := byName[name]; !ok {
			continue // built in, or a kernel without it
		}
		if err := visit(name); err != nil {
			return nil, err
		}
	}
	return order, nil
}

func moduleMemory(modules []moduleFile) int64 {
	var n int64
	for _, m := range modules {
		n += int64(len(m.data))
	}
	return n
}
