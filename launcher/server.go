package launcher

import (
	"context"
	"time"

	"github.com/slipway-vm/slipway/guest"
	"github.com/slipway-vm/slipway/guest/agent"
	"github.com/slipway-vm/slipway/launcher/domain"
)

// Flavor is a server's size. A server keeps its own, whatever becomes of the flavor
// that it was made by.
type Flavor struct {
	ID     string `json:"id,omitempty"` // where Nova's API gave it; else the name is meant
	Name   string `json:"name"`
	VCPUs  int    `json:"vcpus"`
	Memory int64  `json:"memory"` // bytes
	Disk   int64  `json:"disk"`   // bytes that the server may write to its root

	Ephemeral  int64             `json:"ephemeral,omitempty"` // bytes
	Swap       int64             `json:"swap,omitempty"`      // bytes
	ExtraSpecs map[string]string `json:"extra_specs,omitempty"`
}

// The extra specs of flavors that say how a server boots, where its request does
// not.
const (
	SpecRootMode = "slipway:root_mode"
	SpecKernel   = "slipway:kernel"        // name, digest or file
	SpecInitMode = "slipway:init_mode"     // also a label of images
	SpecBaseVM   = "slipway:base_vm_image" // path
)

// Volume is a host directory in a server.
type Volume struct {
	Host     string `json:"host"`  // absolute
	Guest    string `json:"guest"` // absolute, in the server's root
	ReadOnly bool   `json:"read_only,omitempty"`
}

// Exit is how a server's entrypoint ended.
type Exit struct {
	// Code is the exit status as a shell gives it: 128+n after signal n, 126 and
	// 127 where the command could not be run, 125 where Slipway failed.
	Code int `json:"code"`
	// Signal is the signal that ended the entrypoint, 0 where none did.
	Signal int `json:"signal,omitempty"`
	// Reason says why there is no entrypoint's own status.
	Reason    string `json:"reason,omitempty"`
	OOMKilled bool   `json:"oom_killed,omitempty"`
	// Asked says that the server was stopped; else its entrypoint ended by itself.
	Asked bool      `json:"asked,omitempty"`
	At    time.Time `json:"at"`
}

// Spec is what a user asks of a server. The image's own configuration fills what
// is nil or empty.
type Spec struct {
	Name  string `json:"name"`
	Image string `json:"image"` // reference

	Flavor string `json:"flavor,omitempty"`
	// Size is a flavor itself, in place of the name of a configured one.
	Size   *Flavor `json:"size,omitempty"`
	VCPUs  int     `json:"vcpus,omitempty"`  // over the flavor's
	Memory int64   `json:"memory,omitempty"` // bytes, over the flavor's
	Disk   int64   `json:"disk,omitempty"`   // bytes, over the flavor's

	Entrypoint *[]string `json:"entrypoint,omitempty"` // empty: none
	Command    []string  `json:"command,omitempty"`
	Env        []string  `json:"env,omitempty"` // NAME=VALUE
	Dir        string    `json:"dir,omitempty"`
	User       string    `json:"user,omitempty"`
	Hostname   string    `json:"hostname,omitempty"`
	// Stdin gives the entrypoint an input that attaching reaches; TTY makes it, and
	// its output, a terminal.
	Stdin   bool     `json:"stdin,omitempty"`
	TTY     bool     `json:"tty,omitempty"`
	Volumes []Volume `json:"volumes,omitempty"`

	// Nameservers, DNSSearch and DNSOptions become the server's resolv.conf, Hosts
	// lines of its hosts.
	Nameservers []string     `json:"nameservers,omitempty"`
	DNSSearch   []string     `json:"dns_search,omitempty"`
	DNSOptions  []string     `json:"dns_options,omitempty"`
	Hosts       []guest.Host `json:"hosts,omitempty"`
	// Networks are the server's interfaces; the default network where nil.
	Networks []NetworkRequest `json:"networks,omitempty"`
	Publish  []Publish        `json:"publish,omitempty"`
	// Options are docker's; the guest sees to them.
	guest.Options
	Labels map[string]string `json:"labels,omitempty"`

	RootMode string `json:"root_mode,omitempty"`
	Kernel   string `json:"kernel,omitempty"`
	Pull     string `json:"pull,omitempty"` // missing, always or never
	// InitMode says what the entrypoint is; empty: what the image says, or its
	// entrypoint's name.
	InitMode guest.InitMode `json:"init_mode,omitempty"`
	// BaseVMImage is a cloud image of the host's, qcow2 or raw, that the server's guest
	// is to be; empty or NoBaseVMImage: the guest is slipway-init's.
	BaseVMImage string `json:"base_vm_image,omitempty"`

	// LogBytes bounds one file of the output log, 0 being no bound; LogFiles is how
	// many there may be.
	LogBytes *int64 `json:"log_bytes,omitempty"`
	LogFiles int    `json:"log_files,omitempty"`

	// StopSignal, a name or a number, is used in place of the image's.
	StopSignal string `json:"stop_signal,omitempty"`
	// StopGrace is how long the entrypoint has between its stop signal and its end.
	StopGrace *time.Duration `json:"stop_grace,omitempty"`
	// Timeout ends the server, as stopping does, when it has run that long; 0: never.
	Timeout time.Duration `json:"timeout,omitempty"`
	// AutoRemove deletes the server once it has ended.
	AutoRemove bool `json:"auto_remove,omitempty"`
	// CloudInit is user-data for cloud-init; the server's Details keep it, and whether
	// there is a config drive.
	CloudInit       []byte `json:"cloud_init,omitempty"`
	WithConfigDrive bool   `json:"with_config_drive,omitempty"`
	// SeedDisk is a disk image of the host's, labelled cidata or config-2, that the
	// server is told about itself by.
	SeedDisk string `json:"seed_disk,omitempty"`
	// Preload are disks of the host's with images that the server's container engine
	// finds; see [Manager.Preload].
	Preload []string `json:"preload,omitempty"`
	// RemoveFailed deletes a server that did not get as far as its entrypoint when
	// it was first booted.
	RemoveFailed bool `json:"remove_failed,omitempty"`
}

