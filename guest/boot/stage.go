package boot

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/guest/process"
	"github.com/slipway-vm/slipway/guest/share"
)

// Stage is the entrypoint before it is the entrypoint: the first process of
// its pid and mount namespaces, which makes the root as containers know it,
// takes on the user and executes. It does not return.
func Stage() {
	// Namespaces and credentials that follow belong to this thread, and execve
	// keeps those of the thread that calls it.
	runtime.LockOSThread()
	report := os.NewFile(stageReportFD, "report")
	unix.CloseOnExec(stageReportFD)
	err := runStage(report)
	failure := &stageFailure{Code: process.ExitCode(err), Message: err.Error()}
	if json.NewEncoder(report).Encode(stageReport{Failure: failure}) != nil {
		logf("%v", err)
	}
	os.Exit(failure.Code)
}

func runStage(report *os.File) error {
	config := os.NewFile(stageConfigFD, "config")
	data, err := io.ReadAll(config)
	config.Close()
	if err != nil {
		return fmt.Errorf("read the stage's configuration: %w", err)
	}
	line, rest, _ := bytes.Cut(data, []byte("\n"))
	var c stageConfig
	if err := json.Unmarshal(line, &c); err != nil {
		return fmt.Errorf("read the stage's configuration: %w", err)
	}
	spec, err := share.ParseSpec(rest)
	if err != nil {
		return err
	}
	spec.Hostname, spec.Env = c.Hostname, c.Env
	// In the entrypoint's root there is no path to it.
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer self.Close()
	var program *configuration
	if c.First {
		if program, err = openConfiguration(c.Share); err != nil {
			return err
		}
	}
	if err := enterRoot(c, spec); err != nil {
		return err
	}
	if program != nil {
		program.apply(report)
		if name, err := os.Hostname(); err == nil { // user-data may have changed it
			spec.Hostname = name
		}
	}
	if spec.TTY {
		if err := takeTerminal(); err != nil {
			return err
		}
	}
	if !c.First || program != nil {
		spec.Found = nil // it may be another by now
	}
	return execute(spec, self)
}

// enterRoot turns the share's root into /.
func enterRoot(c stageConfig, spec *share.Spec) error {
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("unshare the cgroup namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	dir := filepath.Join(c.Share, share.RootDir)
	if err := unix.Mount(dir, dir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind the root: %w", err)
	}
	root, err := process.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := mountContainer(root, spec); err != nil {
		return err
	}
	if err := layFiles(root, c.Etc, spec.ReadOnly); err != nil {
		return err
	}
	if err := mountPlacements(root, c.Share, spec); err != nil {
		return err
	}
	if err := unix.Chdir(dir); err != nil {
		return err
	}
	// The two directories may be the same: the old root then lies over the
	// new one until it is unmounted.
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the old root: %w", err)
	}
	return unix.Chdir("/")
}

func execute(spec *share.Spec, self *os.File) error {
	root, err := process.OpenRoot("/")
	if err != nil {
		return err
	}
	defer root.Close()
	req := spec.Request()
	if spec.Found == nil {
		found, err := process.Find(root, req)
		if err != nil {
			return err
		}
		spec.Found = &found
	}
	p := req.With(*spec.Found)
	dir, err := root.MkdirAll(p.Dir, 0o755, 0, 0)
	if err != nil {
		return fmt.Errorf("make the working directory: %w", err)
	}
	defer dir.Close()
	if err := unix.Fchdir(int(dir.Fd())); err != nil {
		return fmt.Errorf("enter the working directory %s: %w", p.Dir, err)
	}
	if spec.ReadOnly {
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		if err := unix.MountSetattr(unix.AT_FDCWD, "/", 0, &attr); err != nil {
			return fmt.Errorf("make the root read-only: %w", err)
		}
	}
	unix.Umask(0o022)
	if err := limit(0, "/proc/self", &spec.Options); err != nil {
		return err
	}
	if err := confine(&spec.Options); err != nil {
		return err
	}
	if err := become(p.Identity); err != nil {
		return err
	}
	if spec.Init {
		return executeReaper(self, p, spec.TTY)
	}
	return process.StartError(p, syscall.Exec(p.Path, p.Args, p.Env))
}

// become takes on the identity, for this thread. The standard streams go to
// the user as well: /dev/stdout is opened anew by programs that log to it.
func become(id process.Identity) error {
	for fd := range 3 {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || st.Rdev == unix.Mkdev(1, 3) {
			continue // /dev/null is everybody's
		}
		if err := unix.Fchown(fd, int(id.UID), int(id.GID)); err != nil {
			return fmt.Errorf("hand over stream %d: %w", fd, err)
		}
	}
	groups := make([]int, len(id.Groups))
	for i, gid := range id.Groups {
		groups[i] = int(gid)
	}
	if err := unix.Setgroups(groups); err != nil {
		return fmt.Errorf("set groups: %w", err)
	}
	// Package syscall would stop the other threads and change these too.
	uid, gid := uintptr(id.UID), uintptr(id.GID)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, gid, gid, gid); errno != 0 {
		return fmt.Errorf("set gid %d: %w", gid, errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid); errno != 0 {
		return fmt.Errorf("set uid %d: %w", uid, errno)
	}
	return nil
}
