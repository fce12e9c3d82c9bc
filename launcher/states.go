package launcher

// VMState is where a server rests between actions, as in Nova.
type VMState string

// The stable states.
const (
	VMBuilding VMState = "building"
	VMActive   VMState = "active"
	VMPaused   VMState = "paused"
	// VMSuspended is a server whose processors are held, as those of a paused one are.
	// Its memory stays in use: a guest with a shared file system cannot be saved.
	VMSuspended VMState = "suspended"
	VMStopped   VMState = "stopped"
	// VMResized is a server with a new flavor that waits to be confirmed or reverted.
	VMResized VMState = "resized"
	VMError   VMState = "error"
	VMDeleted VMState = "deleted"
)

// TaskState is what is being done to a server; TaskNone when it is idle.
type TaskState string

// The transitions. Those that boot a server come second where a task has two steps.
const (
	TaskNone       TaskState = ""
	TaskScheduling TaskState = "scheduling" // new, and waiting for its turn
	TaskSpawning   TaskState = "spawning"
	TaskPoweringOn TaskState = "powering-on"

	TaskPoweringOff TaskState = "powering-off"

	TaskRebooting         TaskState = "rebooting"
	TaskRebootStarted     TaskState = "reboot_started"
	TaskRebootingHard     TaskState = "rebooting_hard"
	TaskRebootStartedHard TaskState = "reboot_started_hard"

	TaskPausing   TaskState = "pausing"
	TaskUnpausing TaskState = "unpausing"

	TaskSuspending TaskState = "suspending"
	TaskResuming   TaskState = "resuming"

	TaskUpdatingPassword TaskState = "updating_password"

	TaskImageSnapshot TaskState = "image_snapshot"

	TaskRebuilding      TaskState = "rebuilding"
	TaskRebuildSpawning TaskState = "rebuild_spawning"

	TaskResizePrep      TaskState = "resize_prep"
	TaskResizeFinish    TaskState = "resize_finish"
	TaskResizeReverting TaskState = "resize_reverting"

	TaskDeleting TaskState = "deleting"
)

// boots reports whether the task is that of a run on its way up.
func (t TaskState) boots() bool {
	switch t {
	case TaskScheduling, TaskSpawning, TaskPoweringOn, TaskRebootStarted, TaskRebootStartedHard,
		TaskRebuildSpawning, TaskResizeFinish:
		return true
	default:
		return false
	}
}

// rework reports whether the task takes a server down, changes it and has it boot
// again; see [Manager.rework].
func (t TaskState) rework() bool {
	switch t {
	case TaskRebooting, TaskRebootingHard, TaskRebuilding, TaskResizePrep, TaskResizeReverting:
		return true
	default:
		return false
	}
}

// PowerState is what the hypervisor says of a server's domain, in Nova's numbers.
type PowerState int

// Nova's power states.
const (
	PowerNone      PowerState = 0
	PowerRunning   PowerState = 1
	PowerPaused    PowerState = 3
	PowerShutdown  PowerState = 4
	PowerCrashed   PowerState = 6
	PowerSuspended PowerState = 7
)

// Status is Nova's word for the state of a server.
func (s *Server) Status() string {
	switch s.TaskState {
	case TaskRebuilding, TaskRebuildSpawning:
		return "REBUILD"
	case TaskResizeReverting:
		return "REVERT_RESIZE"
	}
	switch s.VMState {
	case VMBuilding:
		return "BUILD"
	case VMActive:
		return s.activeStatus()
	case VMPaused:
		return "PAUSED"
	case VMSuspended:
		return "SUSPENDED"
	case VMStopped:
		if s.resizing() {
			return "RESIZE"
		}
		return "SHUTOFF"
	case VMResized:
		return "VERIFY_RESIZE"
	case VMDeleted:
		return "DELETED"
	default:
		return "ERROR"
	}
}

func (s *Server) activeStatus() string {
	switch s.TaskState {
	case TaskRebooting, TaskRebootStarted:
		return "REBOOT"
	case TaskRebootingHard, TaskRebootStartedHard:
		return "HARD_REBOOT"
	case TaskUpdatingPassword:
		return "PASSWORD"
	}
	if s.resizing() {
		return "RESIZE"
	}
	return "ACTIVE"
}

func (s *Server) resizing() bool {
	return s.TaskState == TaskResizePrep || s.TaskState == TaskResizeFinish
}

// Running reports whether the server's guest has started its entrypoint, which has
// not ended.
func (s *Server) Running() bool { return !s.Launched.IsZero() && s.Exit == nil }

// settled reports whether nothing of the server runs or is about to.
func (s *Server) settled() bool {
	return s.TaskState == TaskNone && s.VMState != VMBuilding && !s.Running()
}