// Server is the record of one server. What it says of the past and of intent is
// true; power state is the hypervisor's to tell.
type Server struct {
	ID   string `json:"id"` // UUID
	Name string `json:"name"`
	Spec Spec   `json:"spec"`
	// Project and User are whose server it is, and Group the server group that it is
	// in; empty for those of the local socket.
	Project string `json:"project,omitempty"`
	User    string `json:"user,omitempty"`
	Group   string `json:"group,omitempty"`
	Details

	VMState   VMState   `json:"vm_state"`
	TaskState TaskState `json:"task_state"`
	// Step is what a spawning server is at, for progress displays.
	Step string `json:"step,omitempty"`
	// Fault says why the server is in VMError or why its boot failed.
	Fault string `json:"fault,omitempty"`
	// FaultCode is the exit status that a failed boot stands for.
	FaultCode int       `json:"fault_code,omitempty"`
	FaultAt   time.Time `json:"fault_at,omitzero"`
	// Power is what the hypervisor said last.
	Power PowerState `json:"power_state"`

	ImageDigest string `json:"image_digest,omitempty"` // manifest
	ImageID     string `json:"image_id,omitempty"`
	Flavor      Flavor `json:"flavor"`
	// OtherFlavor is, of a server that is being resized, the flavor to come, and of
	// one that has been, the flavor before.
	OtherFlavor *Flavor `json:"other_flavor,omitempty"`
	// Again says that a server that is being reworked is to boot after that.
	Again    bool          `json:"again,omitempty"`
	Kernel   string        `json:"kernel,omitempty"`        // name
	KernelID string        `json:"kernel_digest,omitempty"` // digest
	Machine  guest.Machine `json:"machine,omitempty"`
	Accel    guest.Accel   `json:"accel,omitempty"`
	RootMode string        `json:"root_mode,omitempty"`
	// InitMode is what the entrypoint has turned out to be.
	InitMode guest.InitMode `json:"init_mode,omitempty"`

	// Standby says that a guest stands by that has not been told yet of the server.
	Standby bool `json:"standby,omitempty"`

	NICs      []NIC     `json:"nics,omitempty"`
	Published []Publish `json:"published,omitempty"` // while it runs

	Created  time.Time `json:"created"`
	Launched time.Time `json:"launched,omitzero"` // of the current or latest run
	// FirstLaunched is when the server first ran.
	FirstLaunched time.Time `json:"first_launched,omitzero"`
	Updated       time.Time `json:"updated"`
	Terminated    time.Time `json:"terminated,omitzero"`
	// Run counts the server's starts, from 1.
	Run  int   `json:"run"`
	Exit *Exit `json:"exit,omitempty"` // of the latest run
	// RestartCount is how often the restart policy has started the server again
	// since a user did.
	RestartCount int `json:"restart_count,omitempty"`
	// Restarting says that the guest of an active server has died, or wants to
	// reboot, and that it will be booted again.
	Restarting bool `json:"restarting,omitempty"`
	// HostBoot identifies the host's boot in which the server was last started.
	HostBoot string   `json:"host_boot,omitempty"`
	Health   *Health  `json:"health,omitempty"` // nil without a health check
	Timeline Timeline `json:"timeline,omitzero"`
}

