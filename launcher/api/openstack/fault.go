package openstack

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/slipway-vm/slipway/launcher"
)

// Fault is a failure as an API tells it.
type Fault struct {
	Code    int    // HTTP status
	Message string // for the user
	// Type is Neutron's name of the failure and Nova's word for it; empty: the
	// usual one of the code.
	Type string
	// RetryAfter is sent where it is not 0, rounded up to seconds.
	RetryAfter time.Duration
	// Err is the cause. It is logged and not sent.
	Err error
}

func (f *Fault) Error() string { return f.Message }

// Unwrap returns the cause.
func (f *Fault) Unwrap() error { return f.Err }

// Faultf makes a fault with a status.
func Faultf(code int, format string, args ...any) *Fault {
	return &Fault{Code: code, Message: fmt.Sprintf(format, args...)}
}

// BadRequest is a fault 400.
func BadRequest(format string, args ...any) *Fault {
	return Faultf(http.StatusBadRequest, format, args...)
}

// Forbidden is a fault 403.
func Forbidden(format string, args ...any) *Fault {
	return Faultf(http.StatusForbidden, format, args...)
}

// NotFound is a fault 404.
func NotFound(format string, args ...any) *Fault {
	return Faultf(http.StatusNotFound, format, args...)
}

// Conflict is a fault 409.
func Conflict(format string, args ...any) *Fault {
	return Faultf(http.StatusConflict, format, args...)
}

// internalMessage is all that a user is told of a failure that is not his.
const internalMessage = "Unexpected API Error. The service's log says more under this request's id."

// kinds is the one table from the launcher's kinds of error to statuses.
var kinds = []struct {
	kind error
	code int
}{
	{launcher.ErrNotFound, http.StatusNotFound},
	{launcher.ErrConflict, http.StatusConflict},
	{launcher.ErrInvalid, http.StatusBadRequest},
	{launcher.ErrForbidden, http.StatusForbidden},
	{launcher.ErrUnavailable, http.StatusServiceUnavailable},
	{launcher.ErrUnsupported, http.StatusNotImplemented},
}

// FaultOf is the fault that answers err. An error of no known kind becomes a 500
// that does not repeat it.
func FaultOf(err error) *Fault {
	var f *Fault
	if errors.As(err, &f) {
		return f
	}
	// Before the kinds: it says what Nova's clients look for.
	var state *launcher.StateError
	if errors.As(err, &state) {
		return &Fault{Code: http.StatusConflict, Err: err, Message: stateMessage(state)}
	}
	for _, k := range kinds {
		if errors.Is(err, k.kind) {
			return &Fault{Code: k.code, Message: err.Error(), Err: err}
		}
	}
	return &Fault{Code: http.StatusInternalServerError, Message: internalMessage, Err: err}
}

// stateMessage words a refused action as Nova does.
func stateMessage(e *launcher.StateError) string {
	what, state := "vm_state", string(e.VM)
	if e.Task != launcher.TaskNone {
		what, state = "task_state", string(e.Task)
	}
	id := e.ID
	if id == "" {
		id = e.Server
	}
	return fmt.Sprintf("Cannot '%s' instance %s while it is in %s %s", e.Action, id, what, state)
}

// WriteFault answers with err in the dialect of a service.
func WriteFault(w http.ResponseWriter, r *http.Request, d Dialect, err error) {
	f := FaultOf(err)
	contentType, body := d.render(f, r)
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if f.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(retrySeconds(f)))
	}
	w.WriteHeader(f.Code)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // who does not read it has gone
	}
}

func retrySeconds(f *Fault) int { return int((f.RetryAfter + time.Second - 1) / time.Second) }
