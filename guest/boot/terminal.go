package boot

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/guest/agent"
	"github.com/slipway-vm/slipway/guest/process"
)

// openTerminal makes a pseudo-terminal in the devpts of the calling thread's
// mount namespace.
func openTerminal(id process.Identity, size agent.WindowSize) (master, slave *os.File, err error) {
	fd, err := unix.Open("/dev/pts/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("open a terminal: %w", err)
	}
	slave, err = openSlave(fd, id, size)
	if err != nil {
		unix.Close(fd)
		return nil, nil, fmt.Errorf("open a terminal: %w", err)
	}
	return os.NewFile(uintptr(fd), "ptmx"), slave, nil
}

func openSlave(master int, id process.Identity, size agent.WindowSize) (*os.File, error) {
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return nil, err
	}
	number, err := unix.IoctlGetUint32(master, unix.TIOCGPTN)
	if err != nil {
		return nil, err
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	err = setSize(master, size)
	if err == nil {
		err = slave.Chown(int(id.UID), int(id.GID))
	}
	if err != nil {
		slave.Close()
		return nil, err
	}
	return slave, nil
}

func setSize(fd int, size agent.WindowSize) error {
	if size == (agent.WindowSize{}) {
		return nil
	}
	return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: size.Rows, Col: size.Columns})
}

func resizeTerminal(master *os.File, size agent.WindowSize) error {
	// Not by Fd, which would make reads of the terminal block for good.
	raw, err := master.SyscallConn()
	if err != nil {
		return err
	}
	var sizeErr error
	if err := raw.Control(func(fd uintptr) { sizeErr = setSize(int(fd), size) }); err != nil {
		return err
	}
	return sizeErr
}

// terminalInput ends a terminal's input as a user would, by ^D: closing the
// master would hang up instead.
type terminalInput struct{ master *os.File }

func (t terminalInput) Write(b []byte) (int, error) { return t.master.Write(b) }

func (t terminalInput) Close() error {
	_, err := t.master.Write([]byte{4})
	return err
}

// takeTerminal makes a terminal the standard streams of the stage and sends
// its master to init.
func takeTerminal() error {
	master, slave, err := openTerminal(process.Identity{}, agent.WindowSize{})
	if err != nil {
		return err
	}
	defer master.Close()
	defer slave.Close()
	rights := unix.UnixRights(int(master.Fd()))
	if err := unix.Sendmsg(stageTerminalFD, []byte{0}, rights, nil, 0); err != nil {
		return fmt.Errorf("hand over the terminal: %w", err)
	}
	unix.Close(stageTerminalFD)
	if err := nameConsole(slave.Name()); err != nil {
		return err
	}
	for fd := range 3 {
		if err := unix.Dup3(int(slave.Fd()), fd, 0); err != nil {
			return err
		}
	}
	return unix.IoctlSetInt(0, unix.TIOCSCTTY, 0)
}

// nameConsole makes the entrypoint's terminal its /dev/console, as docker does.
func nameConsole(slave string) error {
	fd, err := unix.Open("/dev/console", unix.O_CREAT|unix.O_RDONLY|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o620)
	if err != nil {
		return fmt.Errorf("make /dev/console: %w", err)
	}
	unix.Close(fd)
	if err := unix.Mount(slave, "/dev/console", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("make /dev/console: %w", err)
	}
	return nil
}

// receiveTerminal returns the master that the stage has sent.
func receiveTerminal(socket *os.File) (*os.File, error) {
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(int(socket.Fd()), make([]byte, 1), oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("receive the terminal: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		return nil, fmt.Errorf("receive the terminal: %d control messages, %w", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, fmt.Errorf("receive the terminal: %d descriptors, %w", len(fds), err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fds[0]), "ptmx"), nil
}
