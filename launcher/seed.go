package launcher

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"

	"github.com/slipway-vm/slipway/cloudinit"
	"github.com/slipway-vm/slipway/cloudinit/seed"
	"github.com/slipway-vm/slipway/guest"
	"github.com/slipway-vm/slipway/launcher/domain"
	"github.com/slipway-vm/slipway/launcher/events"
)

// configDriveFile is a server's config drive, in its directory.
const configDriveFile = "config-2.iso"

// randomSeedSize is what Nova gives a config drive's random_seed, in bytes.
const randomSeedSize = 512

// validateSeed refuses a disk of the host's that is none, or has no seed.
func (s *Spec) validateSeed() error {
	if s.SeedDisk == "" {
		return nil
	}
	switch {
	case !filepath.IsAbs(s.SeedDisk):
		return errorf(ErrInvalid, "seed disk %q: not an absolute path", s.SeedDisk)
	case len(s.CloudInit) > 0 || s.WithConfigDrive:
		return errorf(ErrInvalid, "a seed disk holds the user data itself: leave out user data and config drive, or the disk")
	}
	_, err := readSeedDisk(s.SeedDisk)
	return err
}

func readSeedDisk(name string) (*cloudinit.Seed, error) {
	disk, err := os.Open(name)
	if err != nil {
		return nil, errorf(ErrInvalid, "seed disk: %v", err)
	}
	defer func() { _ = disk.Close() }()
	s, err := seed.ReadDisk(disk)
	if err != nil {
		return nil, errorf(ErrInvalid, "seed disk: %v", err)
	}
	return s, nil
}

// seedDisk is the disk by which a server is told about itself; nil, it has none.
func seedDisk(srv *Server, dir string) (*domain.Disk, error) {
	d := domain.Disk{Path: filepath.Join(dir, configDriveFile), Serial: guest.DiskSeed, Format: domain.FormatRaw, ReadOnly: true}
	switch {
	case srv.Spec.SeedDisk != "":
		d.Path = srv.Spec.SeedDisk
		if err := srv.Spec.validateSeed(); err != nil {
			return nil, err
		}
	case !srv.ConfigDrive || srv.classic(): // whose seed is a disk in any case
		return nil, nil
	}
	return &d, nil
}

// writeSeedDisk writes the config drive of a server that has one.
func (r *run) writeSeedDisk(srv *Server, data *cloudinit.Seed, _ string) error {
	if !srv.ConfigDrive {
		return nil
	}
	drive := *data
	drive.MetaData.RandomSeed = make([]byte, randomSeedSize)
	_, _ = rand.Read(drive.MetaData.RandomSeed)
	return seed.WriteDisk(filepath.Join(r.i.dir, configDriveFile), seed.ISO9660, cloudinit.ConfigDriveLabel, &drive)
}

// entropySize is how much the guest's random numbers begin with, in bytes: what
// the kernel's generator holds.
const entropySize = 32

// writeSeed writes what the guest is told, to the directory that becomes its share.
func (r *run) writeSeed(srv *Server, spec *guest.Spec, networks *cloudinit.NetworkConfig, to *shareDirectory) error {
	share := to.Name()
	spec.InstanceID = srv.ID
	spec.Restart.Count = srv.RestartCount
	spec.Entropy = make([]byte, entropySize)
	_, _ = rand.Read(spec.Entropy)
	data, err := srv.seed(spec.Hostname)
	if err != nil {
		return err
	}
	data.Network = networks
	if err := seed.Write(filepath.Join(share, guest.SeedDir), data); err != nil {
		return err
	}
	tell := []func(*Server, *cloudinit.Seed, string) error{r.writeSeedDisk, r.writeConfigure}
	if srv.classic() {
		tell = []func(*Server, *cloudinit.Seed, string) error{r.writeClassic}
	}
	for _, write := range tell {
		if err := write(srv, data, share); err != nil {
			return err
		}
	}
	return writeSpec(to, spec)
}

// writeSpec leaves the old one whole if it fails.
func writeSpec(share *shareDirectory, spec *guest.Spec) error {
	data, err := spec.Marshal()
	if err != nil {
		return err
	}
	tmp := guest.SpecFile + ".new"
	if err := share.WriteFile(tmp, data, 0o600); err != nil {
		return errors.Join(err, share.RemoveAll(tmp))
	}
	return share.Rename(tmp, guest.SpecFile)
}

// writeConfigure gives the guest the program that does what the seed asks of the
// root, where it asks for something, and tells what that program will leave out.
func (r *run) writeConfigure(srv *Server, data *cloudinit.Seed, share string) error {
	file := filepath.Join(share, guest.ConfigureFile)
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if len(data.UserData)+len(data.VendorData)+len(data.MetaData.PublicKeys) == 0 && srv.Spec.SeedDisk == "" {
		return nil
	}
	program, err := os.ReadFile(r.m.cfg.Configure)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, program, 0o700); err != nil {
		return err
	}
	if srv.Spec.SeedDisk != "" {
		if data, err = readSeedDisk(srv.Spec.SeedDisk); err != nil {
			return err
		}
	}
	for _, w := range cloudinit.ParseUserData(data.UserData, data.VendorData).Warnings {
		r.warn(w)
	}
	return nil
}

// warn tells of something that a server was asked for and does not get.
func (r *run) warn(message string) {
	r.m.log.Warn("user data not honoured", "server", r.i.id, "detail", message)
	r.m.happened(r.i, events.Warning, attributes{"message": message})
}

// seed is what a server is told about itself.
func (s *Server) seed(hostname string) (*cloudinit.Seed, error) {
	user, err := base64.StdEncoding.DecodeString(s.UserData)
	if err != nil {
		return nil, errorf(ErrInvalid, "user data is not base64: %v", err)
	}
	data := &cloudinit.Seed{UserData: user, MetaData: cloudinit.MetaData{
		InstanceID: s.ID, LocalHostname: hostname, Name: s.Name, Meta: s.Metadata,
		AvailabilityZone: first(s.Zone, "nova"), // Nova's default
		ProjectID:        s.Project, LaunchIndex: s.Index, KeyName: s.KeyName,
	}}
	if s.PublicKey != "" {
		data.MetaData.PublicKeys = []string{s.PublicKey}
	}
	for _, n := range s.NICs {
		if n.Tag != "" {
			data.MetaData.TaggedNICs = append(data.MetaData.TaggedNICs, cloudinit.TaggedNIC{MAC: n.MAC, Tag: n.Tag})
		}
	}
	data.VendorData, err = vendorData(s.Files)
	return data, err
}

// vendorData is a cloud-config that writes files. JSON is YAML.
func vendorData(files []File) ([]byte, error) {
	if len(files) == 0 {
		return nil, nil
	}
	type entry struct {
		Path     string `json:"path"`
		Encoding string `json:"encoding"`
		Content  []byte `json:"content"` // which JSON has in base64
	}
	var all []entry
	for _, f := range files {
		all = append(all, entry{f.Path, "b64", f.Content})
	}
	b, err := json.Marshal(map[string]any{"write_files": all})
	return append([]byte("#cloud-config\n"), b...), err
}
