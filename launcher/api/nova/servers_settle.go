package nova

import (
	"net/http"
	"time"

	"github.com/slipway-vm/slipway/launcher"
)

// settleTime is for how long after its launch a server is shown as active, even if
// its entrypoint has ended. Clients that wait for a server ask every few seconds,
// and would never see one active that ends sooner; Nova hears of a guest's end just
// as late, by its delayed lifecycle events.
const settleTime = 15 * time.Second

// settling reports whether a server has ended by itself, too soon to be shown so.
func settling(s *launcher.Server) bool {
	return s.VMState == launcher.VMStopped && s.TaskState == launcher.TaskNone &&
		s.Exit != nil && !s.Exit.Asked && time.Since(s.Launched) < settleTime
}

// shown is a server as clients see it. Its power state is the true one.
func shown(s launcher.Server) launcher.Server {
	if settling(&s) {
		s.VMState = launcher.VMActive
	}
	return s
}

// powerOff stops a server, also one that is shown as active and has ended.
func (a *API) powerOff(w http.ResponseWriter, r *http.Request, srv *launcher.Server, _ any) error {
	now, err := a.cfg.Manager.Server(srv.ID)
	if err != nil {
		return err
	}
	if settling(&now) {
		_, err = a.cfg.Manager.Update(asCaller(r), srv.ID, func(s *launcher.Server) error {
			if settling(s) {
				exit := *s.Exit
				exit.Asked = true
				s.Exit = &exit
			}
			return nil
		})
	} else {
		err = a.cfg.Manager.PowerOff(asCaller(r), srv.ID)
	}
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}
