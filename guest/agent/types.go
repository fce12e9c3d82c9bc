package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/slipway-vm/slipway/guest/share"
)

// Version is the version of the calls, which only grow: an end that is asked
// for a call it does not know answers with ErrUnsupported. What a call can do
// besides, from which version on, says requires.
const Version = 3

// The versions from which on guests do what older ones would leave out silently.
const (
	versionDetach = 2 // executed processes that stay, and privileged ones
	versionFollow = 2 // copies of what a link leads to
	versionAssign = 3
)

// Calls.
const (
	methodHello    = "hello"
	methodOutput   = "output"
	methodEvents   = "events"
	methodSignal   = "signal"
	methodStop     = "stop"
	methodShutdown = "shutdown"
	methodExec     = "exec"
	methodAttach   = "attach"
	methodStat     = "stat"
	methodLocate   = "locate"
	methodCopyOut  = "copy-out"
	methodCopyIn   = "copy-in"
	methodStats    = "stats"
	methodTop      = "top"
	methodFreeze   = "freeze"
	methodThaw     = "thaw"
	methodClock    = "clock"
	methodLinks    = "interfaces"
	methodAssign   = "assign"
)

type request struct {
	Method string          `json:"method"`
	Params json.RawMessage `json:"params,omitempty"`
}

type helloParams struct {
	Version int `json:"version"`
	// Time is the host's, in nanoseconds since 1970; 0 from a host that does not
	// say.
	Time int64 `json:"time,omitempty"`
}

type interfacesParams struct {
	Interfaces []share.Interface `json:"interfaces"`
}

type assignParams struct {
	Time int64 `json:"time"` // the host's, in nanoseconds since 1970
}

type clockParams struct {
	Step time.Duration `json:"step"` // to move the clock by; 0 only reads it
}

type clockReply struct {
	Time int64 `json:"time"` // the guest's, after the step
}

type outputParams struct {
	Stdout int64 `json:"stdout"`
	Stderr int64 `json:"stderr"`
}

type signalParams struct {
	Signal int `json:"signal"`
}

type stopParams struct {
	Grace time.Duration `json:"grace"` // negative means the Spec's
}

type stopReply struct {
	Signal int `json:"signal,omitempty"`
}

// Hello is how a guest introduces itself.
type Hello struct {
	Version    int      `json:"version"`
	Kernel     string   `json:"kernel"` // as uname -r
	Hostname   string   `json:"hostname"`
	InstanceID string   `json:"instanceID"`
	BootID     string   `json:"bootID"`
	Timeline   Timeline `json:"timeline"`
	// Standby says that the guest waits to be assigned its server.
	Standby bool `json:"standby,omitempty"`
}

// Timeline is the boot as the guest saw it, in the order of happening.
type Timeline []Timing

// Timing is one step of a boot.
type Timing struct {
	Step string `json:"step"`
	// At is the time since the kernel's start (CLOCK_BOOTTIME).
	At time.Duration `json:"at"`
}

// Steps of a Timeline. The kernel's own start is at zero.
const (
	StepInit    = "init"    // slipway-init's first instruction
	StepModules = "modules" // modules needed for the share are loaded
	StepRoot    = "root"    // the share is mounted
	StepAgent   = "agent"   // the port is open
	// StepAssigned is of guests that stood by: the server is there.
	StepAssigned = "assigned"
	StepStarted  = "started" // the entrypoint has been executed
	StepOutput   = "output"  // its first byte of output was read
	StepEnded    = "ended"
)

// At returns when a step happened.
func (t Timeline) At(step string) (time.Duration, bool) {
	for _, timing := range t {
		if timing.Step == step {
			return timing.At, true
		}
	}
	return 0, false
}

// EventType says what an Event tells.
type EventType string

// The events of an entrypoint. Each life of a guest has a started event and
// then an exited one, or else a failed one. Between them the entrypoint may be
// restarted, which is a restarting event and another started one, or the last.
const (
	EventStarted    EventType = "started"
	EventFailed     EventType = "failed"     // it could not be started
	EventRestarting EventType = "restarting" // it ended and will be started again
	EventHealth     EventType = "health"     // a health check has ended
	EventWarning    EventType = "warning"    // user-data asked for what could not be done
	EventExited     EventType = "exited"
)

