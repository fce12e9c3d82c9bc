package cloudinit

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Names of the NoCloud files.
const (
	MetaDataFile      = "meta-data"
	UserDataFile      = "user-data"
	VendorDataFile    = "vendor-data"
	NetworkConfigFile = "network-config"
)

// ErrInvalid is matched by the errors of encoding and parsing.
var ErrInvalid = errors.New("invalid cloud-init data")

// MetaData is the part of meta-data that Slipway writes and reads. Unknown
// keys are allowed when reading.
type MetaData struct {
	InstanceID       string            `yaml:"instance-id"`
	LocalHostname    string            `yaml:"local-hostname,omitempty"`
	Name             string            `yaml:"name,omitempty"` // the server's, which need not be a host's
	AvailabilityZone string            `yaml:"availability-zone,omitempty"`
	ProjectID        string            `yaml:"project-id,omitempty"`
	PublicKeys       []string          `yaml:"public-keys,omitempty"`
	KeyName          string            `yaml:"-"` // of the first public key; NoCloud's keys have no names
	LaunchIndex      int               `yaml:"launch-index,omitempty"`
	Meta             map[string]string `yaml:"meta,omitempty"` // the server's metadata, as Nova's
	RandomSeed       []byte            `yaml:"-"`              // config drive only
	TaggedNICs       []TaggedNIC       `yaml:"-"`              // OpenStack's forms only
}

// TaggedNIC is an interface that was given a tag to be known by.
type TaggedNIC struct{ MAC, Tag string }

// Seed is everything that a server is told about itself.
type Seed struct {
	MetaData MetaData
	// UserData and VendorData are passed on as they are; user-data without a
	// header that cloud-init knows is the user's business.
	UserData   []byte
	VendorData []byte
	Network    *NetworkConfig // nil leaves out the file: no network
}

// NoUserData is the user-data of a seed that has none.
var NoUserData = []byte("#cloud-config\n{}\n")

// Files encodes the seed: the content of each NoCloud file by its name.
// user-data is present even when empty, since NoCloud asks for it.
func (s *Seed) Files() (map[string][]byte, error) {
	meta, err := s.MetaData.Encode()
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{MetaDataFile: meta, UserDataFile: s.UserData}
	if len(s.UserData) == 0 {
		files[UserDataFile] = NoUserData
	}
	if len(s.VendorData) > 0 {
		files[VendorDataFile] = s.VendorData
	}
	if s.Network != nil {
		if files[NetworkConfigFile], err = s.Network.Encode(); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// Encode returns the bytes of meta-data.
func (m MetaData) Encode() ([]byte, error) {
	if m.InstanceID == "" {
		return nil, fmt.Errorf("%w: meta-data without an instance-id", ErrInvalid)
	}
	if m.LocalHostname != "" && !validHostname(m.LocalHostname) {
		return nil, fmt.Errorf("%w: hostname %q", ErrInvalid, m.LocalHostname)
	}
	return marshal(m)
}

// ParseMetaData reads meta-data, written as YAML or JSON.
func ParseMetaData(data []byte) (MetaData, error) {
	var m MetaData
	if err := yaml.Unmarshal(data, &m); err != nil {
		return MetaData{}, fmt.Errorf("%w: meta-data: %w", ErrInvalid, err)
	}
	if m.LocalHostname != "" && !validHostname(m.LocalHostname) {
		return MetaData{}, fmt.Errorf("%w: meta-data: hostname %q", ErrInvalid, m.LocalHostname)
	}
	return m, nil
}

var hostLabel = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)

// validHostname accepts what RFC 1123 does, within the kernel's 64 bytes.
func validHostname(name string) bool {
	if len(name) > 64 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if !hostLabel.MatchString(label) {
			return false
		}
	}
	return true
}

func marshal(v any) ([]byte, error) {
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return out.Bytes(), nil
}