// Timeline is how long each stage of the latest boot took, in the order of the
// fields; stages overlap where work does. 0 is a stage that had nothing to do.
type Timeline struct {
	Resolve time.Duration `json:"resolve"` // reference to manifest
	Fetch   time.Duration `json:"fetch"`   // first to last byte of missing layers
	Unpack  time.Duration `json:"unpack"`  // what unpacking took beyond fetching
	Clone   time.Duration `json:"clone"`   // overlay cloned and mounted, seed written
	Probe   time.Duration `json:"probe"`   // finding out whether guests run under KVM, where that is not known
	Define  time.Duration `json:"define"`  // the hypervisor's call
	Kernel  time.Duration `json:"kernel"`  // QEMU running until PID 1 starts
	Init    time.Duration `json:"init"`    // PID 1 starts until the entrypoint does
	// FirstOutput is from the entrypoint's start to its first byte.
	FirstOutput time.Duration `json:"first_output"`
	// Total is from the request to the entrypoint's first byte, or to its start
	// while there is none.
	Total time.Duration `json:"total"`
}

// started fills in the stages of a boot that the guest tells.
func (t *Timeline) started(e agent.Event, now, defined, began time.Time) {
	up := now.Add(-e.At) // when the guest's kernel began, on our clock
	at, ok := e.Timeline.At(agent.StepInit)
	if !ok || defined.IsZero() {
		return
	}
	t.Kernel = max(0, up.Add(at).Sub(defined))
	t.Init = max(0, e.At-at)
	if _, stood := e.Timeline.At(agent.StepAssigned); stood {
		t.Init = now.Sub(defined)
	}
	t.Total = now.Sub(began)
}

// output fills in the stage from the entrypoint's start to its first byte.
func (t *Timeline) output(firstByte, launched, began time.Time) {
	if firstByte.IsZero() || launched.IsZero() || t.FirstOutput != 0 || t.Total == 0 {
		return
	}
	t.FirstOutput = max(0, firstByte.Sub(launched))
	t.Total = max(t.Total, firstByte.Sub(began))
}

// DomainEvent says that a domain has started, been paused, gone on, or ended.
type DomainEvent struct {
	Domain string
	State  PowerState
}

// Hypervisor runs domains. The launcher's records say what should run; the
// hypervisor has the last word on what does.
type Hypervisor interface {
	// Start creates and starts a domain that leaves nothing behind when it ends.
	// After an error nothing of it runs.
	Start(ctx context.Context, d domain.Spec) error
	// Destroy ends a domain at once. One that is not there is no error.
	Destroy(ctx context.Context, name string) error
	// Domains returns the power state of our domains, by name.
	Domains(ctx context.Context) (map[string]PowerState, error)
	// Watch has f called for every start, pause and end of a domain; f must not block.
	Watch(f func(DomainEvent))
}

// Pauser is a Hypervisor that can hold a domain's processors.
type Pauser interface {
	// Pause holds a domain. One that is held already is no error.
	Pause(ctx context.Context, name string) error
	// Unpause lets a domain go on. One that is not held is no error.
	Unpause(ctx context.Context, name string) error
}

// Titler is a Hypervisor that can change what a domain is called for people.
type Titler interface {
	SetTitle(ctx context.Context, name, title string) error
}

// Store keeps the records of servers through a crash.
type Store interface {
	// Save writes a server's record, and those of actions on it, all or nothing; when
	// it returns, they are durable.
	Save(ctx context.Context, s *Server, actions ...ActionRecord) error
	// Remove forgets a server and its actions. One that is not there is no error.
	Remove(ctx context.Context, id string) error
	// Servers returns every record, oldest first.
	Servers(ctx context.Context) ([]*Server, error)
	// Actions returns what was done to a server, oldest first.
	Actions(ctx context.Context, server string) ([]ActionRecord, error)
}
