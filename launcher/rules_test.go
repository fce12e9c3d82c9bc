package launcher

import (
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	allVMStates = []VMState{VMBuilding, VMActive, VMPaused, VMSuspended, VMStopped, VMResized, VMError, VMDeleted}
	allTasks    = []TaskState{
		TaskNone, TaskScheduling, TaskSpawning, TaskPoweringOn, TaskPoweringOff, TaskRebooting, TaskRebootStarted,
		TaskRebootingHard, TaskRebootStartedHard, TaskPausing, TaskUnpausing, TaskSuspending, TaskResuming,
		TaskUpdatingPassword, TaskImageSnapshot, TaskRebuilding, TaskRebuildSpawning,
		TaskResizePrep, TaskResizeFinish, TaskResizeReverting, TaskDeleting,
	}
)

// TestRules has every action meet every state. Each action lists where it is allowed:
// a state, idle, or state/task; "*" after a state is every task; "!" in front of the
// list means also for a server that has never run.
func TestRules(t *testing.T) {
	everywhere := "! building* active* paused* suspended* stopped* resized* error*"
	allowed := map[Action]string{
		ActionStart:          "! stopped error",
		ActionStop:           "active active/powering-off active/powering-on error error/powering-off error/powering-on",
		ActionReboot:         "active",
		ActionRebootHard:     "active active/rebooting paused paused/rebooting suspended suspended/rebooting stopped stopped/rebooting error error/rebooting",
		ActionPause:          "active",
		ActionUnpause:        "! paused",
		ActionSuspend:        "active",
		ActionResume:         "! suspended",
		ActionRebuild:        "active stopped error",
		ActionResize:         "active stopped",
		ActionConfirmResize:  "! resized",
		ActionRevertResize:   "! resized",
		ActionCreateImage:    "! active stopped paused suspended",
		ActionChangePassword: "active",
		ActionLock:           everywhere,
		ActionUnlock:         everywhere,
		ActionResetState:     everywhere,
		ActionDelete:         everywhere,
	}
	if len(allowed) != len(rules) {
		t.Errorf("%d actions are tested, there are rules for %d", len(allowed), len(rules))
	}
	for action, list := range allowed {
		words := strings.Fields(list)
		for _, vm := range allVMStates {
			for _, task := range allTasks {
				pair := string(vm)
				if task != TaskNone {
					pair += "/" + string(task)
				}
				want := slices.Contains(words, pair) || slices.Contains(words, string(vm)+"*")
				ran := &Server{VMState: vm, TaskState: task, FirstLaunched: time.Unix(1, 0)}
				if got := ran.Check(action) == nil; got != want {
					t.Errorf("%s of a server in %s: allowed %v, want %v", action, pair, got, want)
				}
				fresh := &Server{VMState: vm, TaskState: task}
				if got := fresh.Check(action) == nil; got != (want && words[0] == "!") {
					t.Errorf("%s of a server in %s that never ran: allowed %v", action, pair, got)
				}
			}
		}
	}
}

func TestStatus(t *testing.T) {
	for want, pairs := range map[string][]string{
		"BUILD":         {"building/scheduling", "building/spawning"},
		"ACTIVE":        {"active/", "active/powering-off", "active/pausing", "active/deleting", "active/image_snapshot"},
		"REBOOT":        {"active/rebooting", "active/reboot_started"},
		"HARD_REBOOT":   {"active/rebooting_hard", "active/reboot_started_hard"},
		"PAUSED":        {"paused/", "paused/unpausing"},
		"SUSPENDED":     {"suspended/", "suspended/resuming"},
		"PASSWORD":      {"active/updating_password"},
		"SHUTOFF":       {"stopped/", "stopped/powering-on"},
		"REBUILD":       {"active/rebuilding", "stopped/rebuilding", "error/rebuild_spawning"},
		"RESIZE":        {"active/resize_prep", "stopped/resize_prep", "active/resize_finish"},
		"VERIFY_RESIZE": {"resized/"},
		"REVERT_RESIZE": {"resized/resize_reverting"},
		"ERROR":         {"error/", "error/powering-on"},
		"DELETED":       {"deleted/"},
	} {
		for _, pair := range pairs {
			vm, task, _ := strings.Cut(pair, "/")
			s := &Server{VMState: VMState(vm), TaskState: TaskState(task)}
			if got := s.Status(); got != want {
				t.Errorf("%s is %s, want %s", pair, got, want)
			}
		}
	}
}
