package identity

import (
	"errors"
	"fmt"

	"github.com/slipway-vm/slipway/launcher"
)

var (
	// ErrUnauthorized says that somebody is not who he says, or may not enter.
	ErrUnauthorized = errors.New("not authenticated")
	// ErrForbidden refuses what the caller may not do.
	ErrForbidden = errors.New("forbidden")
)

// kindError has a message for the user and a kind: one of the launcher's, or of
// those above.
type kindError struct {
	kind error
	msg  string
}

func (e *kindError) Error() string        { return e.msg }
func (e *kindError) Is(target error) bool { return target == e.kind }

func errorf(kind error, format string, args ...any) error {
	return &kindError{kind, fmt.Sprintf(format, args...)}
}

// notFound is worded as Keystone does.
func notFound(what, id string) error {
	return errorf(launcher.ErrNotFound, "Could not find %s: %s.", what, id)
}

func duplicate(what, name, domain string) error {
	return errorf(launcher.ErrConflict, "Conflict occurred attempting to store %s - Duplicate entry found with name %s at domain ID %s.", what, name, domain)
}

func invalid(format string, args ...any) error { return errorf(launcher.ErrInvalid, format, args...) }

func forbidden(format string, args ...any) error { return errorf(ErrForbidden, format, args...) }
