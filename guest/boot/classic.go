package boot

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/guest/agent"
)

// In the classic profile the guest is a cloud image with an init of its own, and
// cloud-init has mounted the share. What is left to do is what makes the guest a
// server: to run the entrypoint in its root, and to serve the agent.

// ClassicArg is the argument that makes slipway-init the runner of an entrypoint in
// a guest of another system. The directory where the share is mounted follows.
const ClassicArg = "classic"

// Classic runs the entrypoint, and powers the guest off once it has ended and the
// host knows. It does not return.
func Classic(dir string) {
	shareDir = dir
	g := newGuest()
	g.timeline = agent.Timeline{{Step: agent.StepInit, At: sinceBoot()}}
	g.modules = &loader{}
	g.cmdline.root = ClassicArg // there is a host, though the kernel was not told
	var err error
	if g.console, err = os.OpenFile("/dev/console", os.O_WRONLY|unix.O_NOCTTY, 0); err != nil {
		logf("%v", err)
	}
	go g.reaper.run()
	go g.stopOnSignal()
	go func() {
		if err := guarded(g.runClassic); err != nil {
			g.fail(err)
		}
	}()
	<-g.powerOff
	g.powerOffClassic()
}

func (g *guestState) runClassic() error {
	// systemd mounts it so that a process cannot leave the cgroup namespace that it
	// sees, which is what executing beside the entrypoint does.
	if err := unix.Mount("", cgroupRoot, "cgroup2", unix.MS_REMOUNT|noAll, "memory_recursiveprot"); err != nil {
		return fmt.Errorf("mount %s again: %w", cgroupRoot, err)
	}
	for _, step := range []struct {
		name string
		run  func() error
	}{
		{"open the agent's port", g.serveAgent},
		{"read the seed", g.readSeed},
		{"set up the entrypoint's surroundings", g.setUpClassic},
		{"start the entrypoint", g.startEntrypoint},
	} {
		if err := step.run(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

// setUpClassic leaves to the guest's own system what that has set up: its name and
// its network, whose resolver the entrypoint gets too.
func (g *guestState) setUpClassic() error {
	limit := syscall.Rlimit{Cur: openFiles, Max: openFiles}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("set the limit of open files: %w", err)
	}
	if err := setSysctls(g.spec.Sysctls); err != nil {
		return err
	}
	files := etcFiles(g.spec)
	if resolv, err := os.ReadFile("/etc/resolv.conf"); err == nil && len(resolv) > 0 && files["resolv.conf"] == nil {
		files["resolv.conf"] = resolv
	}
	if err := os.MkdirAll(etcDir, 0o755); err != nil {
		return err
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(etcDir, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// stopOnSignal stops the entrypoint when the guest's own system goes down.
func (g *guestState) stopOnSignal() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGTERM)
	<-signals
	if _, err := (*control)(g).Stop(-1); err != nil {
		logf("stop the entrypoint: %v", err)
		g.requestPowerOff()
	}
}

// powerOffClassic has the guest's own system power it off, in its order.
func (g *guestState) powerOffClassic() {
	defer func() {
		if v := recover(); v != nil {
			logf("panic: %v\n%s", v, debug.Stack())
		}
		unix.Sync()
		_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
		os.Exit(1)
	}()
	program, err := exec.LookPath("poweroff")
	if err != nil {
		logf("%v", err)
		return
	}
	err = syscall.Exec(program, []string{"poweroff"}, os.Environ())
	logf("%s: %v", program, err)
}
