//go:build guest

package vmtest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/slipway-vm/slipway/cloudinit"
	"github.com/slipway-vm/slipway/cloudinit/seed"
	"github.com/slipway-vm/slipway/guest"
	"github.com/slipway-vm/slipway/guest/agent"
)

// bootDeadline bounds one guest's life in a test.
const bootDeadline = 3 * time.Minute

// What TestMain prepares for all tests.
var (
	kernel    guest.Kernel
	initramfs string
	probe     string // the entrypoint's binary
)

func TestMain(m *testing.M) {
	code, err := prepareAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "vmtest:", err)
		code = 1
	}
	os.Exit(code)
}

func prepareAndRun(m *testing.M) (int, error) {
	file := cmp.Or(os.Getenv("SLIPWAY_TEST_KERNEL"), os.Getenv("SLIPWAY_TEST_KERNEL_DEB"))
	init := os.Getenv("SLIPWAY_TEST_INIT")
	if file == "" || init == "" {
		return 0, fmt.Errorf("SLIPWAY_TEST_KERNEL and SLIPWAY_TEST_INIT must name a kernel and slipway-init")
	}
	dir, err := os.MkdirTemp("", "slipway-vmtest-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	store, err := guest.OpenKernels(filepath.Join(dir, "kernels"))
	if err != nil {
		return 0, err
	}
	if kernel, err = store.Import(ctx, file); err != nil {
		return 0, err
	}
	if initramfs, err = store.Initramfs(ctx, kernel, init); err != nil {
		return 0, err
	}
	probe = filepath.Join(dir, "probe")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", probe, "./testdata/probe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build probe: %w: %s", err, out)
	}
	return m.Run(), nil
}

// vm is a guest to boot. The zero value of each field is a default.
type vm struct {
	machine guest.Machine
	root    guest.RootMode
	memory  int // MiB
	spec    guest.Spec
	volumes bool              // the host changes volumes meanwhile
	files   map[string]string // of the share, beside root/bin/probe
	extra   []string          // kernel arguments
	share   string            // set to boot another's share again
	mute    bool              // there is no port for the agent
}

// running is a booted guest.
type running struct {
	t       *testing.T
	dir     string
	share   string
	socket  string
	console string
	monitor string
	qemu    *exec.Cmd
	exited  chan error
	out     [3]bytes.Buffer // received so far, by stream
}

// boot starts the guest and ends it with the test.
func boot(t *testing.T, v vm) *running {
	t.Helper()
	if v.machine == "" {
		v.machine = guest.DefaultMachine(guest.AccelTCG)
	}
	if v.root == "" {
		v.root = guest.RootVirtioFS
	}
	if v.memory == 0 {
		v.memory = 256
	}
	dir := t.TempDir()
	r := &running{
		t: t, dir: dir, share: v.share,
		socket:  filepath.Join(dir, "agent.sock"),
		console: filepath.Join(dir, "console.log"),
		monitor: filepath.Join(dir, "monitor.sock"),
		exited:  make(chan error, 1),
	}
	if r.share == "" {
		r.share = filepath.Join(dir, "share")
		writeShare(t, r.share, v)
	}
	args := qemuArgs(t, v, r)
	r.qemu = exec.Command("qemu-system-x86_64", args...)
	var stderr bytes.Buffer
	r.qemu.Stderr = &stderr
	if err := r.qemu.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		err := r.qemu.Wait()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, stderr.String())
		}
		r.exited <- err
	}()
	t.Cleanup(func() {
		r.qemu.Process.Kill()
		if t.Failed() {
			log, _ := os.ReadFile(r.console)
			t.Logf("console:\n%s", log)
		}
	})
	return r
}

func writeShare(t *testing.T, share string, v vm) {
	t.Helper()
	spec := v.spec
	if len(spec.Args) == 0 {
		spec.Args = []string{"probe", "id"}
	}
	process, err := spec.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for name, data := range v.files {
		files[name] = data
	}
	for name, data := range map[string]string{
		"root/etc/passwd": "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n",
		"root/etc/group":  "root:x:0:\napp:x:1001:\nwheel:x:10:app\nmedia:x:20:other,app\n",
	} {
		if _, ok := files[name]; !ok {
			files[name] = data
		}
	}
	binary, err := os.ReadFile(probe)
	if err != nil {
		t.Fatal(err)
	}
	files["root/bin/probe"] = string(binary)
	files[guest.SpecFile] = string(process)
	for name, data := range files {
		write(t, filepath.Join(share, name), data)
	}
	err = seed.Write(filepath.Join(share, guest.SeedDir), &cloudinit.Seed{
		MetaData: cloudinit.MetaData{InstanceID: "i-test", LocalHostname: "web"},
	})
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, name, data string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	mode := os.FileMode(0o644)
	if strings.Contains(name, "/bin/") {
		mode = 0o755
	}
	if err := os.WriteFile(name, []byte(data), mode); err != nil {
		t.Fatal(err)
	}
}

