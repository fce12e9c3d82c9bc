package host

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/slipway-vm/slipway/guest"
)

func newHost(t *testing.T, accel string) *Host {
	t.Helper()
	dir := t.TempDir()
	kernels, err := guest.OpenKernels(filepath.Join(dir, "kernels"))
	if err != nil {
		t.Fatal(err)
	}
	return New(Config{Memo: filepath.Join(dir, "host.json"), Accel: accel, Kernels: kernels, Init: "/nonexistent"})
}

func TestAcceleratorThatWasDecided(t *testing.T) {
	for _, want := range []guest.Accel{guest.AccelKVM, guest.AccelTCG} {
		got, err := newHost(t, string(want)).Accelerator(t.Context(), guest.Kernel{})
		if err != nil || got != want {
			t.Errorf("%s: got %s, %v", want, got, err)
		}
	}
}

func TestAnswerOfKVMIsKept(t *testing.T) {
	h := newHost(t, "auto")
	k := guest.Kernel{Digest: "sha256:00"}
	for fault, want := range map[string]guest.Accel{"": guest.AccelKVM, "it hangs": guest.AccelTCG} {
		if err := h.save(memo{KVM: map[string]string{h.key(k): fault}}); err != nil {
			t.Fatal(err)
		}
		if got, err := h.Accelerator(t.Context(), k); err != nil || got != want {
			t.Errorf("fault %q: %s, %v", fault, got, err)
		}
	}
	if _, known := h.KnownKVM(guest.Kernel{Digest: "sha256:01"}); known {
		t.Error("the answer for one kernel is taken for another's")
	}
}

// TestProbeEndsWithEngine kills a process, this test's own binary, that tries a
// guest which hangs.
func TestProbeEndsWithEngine(t *testing.T) {
	dir := os.Getenv("SLIPWAY_TEST_PROBE")
	if dir != "" {
		_, err := runProbe(t.Context(), filepath.Join(dir, "qemu"), guest.Kernel{}, "", filepath.Join(dir, "console"))
		t.Fatal("the guest ended:", err)
	}
	dir = t.TempDir()
	pidFile := filepath.Join(dir, "pid")
	script := "#!/bin/sh\necho $$ >" + pidFile + ".new; mv " + pidFile + ".new " + pidFile + "; exec sleep 600\n"
	if err := os.WriteFile(filepath.Join(dir, "qemu"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	engine := exec.Command(os.Args[0], "-test.run=^TestProbeEndsWithEngine$")
	engine.Env = append(os.Environ(), "SLIPWAY_TEST_PROBE="+dir)
	if err := engine.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	for deadline := time.Now().Add(time.Minute); pid == 0; time.Sleep(10 * time.Millisecond) {
		b, _ := os.ReadFile(pidFile)
		pid, _ = strconv.Atoi(strings.TrimSpace(string(b)))
		if time.Now().After(deadline) {
			t.Fatal("the guest was not started")
		}
	}
	if err := engine.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = engine.Wait()
	for deadline := time.Now().Add(time.Minute); running(pid); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			t.Fatal("the guest outlives the engine")
		}
	}
}

// running reports whether a process is there and not merely waiting to be reaped.
func running(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, state, _ := strings.Cut(string(b), ") ")
	return err == nil && !strings.HasPrefix(state, "Z")
}

func TestFindingsWithoutAKernel(t *testing.T) {
	h := newHost(t, "auto")
	findings := h.Examine(t.Context())
	i := slices.IndexFunc(findings, func(f Finding) bool { return f.Item == "guest kernel" })
	if i < 0 || findings[i].Status != Missing || !strings.Contains(findings[i].Advice, "slipway kernel import") {
		t.Errorf("findings: %+v", findings)
	}
	if c := h.Choose(t.Context()); c.Kernel != "" || c.Accelerator != "" {
		t.Errorf("chose %+v", c)
	}
}

// TestTSC compares two measurements: a guest's clock runs by this number.
func TestTSC(t *testing.T) {
	if rdtsc() == 0 {
		if measureTSC() != 0 {
			t.Error("a frequency of no counter")
		}
		return
	}
	a := measureTSC()
	time.Sleep(10 * time.Millisecond)
	b := measureTSC()
	if a < 100_000 || a > 10_000_000 || max(a, b)-min(a, b) > a/100 {
		t.Errorf("measured %d and %d kHz", a, b)
	}
}
