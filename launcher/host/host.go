// Package host finds out what this machine can do for guests: which programs are
// there, what runs a guest's instructions, what the kernel can mount. It needs no
// engine and no cgo, so that it can also say why an engine does not start.
package host

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/guest"
)

// Where the programs lie that are not on a PATH.
var virtiofsdPaths = []string{"/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd", "/usr/lib/virtiofsd"}

// probeTime is how long a guest may take under KVM to say that it runs. It says
// so within a second where KVM works; where it hangs, this is what the first boot
// on the host costs.
const probeTime = 10 * time.Second

// Config says where a Host keeps what it found, and what it need not find out.
type Config struct {
	// Memo is a file that keeps the answers that are expensive to get.
	Memo string
	// Accel is kvm or tcg where somebody has decided; else KVM is tried.
	Accel string
	// Kernels and Init make the probe guest.
	Kernels *guest.KernelStore
	Init    string
	Log     *slog.Logger
}

// Host answers for one machine. It implements launcher.Host.
type Host struct {
	cfg Config
	log *slog.Logger
	mu  sync.Mutex // one probe at a time
	tsc func() int
}

// New makes a Host. It looks at nothing yet.
func New(cfg Config) *Host {
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Host{cfg: cfg, log: log, tsc: sync.OnceValue(measureTSC)}
}

// TSCKHz is the frequency of the time-stamp counter in kHz, measured; 0 where
// there is none. TCG shows the guest the host's counter.
func (h *Host) TSCKHz() int { return h.tsc() }

// Emulator is the path of QEMU's system emulator.
func (h *Host) Emulator() (string, error) {
	p, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		return "", errors.New("there is no qemu-system-x86_64 on this host: install qemu-system-x86")
	}
	return p, nil
}

// Virtiofsd is the path of the virtiofs daemon.
func (h *Host) Virtiofsd() (string, error) {
	for _, p := range virtiofsdPaths {
		if unix.Access(p, unix.X_OK) == nil {
			return p, nil
		}
	}
	return "", errors.New("there is no virtiofsd on this host: install qemu-system-common or virtiofsd, or use --root block")
}

// memo is what the file of answers holds.
type memo struct {
	// KVM maps a host and kernel, see key, to what trying it gave: "" where a guest ran.
	KVM map[string]string `json:"kvm"`
}

// Accelerator says what is to run guests of a kernel: KVM only where a guest of
// that kernel has been seen to run under it on this host.
func (h *Host) Accelerator(ctx context.Context, k guest.Kernel) (guest.Accel, error) {
	switch h.cfg.Accel {
	case string(guest.AccelTCG):
		return guest.AccelTCG, nil
	case string(guest.AccelKVM):
		return guest.AccelKVM, nil
	}
	fault, err := h.KVM(ctx, k)
	if err != nil {
		return "", err
	}
	if fault != "" {
		return guest.AccelTCG, nil
	}
	return guest.AccelKVM, nil
}

// KVM says why guests of a kernel cannot run under KVM here, or "" if one did. The
// answer is kept until the host, its kernel, QEMU or the guest kernel change.
func (h *Host) KVM(ctx context.Context, k guest.Kernel) (fault string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m, key := h.load(), h.key(k)
	if fault, known := m.KVM[key]; known {
		return fault, nil
	}
	begin := time.Now()
	if fault, err = h.tryKVM(ctx, k); err != nil {
		return "", err
	}
	h.log.Info("tried KVM", "works", fault == "", "fault", fault, "elapsed", time.Since(begin))
	if m.KVM == nil {
		m.KVM = map[string]string{}
	}
	m.KVM[key] = fault
	if err := h.save(m); err != nil {
		h.log.Warn("what was found of the host is not kept", "err", err)
	}
	return fault, nil
}

// KnownKVM is KVM's answer where it has been tried.
func (h *Host) KnownKVM(k guest.Kernel) (fault string, known bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	fault, known = h.load().KVM[h.key(k)]
	return fault, known
}

