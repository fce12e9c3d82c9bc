// Package seed writes a cloudinit.Seed where a guest finds it: as files of a
// directory that the guest mounts, or as a disk that is known by its label; and
// reads such disks.
//
// A seed that can be seen is whole: files are written beside the directory's
// and renamed into place, meta-data last, because cloud-init takes its
// presence as the sign of a seed.
package seed

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/slipway-vm/slipway/cloudinit"
)

// Write encodes the seed into dir, which is made where it is missing, and
// removes NoCloud files of an earlier seed. Other files are left alone. User
// data can hold secrets, so the files are for their owner only.
func Write(dir string, s *cloudinit.Seed) error {
	files, err := s.Files()
	if err != nil {
		return fmt.Errorf("write seed %s: %w", dir, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write seed: %w", err)
	}
	names := slices.Sorted(maps.Keys(files))
	slices.SortStableFunc(names, func(a, b string) int {
		return last(a) - last(b)
	})
	for _, name := range names {
		if err := writeFile(filepath.Join(dir, name), files[name]); err != nil {
			return fmt.Errorf("write seed: %w", err)
		}
	}
	for _, name := range []string{cloudinit.VendorDataFile, cloudinit.NetworkConfigFile} {
		if _, ok := files[name]; ok {
			continue
		}
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("write seed: %w", err)
		}
	}
	return nil
}

func last(name string) int {
	if name == cloudinit.MetaDataFile {
		return 1
	}
	return 0
}

func writeFile(name string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(name), ".seed-")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if _, err := tmp.Write(data); err != nil {
		tmp.Close()
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), name)
}