func qemuArgs(t *testing.T, v vm, r *running) []string {
	bus, machine := "pci", "pc,accel=tcg"
	// As package launcher/domain has it.
	firmware := []string{
		"-bios", "qboot.rom",
		"-global", "PIIX4_PM.acpi-root-pci-hotplug=off", "-global", "PIIX4_PM.acpi-pci-hotplug-with-bridge-support=off",
	}
	if v.machine == guest.MachineMicroVM {
		bus, machine = "device", "microvm,acpi=on,pit=off,pic=off,rtc=on,accel=tcg"
		firmware = []string{"-global", "virtio-mmio.force-legacy=false"}
	}
	mem := strconv.Itoa(v.memory) + "M"
	args := []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-machine", machine + ",memory-backend=ram", "-cpu", "max,-erms", "-m", mem, "-smp", "1",
		"-object", "memory-backend-memfd,id=ram,share=on,size=" + mem,
		"-kernel", kernel.Path, "-initrd", initramfs,
		"-append", guest.CommandLine(guest.CommandLineOptions{
			Machine: v.machine, Accel: guest.AccelTCG, Root: v.root,
			TSCKHz: tscKHz(), VCPUs: 1, MPTable: kernel.MPTable, Minimal: kernel.Minimal, Extra: v.extra,
		}),
		"-serial", "file:" + r.console,
		"-monitor", "unix:" + r.monitor + ",server=on,wait=off",
		"-device", "virtio-rng-" + bus,
		"-device", "virtio-balloon-" + bus + ",free-page-reporting=on",
	}
	args = append(args, firmware...)
	if !v.mute {
		args = append(args, "-chardev", "socket,id=agent,server=on,wait=off,path="+r.socket,
			"-device", "virtio-serial-"+bus,
			"-device", "virtserialport,chardev=agent,name="+guest.AgentPort)
	}
	switch v.root {
	case guest.RootVirtioFS:
		socket := filepath.Join(r.dir, "fs.sock")
		startVirtiofsd(t, r.share, socket, v.volumes)
		args = append(args, "-chardev", "socket,id=fs,path="+socket,
			"-device", "vhost-user-fs-"+bus+",chardev=fs,tag="+guest.ShareTag)
	case guest.Root9P:
		args = append(args, "-fsdev", "local,id=fs,security_model=passthrough,multidevs=remap,path="+r.share,
			"-device", "virtio-9p-"+bus+",fsdev=fs,mount_tag="+guest.ShareTag)
	}
	return args
}

func startVirtiofsd(t *testing.T, share, socket string, volumes bool) {
	t.Helper()
	cache := "cache=always"
	if volumes {
		cache = "cache=auto"
	}
	cmd := exec.Command("/usr/lib/qemu/virtiofsd", "--socket-path="+socket, "-o", "source="+share, "-o", "xattr", "-o", cache, "-f")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); cmd.Wait() }()
	t.Cleanup(func() { cmd.Process.Kill(); <-done })
	for range 500 {
		if _, err := os.Stat(socket); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("virtiofsd did not open its socket")
}

// tscKHz is the host's TSC frequency as its kernel found it, or else roughly
// the clock's.
func tscKHz() int {
	data, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(data)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "cpu MHz" {
			if mhz, err := strconv.ParseFloat(strings.TrimSpace(value), 64); err == nil {
				return int(mhz * 1000)
			}
		}
	}
	return 0
}

func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), bootDeadline)
	t.Cleanup(cancel)
	return ctx
}

func (r *running) dial(ctx context.Context) *agent.Client {
	r.t.Helper()
	c, err := agent.Dial(ctx, r.socket)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return c
}

// result is all that a guest's entrypoint gave.
type result struct {
	stdout, stderr string
	exit           agent.Exit
	timeline       agent.Timeline
}

// finish collects the output and the exit and lets the guest power off.
func (r *running) finish(ctx context.Context, c *agent.Client) result {
	r.t.Helper()
	var res result
	err := r.collect(ctx, c, "")
	if err != nil {
		r.t.Fatal("output:", err)
	}
	if res.exit, err = c.Wait(ctx); err != nil {
		r.t.Fatal(err)
	}
	err = c.Events(ctx, func(e agent.Event) error {
		if e.Exit != nil {
			res.timeline = e.Timeline
		}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	if err := c.Shutdown(ctx); err != nil {
		r.t.Fatal(err)
	}
	r.wait(ctx)
	res.stdout, res.stderr = r.out[agent.Stdout].String(), r.out[agent.Stderr].String()
	return res
}

var errSeen = errors.New("text was seen")

// collect takes output until its end, or until stdout contains text.
func (r *running) collect(ctx context.Context, c *agent.Client, text string) error {
	from := agent.Offsets{Stdout: int64(r.out[agent.Stdout].Len()), Stderr: int64(r.out[agent.Stderr].Len())}
	return c.Output(ctx, from, func(s agent.Stream, offset int64, data []byte) error {
		if offset != int64(r.out[s].Len()) {
			r.t.Errorf("%s at %d, want %d", s, offset, r.out[s].Len())
		}
		r.out[s].Write(data)
		if text != "" && strings.Contains(r.out[agent.Stdout].String(), text) {
			return errSeen
		}
		return nil
	})
}

// waitFor returns when the entrypoint's stdout contains text.
func (r *running) waitFor(ctx context.Context, c *agent.Client, text string) {
	r.t.Helper()
	if err := r.collect(ctx, c, text); !errors.Is(err, errSeen) {
		r.t.Fatalf("waiting for %q: %v", text, err)
	}
}

// wait waits for QEMU's end.
func (r *running) wait(ctx context.Context) {
	r.t.Helper()
	select {
	case err := <-r.exited:
		if err != nil {
			r.t.Fatal(err)
		}
	case <-ctx.Done():
		r.t.Fatal("the guest did not power off")
	}
}

// run boots a guest and returns what its entrypoint gave.
func run(t *testing.T, v vm) result {
	t.Helper()
	ctx := deadline(t)
	r := boot(t, v)
	return r.finish(ctx, r.dial(ctx))
}

// chacha is the source of the probe's random output.
func chacha(seed int) *rand.ChaCha8 {
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	return rand.NewChaCha8(key)
}
