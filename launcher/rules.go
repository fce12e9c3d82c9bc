package launcher

import "slices"

// Action is what can be asked of a server, in Nova's words.
type Action string

// The actions. A hard reboot is called reboot too: it differs in what it needs.
const (
	ActionCreate         Action = "create"
	ActionStart          Action = "start"
	ActionStop           Action = "stop"
	ActionReboot         Action = "reboot"
	ActionRebootHard     Action = "reboot (hard)"
	ActionPause          Action = "pause"
	ActionUnpause        Action = "unpause"
	ActionSuspend        Action = "suspend"
	ActionResume         Action = "resume"
	ActionRebuild        Action = "rebuild"
	ActionResize         Action = "resize"
	ActionConfirmResize  Action = "confirmResize"
	ActionRevertResize   Action = "revertResize"
	ActionCreateImage    Action = "createImage"
	ActionChangePassword Action = "changePassword"
	ActionLock           Action = "lock"
	ActionUnlock         Action = "unlock"
	ActionResetState     Action = "resetState"
	ActionDelete         Action = "delete"
)

// Name is what Nova calls the action.
func (a Action) Name() string {
	if a == ActionRebootHard {
		return string(ActionReboot)
	}
	return string(a)
}

// rule says which servers may be asked for an action, and what they do then.
type rule struct {
	from []VMState // nil: every state
	// during are the tasks it may interrupt, beside none; anything: every task.
	during   []TaskState
	anything bool
	// launched says that the server must have run at least once.
	launched bool
	// task is what the server does meanwhile; TaskNone where it is done at once.
	task TaskState
}

// rules decide every pair of state and action. They are Nova's, except that a
// server in error may be started: its boot is tried again; that a stop may be asked
// for twice, the second time with less patience; and that it may be asked for while
// a restart boots.
var rules = map[Action]rule{
	ActionStart:          {from: []VMState{VMStopped, VMError}, task: TaskPoweringOn},
	ActionStop:           {from: []VMState{VMActive, VMError}, during: []TaskState{TaskPoweringOff, TaskPoweringOn}, launched: true, task: TaskPoweringOff},
	ActionReboot:         {from: []VMState{VMActive}, launched: true, task: TaskRebooting},
	ActionRebootHard:     {from: []VMState{VMActive, VMStopped, VMPaused, VMSuspended, VMError}, during: []TaskState{TaskRebooting}, launched: true, task: TaskRebootingHard},
	ActionPause:          {from: []VMState{VMActive}, launched: true, task: TaskPausing},
	ActionUnpause:        {from: []VMState{VMPaused}, task: TaskUnpausing},
	ActionSuspend:        {from: []VMState{VMActive}, launched: true, task: TaskSuspending},
	ActionResume:         {from: []VMState{VMSuspended}, task: TaskResuming},
	ActionRebuild:        {from: []VMState{VMActive, VMStopped, VMError}, launched: true, task: TaskRebuilding},
	ActionResize:         {from: []VMState{VMActive, VMStopped}, launched: true, task: TaskResizePrep},
	ActionConfirmResize:  {from: []VMState{VMResized}},
	ActionRevertResize:   {from: []VMState{VMResized}, task: TaskResizeReverting},
	ActionCreateImage:    {from: []VMState{VMActive, VMStopped, VMPaused, VMSuspended}, task: TaskImageSnapshot},
	ActionChangePassword: {from: []VMState{VMActive}, launched: true, task: TaskUpdatingPassword},
	ActionLock:           {anything: true},
	ActionUnlock:         {anything: true},
	ActionResetState:     {anything: true},
	ActionDelete:         {anything: true, task: TaskDeleting},
}

// allows reports whether a server may be asked for what the rule is for.
func (r rule) allows(s *Server) bool {
	switch {
	case s.VMState == VMDeleted:
		return false
	case r.anything:
		return true
	case r.from != nil && !slices.Contains(r.from, s.VMState):
		return false
	case r.launched && s.FirstLaunched.IsZero():
		return false
	}
	return s.TaskState == TaskNone || slices.Contains(r.during, s.TaskState)
}

// Check returns a *StateError where the server's state does not allow an action.
func (s *Server) Check(a Action) error {
	if rules[a].allows(s) {
		return nil
	}
	return &StateError{ID: s.ID, Server: s.Name, Action: a.Name(), VM: s.VMState, Task: s.TaskState}
}
