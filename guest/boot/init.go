package boot

import (
	"encoding/json"
	"errors"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/guest/process"
)

// ReaperArg is the argument that makes slipway-init the init before an
// entrypoint, which docker's --init asks for. The executable and its arguments
// follow.
const ReaperArg = "init"

// executeReaper makes the stage, which has become the entrypoint's user, the
// init of p.
func executeReaper(self *os.File, p *process.Process, tty bool) error {
	// It reports for itself: the entrypoint's execve is still to come.
	if _, err := unix.FcntlInt(stageReportFD, unix.F_SETFD, 0); err != nil {
		return err
	}
	mode := "-"
	if tty {
		mode = "tty"
	}
	argv, err := syscall.SlicePtrFromStrings(append([]string{"slipway-init", ReaperArg, mode, p.Path}, p.Args...))
	if err != nil {
		return err
	}
	env, err := syscall.SlicePtrFromStrings(p.Env)
	if err != nil {
		return err
	}
	empty, err := syscall.BytePtrFromString("")
	if err != nil {
		return err
	}
	_, _, errno := unix.RawSyscall6(unix.SYS_EXECVEAT, self.Fd(), uintptr(unsafe.Pointer(empty)),
		uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&env[0])), unix.AT_EMPTY_PATH, 0)
	return process.StartError(p, errno)
}

// Reap starts the entrypoint that its arguments tell and stays as PID 1 of its
// namespace: it passes signals on, waits for every child, and ends as the
// entrypoint does. It does not return.
func Reap(args []string) {
	runtime.LockOSThread()
	tty, path, argv := args[0] == "tty", args[1], args[2:]
	unix.CloseOnExec(stageReportFD)
	report := os.NewFile(stageReportFD, "report")
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	// It gives the terminal away and must not be stopped for it.
	signal.Ignore(syscall.SIGTTOU, syscall.SIGTTIN)
	pid, err := syscall.ForkExec(path, argv, &syscall.ProcAttr{
		Env: os.Environ(), Files: []uintptr{0, 1, 2},
		Sys: &syscall.SysProcAttr{Setpgid: true, Foreground: tty, Ctty: 0},
	})
	if err != nil {
		err = process.StartError(&process.Process{Args: argv}, err)
		_ = json.NewEncoder(report).Encode(stageReport{Failure: &stageFailure{Code: process.ExitCode(err), Message: err.Error()}})
		os.Exit(process.ExitCode(err))
	}
	report.Close()
	go func() {
		for s := range signals {
			if sig, ok := s.(syscall.Signal); ok && sig != syscall.SIGCHLD && sig != syscall.SIGURG {
				_ = syscall.Kill(pid, sig)
			}
		}
	}()
	for {
		var status unix.WaitStatus
		child, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case child == pid && status.Signaled():
			os.Exit(128 + int(status.Signal()))
		case child == pid:
			os.Exit(status.ExitStatus())
		case err != nil && !errors.Is(err, unix.EINTR):
			os.Exit(process.ExitFailure)
		}
	}
}
