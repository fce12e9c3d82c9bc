package cloudinit

import (
	"errors"
	"fmt"
	"io/fs"
)

// ParseNoCloud reads NoCloud's files: meta-data and user-data, and those that may be
// missing.
func ParseNoCloud(seed fs.FS) (*Seed, error) {
	data, err := readSeedFile(seed, MetaDataFile)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	s := new(Seed)
	if s.MetaData, err = ParseMetaData(data); err != nil {
		return nil, err
	}
	read := func(name string) (data []byte) {
		if err == nil {
			if data, err = readSeedFile(seed, name); errors.Is(err, fs.ErrNotExist) {
				data, err = nil, nil
			}
		}
		return data
	}
	s.UserData, s.VendorData = read(UserDataFile), read(VendorDataFile)
	network := read(NetworkConfigFile)
	if err != nil || len(network) == 0 {
		return s, err
	}
	s.Network, err = ParseNetworkConfig(network)
	return s, err
}

// ParseSeed reads the seed of a disk by its label: a config drive's, or NoCloud's.
func ParseSeed(label string, disk fs.FS) (*Seed, error) {
	if label == ConfigDriveLabel {
		return ParseConfigDrive(disk)
	}
	return ParseNoCloud(disk)
}