// Event is something that happened to the entrypoint.
type Event struct {
	Seq      int           `json:"seq"`
	Type     EventType     `json:"type"`
	At       time.Duration `json:"at"` // since the kernel's start
	PID      int           `json:"pid,omitempty"`
	Exit     *Exit         `json:"exit,omitempty"` // of failed, restarting and exited
	Timeline Timeline      `json:"timeline,omitempty"`
	Restarts int           `json:"restarts,omitempty"` // of the server so far
	Wait     time.Duration `json:"wait,omitempty"`     // before a restart
	Health   *Health       `json:"health,omitempty"`
	Warning  string        `json:"warning,omitempty"`
}

// HealthStatus is docker's word for what health checks have shown.
type HealthStatus string

// The states of health. Empty is that of an entrypoint without a health check.
const (
	HealthStarting HealthStatus = "starting"
	HealthHealthy  HealthStatus = "healthy"
	HealthFailing  HealthStatus = "unhealthy"
)

// Health is what a health check has shown, and how that stands with those
// before it.
type Health struct {
	Status HealthStatus `json:"status"`
	// Streak is how many checks in a row have failed.
	Streak int          `json:"streak,omitempty"`
	Check  *HealthCheck `json:"check,omitempty"`
}

// HealthCheck is the result of one check.
type HealthCheck struct {
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
	// Code is the exit status; 0 is health, and -1 a check that took too long.
	Code   int    `json:"code"`
	Output string `json:"output"` // the beginning, MaxHealthOutput at most
}

// MaxHealthOutput bounds what is kept of a check's output, in bytes.
const MaxHealthOutput = 4096

// Exit is how a process ended.
type Exit struct {
	// Code is the status that docker would report: the process's own, 128+n
	// after signal n, or 125 to 127 where it was not started.
	Code      int  `json:"code"`
	Signal    int  `json:"signal,omitempty"`
	OOMKilled bool `json:"oomKilled,omitempty"`
	// TimedOut says that it was killed, still running after its grace period.
	TimedOut bool   `json:"timedOut,omitempty"`
	Err      string `json:"err,omitempty"` // why it was not started
	// Reboot says that the server is to boot again.
	Reboot bool `json:"reboot,omitempty"`
	// Detached says that an executed process runs on, by itself.
	Detached bool `json:"detached,omitempty"`
}

// Errors that a guest reports, which can be tested for on the host.
var (
	ErrUnsupported  = errors.New("not supported by this guest's agent")
	ErrInvalid      = errors.New("invalid request")
	ErrNotRunning   = errors.New("the entrypoint does not run")
	ErrRunning      = errors.New("the entrypoint still runs")
	ErrOutputKept   = errors.New("output has not been acknowledged")
	ErrOutputGone   = errors.New("output was acknowledged and is gone")
	ErrNotFound     = errors.New("not found")
	ErrNotPermitted = errors.New("not permitted")
)

// kinds gives the errors above their names on the wire.
var kinds = map[string]error{
	"unsupported":   ErrUnsupported,
	"invalid":       ErrInvalid,
	"not-running":   ErrNotRunning,
	"running":       ErrRunning,
	"output-kept":   ErrOutputKept,
	"output-gone":   ErrOutputGone,
	"not-found":     ErrNotFound,
	"not-permitted": ErrNotPermitted,
}

type callError struct {
	Kind    string `json:"kind,omitempty"`
	Message string `json:"message"`
}

func encodeError(err error) callError {
	e := callError{Message: err.Error()}
	for name, kind := range kinds {
		if errors.Is(err, kind) {
			e.Kind = name
		}
	}
	if len(e.Message) > 4096 {
		e.Message = e.Message[:4096]
	}
	return e
}

func decodeError(payload []byte) error {
	e, err := decodeJSON[callError](payload)
	if err != nil {
		return err
	}
	if kind, ok := kinds[e.Kind]; ok {
		return &guestError{kind: kind, message: e.Message}
	}
	return &guestError{message: e.Message}
}

// guestError is an error that happened in the guest. The message is the
// guest's: show it quoted or escaped where it could do harm.
type guestError struct {
	kind    error
	message string
}

func (e *guestError) Error() string { return fmt.Sprintf("guest: %s", e.message) }
func (e *guestError) Unwrap() error { return e.kind }
