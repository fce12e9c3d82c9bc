package catalog

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/slipway-vm/slipway/launcher/compute"
)

// Status is how far an image is.
type Status string

const (
	Queued      Status = "queued"
	Saving      Status = "saving"
	Uploading   Status = "uploading" // staged, for an import
	Importing   Status = "importing"
	Active      Status = "active"
	Deactivated Status = "deactivated"
)

// Visibilities of an image.
const (
	Public    = "public"
	Private   = "private"
	Shared    = "shared" // with its members
	Community = "community"
)

// Container is the container format of what can be booted.
const Container = "docker"

// Image is an image of the image service.
type Image struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Status     Status `json:"status"`
	Owner      string `json:"owner,omitempty"` // project
	Visibility string `json:"visibility"`
	Container  string `json:"container_format,omitempty"`
	Disk       string `json:"disk_format,omitempty"`
	MinDisk    int    `json:"min_disk,omitempty"` // GiB
	MinRAM     int    `json:"min_ram,omitempty"`  // MiB
	Protected  bool   `json:"protected,omitempty"`
	Hidden     bool   `json:"hidden,omitempty"`

	Tags       []string          `json:"tags,omitempty"`
	Properties map[string]string `json:"properties,omitempty"`
	// Members are projects, and what they say to it.
	Members map[string]Member `json:"members,omitempty"`

	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`

	Size     int64  `json:"size,omitempty"`
	Checksum string `json:"checksum,omitempty"` // MD5
	Hash     string `json:"hash,omitempty"`     // SHA-512
	Data     bool   `json:"data,omitempty"`     // it has a file of its own

	// Reference is what the launcher boots; Digest is of its manifest.
	Reference string `json:"reference,omitempty"`
	Digest    string `json:"digest,omitempty"`
	Arch      string `json:"arch,omitempty"`
	// Pulled: the launcher has it; else it is fetched when a server is made from it.
	Pulled bool `json:"pulled,omitempty"`
	// Foreign: it is another image service's, and is only shown.
	Foreign bool `json:"-"`
	// Adopted: it was there by its reference, and does not go with its record.
	Adopted bool `json:"adopted,omitempty"`
	// FailedImport: the last import into it has failed.
	FailedImport bool `json:"failed_import,omitempty"`
}

// Member is a project that an image is shared with.
type Member struct {
	Status  string    `json:"status"` // pending, accepted or rejected
	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`
}

// clone makes a copy that can be changed.
func (i Image) clone() Image {
	i.Tags, i.Properties, i.Members = slices.Clone(i.Tags), maps.Clone(i.Properties), maps.Clone(i.Members)
	return i
}

// Caller is who asks.
type Caller struct {
	Project string
	Admin   bool
}

// owns says whether a caller may change an image.
func (c Caller) owns(i Image) bool { return c.Admin || i.Owner != "" && i.Owner == c.Project }

// sees says whether a caller may know of an image.
func (c Caller) sees(i Image) bool {
	_, member := i.Members[c.Project]
	return c.owns(i) || i.Visibility == Public || i.Visibility == Community || i.Visibility == Shared && member
}

// Lists says whether an image is in a caller's list where that is to show a
// visibility ("" and "all" are every one), and members' images of a status.
func (c Caller) Lists(i Image, visibility, member string) bool {
	m, shared := i.Members[c.Project]
	switch {
	case visibility != "" && visibility != "all" && visibility != i.Visibility:
		return false
	case i.Visibility == Public, c.owns(i) && (!c.Admin || i.Owner == c.Project):
		return true
	case i.Visibility == Community:
		return visibility == Community || visibility == "all"
	case i.Visibility == Shared && shared:
		return member == "all" || m.Status == member || member == "" && m.Status == "accepted"
	}
	return c.Admin
}

// referred is an image of the launcher that is in no catalog.
func referred(x compute.Image) Image {
	i := Image{
		ID: x.ID, Name: x.Name, Status: Active, Visibility: Public, Container: Container, Disk: "raw", Size: x.Size,
		Created: x.Created, Updated: x.Updated, Reference: x.Reference, Digest: x.Digest, Arch: x.Arch, Pulled: x.Ready, Adopted: true,
	}
	if machine, ok := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[x.Arch]; ok {
		i.Arch = machine
	}
	if x.Glance {
		i.Foreign, i.Visibility, i.Owner = true, x.Visibility, x.Owner
	}
	return i
}

// ofFile says whether a reference is of a file of this host.
func ofFile(reference string) bool {
	return strings.HasPrefix(reference, "docker-archive:") || strings.HasPrefix(reference, "oci-archive:")
}
