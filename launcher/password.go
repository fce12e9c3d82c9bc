package launcher

import (
	"bytes"
	"context"
	"strings"
	"time"

	"github.com/slipway-vm/slipway/guest/agent"
)

// passwordTime bounds what chpasswd may take.
const passwordTime = 30 * time.Second

// SetPassword gives a running server's root another password, by the image's own
// chpasswd: only that knows where and how the image keeps passwords. The error
// matches ErrConflict where the image has none, or where it refuses.
func (m *Manager) SetPassword(ctx context.Context, id, password string) error {
	if strings.ContainsAny(password, "\n\r\x00") {
		return errorf(ErrInvalid, "a password is a single line of text")
	}
	i, err := m.find(id)
	if err != nil {
		return err
	}
	if err := i.act(ctx, m.cfg.Store, ActionChangePassword, nil); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, passwordTime)
	defer cancel()
	if err := i.chpasswd(ctx, "root:"+password+"\n"); err != nil {
		m.giveUp(ctx, i, err, nil)
		return err
	}
	i.insist(context.WithoutCancel(ctx), m.cfg.Store, m.log, func(s *Server) {
		if s.TaskState == TaskUpdatingPassword { // else it has ended meanwhile
			s.TaskState = TaskNone
		}
	})
	return nil
}

func (i *instance) chpasswd(ctx context.Context, lines string) error {
	refused := func(reason string) error {
		return errorf(ErrConflict, "Failed to set admin password on %s because %s", i.id, reason)
	}
	c, _ := i.reach(ctx, func(s Server) bool { return s.TaskState == TaskUpdatingPassword })
	if c == nil {
		return refused("its guest does not answer")
	}
	var said bytes.Buffer
	exit, err := c.Exec(ctx, agent.ExecRequest{Args: []string{"chpasswd"}, User: "0", Dir: "/", Stdin: true, Privileged: true},
		agent.ExecIO{Stdin: strings.NewReader(lines), Stdout: &limited{&said}, Stderr: &limited{&said}})
	switch {
	case err != nil:
		return refused(err.Error())
	case exit.Err != "":
		return refused(printable(exit.Err))
	case exit.Code != 0:
		return refused("chpasswd failed: " + printable(strings.TrimSpace(said.String())))
	}
	return nil
}

// limited keeps the beginning of what is written.
type limited struct{ to *bytes.Buffer }

func (l *limited) Write(b []byte) (int, error) {
	const enough = 1 << 10
	l.to.Write(b[:min(len(b), max(0, enough-l.to.Len()))])
	return len(b), nil
}
