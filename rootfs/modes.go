package rootfs

// Mode is a way in which an overlay becomes a guest's root, and what the guest
// then has. All modes show the same file system: one and the same upper.img can
// be used by one mode after another.
type Mode struct {
	Name string `json:"name"`
	// How is who makes the root of layer images and upper.img, and by what it
	// reaches the guest.
	How string `json:"how"`
	// Capabilities: whether the guest sees and sets capabilities of files, and
	// other security.* attributes.
	Capabilities string `json:"file_capabilities"`
	// Attributes is the same of user.* and trusted.* attributes and ACLs.
	Attributes string `json:"extended_attributes"`
	// Devices: whether the guest can make devices, FIFOs and sockets; those of the
	// image are there in every mode.
	Devices string `json:"devices"`
	// Times is how finely times can be set.
	Times string `json:"times"`
	// Volumes is how directories of the host come in.
	Volumes string `json:"volumes"`
	// Privileges is what the host needs for it.
	Privileges string `json:"privileges"`
	// Snapshots: whether a running guest can be saved and moved.
	Snapshots string `json:"snapshots"`
}

// The names of the modes.
const (
	ModeVirtioFS = "virtiofs"
	Mode9P       = "9p"
	ModeBlock    = "block"
)

// Modes are all there are, the default first.
var Modes = []Mode{
	{
		Name: ModeVirtioFS, How: "mounted by the host, shared by virtiofsd",
		Capabilities: "yes", Attributes: "yes", Devices: "yes", Times: "nanoseconds",
		Volumes: "yes", Privileges: "root, virtiofsd", Snapshots: "no",
	},
	{
		Name: Mode9P, How: "layers shared by QEMU, laid below a virtio disk by the guest",
		Capabilities: "yes", Attributes: "of the image user.* and ACLs", Devices: "yes", Times: "nanoseconds",
		Volumes: "yes", Privileges: "root", Snapshots: "no",
	},
	{
		Name: ModeBlock, How: "mounted by the guest from virtio disks",
		Capabilities: "yes", Attributes: "yes", Devices: "yes", Times: "nanoseconds",
		Volumes: "by virtiofs or 9p, with their needs", Privileges: "none", Snapshots: "yes",
	},
}
