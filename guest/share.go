package guest

import (
	"syscall"

	"github.com/slipway-vm/slipway/guest/share"
)

// What host and guest agree on, see package share.
type (
	Spec   = share.Spec
	Mount  = share.Mount
	Host   = share.Host
	Module = share.Module

	Interface = share.Interface
	Route     = share.Route
	RootMode  = share.RootMode
	InitMode  = share.InitMode

	Disks         = share.Disks
	Directory     = share.Directory
	Capable       = share.Capable
	Options       = share.Options
	Restart       = share.Restart
	RestartPolicy = share.RestartPolicy
	Backoff       = share.Backoff
	Healthcheck   = share.Healthcheck
	Tmpfs         = share.Tmpfs
	Ulimit        = share.Ulimit
)

// See package share.
const (
	ShareTag = share.Tag
	SeedDir  = share.SeedDir
	SpecFile = share.SpecFile

	ConfigureFile = share.ConfigureFile
	ClassicFile   = share.ClassicFile
	RootDir       = share.RootDir

	CapableFile = share.CapableFile

	VolumeDir = share.VolumeDir

	AgentPort = share.AgentPort

	DiskBase      = share.DiskBase
	DiskUpper     = share.DiskUpper
	DisksFile     = share.DisksFile
	DiskSeed      = share.DiskSeed
	DiskSystem    = share.DiskSystem
	DiskPreload   = share.DiskPreload
	LayersPerDisk = share.LayersPerDisk

	PartitionSeed  = share.PartitionSeed
	PartitionBase  = share.PartitionBase
	PartitionUpper = share.PartitionUpper

	PreloadDocker = share.PreloadDocker
	PreloadDir    = share.PreloadDir
	PreloadTarget = share.PreloadTarget
	DockerDir     = share.DockerDir
	DockerTarget  = share.DockerTarget

	EndPowerOff = share.EndPowerOff
	EndReboot   = share.EndReboot
	EndStay     = share.EndStay

	ArgRoot    = share.ArgRoot
	ArgShare   = share.ArgShare
	ArgProbe   = share.ArgProbe
	ArgStandby = share.ArgStandby
	ArgDebug   = share.ArgDebug
	ProbeLine  = share.ProbeLine

	RootVirtioFS = share.RootVirtioFS
	Root9P       = share.Root9P
	RootBlock    = share.RootBlock
	RootDisk     = share.RootDisk

	InitEntrypoint = share.InitEntrypoint
	InitSystem     = share.InitSystem

	ModuleRoot  = share.ModuleRoot
	ModuleIndex = share.ModuleIndex

	CapabilityAttr       = share.CapabilityAttr
	RestartNo            = share.RestartNo
	RestartOnFailure     = share.RestartOnFailure
	RestartAlways        = share.RestartAlways
	RestartUnlessStopped = share.RestartUnlessStopped

	SpecVersion  = share.SpecVersion
	DefaultGrace = share.DefaultGrace
)

// See package share.
var (
	ErrInvalidSpec   = share.ErrInvalidSpec
	ErrUnknownSignal = share.ErrUnknownSignal
)

// ParseSpec reads and validates a Spec.
func ParseSpec(data []byte) (*Spec, error) { return share.ParseSpec(data) }

// ParseSignal reads a signal as an image's config and docker's flags write it:
// SIGTERM, term, 15, RTMIN+3. Empty means SIGTERM.
func ParseSignal(s string) (syscall.Signal, error) { return share.ParseSignal(s) }