// key stands for everything that KVM's answer depends on.
func (h *Host) key(k guest.Kernel) string {
	sum := sha256.New()
	for _, f := range []string{"/etc/machine-id", "/proc/version", "/proc/sys/kernel/random/boot_id"} {
		b, _ := os.ReadFile(f)
		_, _ = sum.Write(append(b, 0))
	}
	if qemu, err := h.Emulator(); err == nil {
		if info, err := os.Stat(qemu); err == nil {
			_, _ = fmt.Fprintf(sum, "%s %d %d\x00", qemu, info.Size(), info.ModTime().UnixNano())
		}
	}
	_, _ = sum.Write([]byte(k.Digest))
	return fmt.Sprintf("%x", sum.Sum(nil)[:12])
}

func (h *Host) load() memo {
	var m memo
	b, err := os.ReadFile(h.cfg.Memo)
	if err == nil && json.Unmarshal(b, &m) != nil {
		h.log.Warn("what was known of the host is unreadable and found out anew", "file", h.cfg.Memo)
	}
	return m
}

func (h *Host) save(m memo) error {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	tmp := h.cfg.Memo + ".new"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, h.cfg.Memo)
}

// tryKVM boots a guest that says one line and powers off. What hangs or dies here
// is the host's KVM; err is for all else.
func (h *Host) tryKVM(ctx context.Context, k guest.Kernel) (fault string, err error) {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return "there is no /dev/kvm", nil
	}
	if err != nil {
		return err.Error(), nil
	}
	_ = f.Close()
	qemu, err := h.Emulator()
	if err != nil {
		return "", err
	}
	initramfs, err := h.cfg.Kernels.Initramfs(ctx, k, h.cfg.Init)
	if err != nil {
		return "", err
	}
	h.sweep()
	dir, err := os.MkdirTemp(filepath.Dir(h.cfg.Memo), "probe-*")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	return runProbe(ctx, qemu, k, initramfs, filepath.Join(dir, "console"))
}

// sweep removes what a process that was killed while it tried KVM has left.
func (h *Host) sweep() {
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(h.cfg.Memo), "probe-*"))
	for _, dir := range left {
		if info, err := os.Stat(dir); err == nil && time.Since(info.ModTime()) > 2*probeTime {
			_ = os.RemoveAll(dir)
		}
	}
}

func runProbe(ctx context.Context, qemu string, k guest.Kernel, initramfs, console string) (string, error) {
	limited, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	cmd := exec.CommandContext(limited, qemu, ProbeArgs(guest.AccelKVM, k, initramfs, console, 0)...)
	cmd.WaitDelay = time.Second
	// A guest that hangs does not outlive an engine that is killed. The signal comes
	// with the end of the thread that started the guest, so that one waits for it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread()
	out, err := cmd.CombinedOutput()
	runtime.UnlockOSThread()
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	said, rerr := os.ReadFile(console)
	switch {
	case rerr == nil && strings.Contains(string(said), guest.ProbeLine):
		return "", nil
	case limited.Err() != nil:
		return fmt.Sprintf("a guest had not started after %s", probeTime), nil
	}
	// The first line that QEMU wrote says most.
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if line == "" && err != nil {
		line = err.Error()
	}
	return "a guest ended before it had started: " + line, nil
}

// ProbeArgs are QEMU's arguments for a guest of a kernel that does nothing but say
// that it runs, and power off.
func ProbeArgs(accel guest.Accel, k guest.Kernel, initramfs, console string, tscKHz int) []string {
	cpu := "max"
	if accel == guest.AccelKVM {
		cpu = "host"
	}
	return []string{
		"-machine", "microvm,acpi=on", "-accel", string(accel), "-cpu", cpu, "-m", "256", "-smp", "1",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-serial", "file:" + console,
		"-kernel", k.Path, "-initrd", initramfs,
		"-append", guest.CommandLine(guest.CommandLineOptions{
			Machine: guest.MachineMicroVM, Accel: accel, Probe: true, TSCKHz: tscKHz,
		}),
	}
}
