package share

// Places inside the share, the one directory that a guest is given.
const (
	Tag      = "slipway"           // virtiofs tag and 9p mount tag
	SeedDir  = "seed"              // NoCloud files and the Spec
	SpecFile = "seed/process.json" // the Spec
	// ConfigureFile is the program that does what the seed asks of the root; it is
	// there only where the seed asks for something.
	ConfigureFile = "seed/slipway-configure"
	// ClassicFile is slipway-init itself, where the guest is another system's and has
	// to be given it.
	ClassicFile = "seed/slipway-init"
	// CapableFile lists files with capabilities where the root mode loses these.
	CapableFile = "seed/capable.json"

	// LeasesFile has the leases of a guest that no engine started.
	LeasesFile = "seed/leases.json"

	RootDir   = "root"    // the server's root file system
	VolumeDir = "volumes" // volumes/N is the Nth volume
)

// The statuses by which the program of ConfigureFile asks for the server's end, and
// for another boot after that.
const (
	ExitPowerOff = 10
	ExitReboot   = 11
)

// AgentPort is the name of the virtio-serial port that carries the agent.
const AgentPort = "org.slipway.agent.0"

// Kernel arguments read by slipway-init.
const (
	ArgRoot  = "slipway.root"  // slipway.root=MODE:TAG, slipway.root=block:BYTES, slipway.root=disk:GUID
	ArgShare = "slipway.share" // slipway.share=MODE:TAG, volumes beside a block root
	ArgProbe = "slipway.probe" // print ProbeLine and power off
	ArgDebug = "slipway.debug" // log each step on the console
	// ArgStandby has the guest wait, once the share is mounted, until it is assigned its
	// server; before that there is nothing in the share.
	ArgStandby = "slipway.standby"
)

// ProbeLine begins what slipway-init prints on the console under slipway.probe; the
// rest is ", N ms after the machine's start".
const ProbeLine = "slipway-init: probe ok"

// RootMode says how the root reaches the guest.
type RootMode string

// The root modes.
const (
	RootVirtioFS RootMode = "virtiofs"
	Root9P       RootMode = "9p"
	RootBlock    RootMode = "block"
	// RootDisk is that of a guest that no engine has started: it boots from a
	// self-contained disk. Without slipway.root any such disk will do.
	RootDisk RootMode = "disk"
)

// Module is a kernel module that guests may need. The initramfs carries a list
// of them, in load order, as ModuleIndex beside the files.
type Module struct {
	Name    string   `json:"name"`
	File    string   `json:"file"`
	Depends []string `json:"depends,omitempty"`
	Digest  string   `json:"digest"`
}

// Where slipway-init finds the modules inside the initramfs.
const (
	ModuleRoot  = "/lib/modules"
	ModuleIndex = "/lib/modules/index.json"
)
