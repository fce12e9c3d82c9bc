package launcher

import (
	"errors"
	"fmt"
)

// The kinds of failure that callers tell apart. Errors wrap them.
var (
	ErrNotFound    = errors.New("not found")
	ErrConflict    = errors.New("conflict")
	ErrInvalid     = errors.New("invalid")
	ErrForbidden   = errors.New("forbidden") // a quota does not allow it
	ErrUnavailable = errors.New("unavailable")
	ErrUnsupported = errors.New("not supported")
)

// kindError is an error whose message stands alone, without the kind's word.
type kindError struct {
	kind error
	msg  string
}

func (e *kindError) Error() string        { return e.msg }
func (e *kindError) Is(target error) bool { return target == e.kind }

// Errorf makes an error of a kind with a message for the user.
func Errorf(kind error, format string, args ...any) error { return errorf(kind, format, args...) }

func errorf(kind error, format string, args ...any) error {
	return &kindError{kind, fmt.Sprintf(format, args...)}
}

// StateError refuses an action that a server's state does not allow. It matches
// ErrConflict.
type StateError struct {
	ID     string
	Server string // name
	Action string
	VM     VMState
	Task   TaskState
}

func (e *StateError) Error() string {
	state := string(e.VM)
	if e.Task != TaskNone {
		state += " (" + string(e.Task) + ")"
	}
	return fmt.Sprintf("cannot %s server %s while it is %s", e.Action, e.Server, state)
}

// Is reports whether target is ErrConflict.
func (e *StateError) Is(target error) bool { return target == ErrConflict }
