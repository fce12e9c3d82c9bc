//go:build guest

package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// soon is when the user of a busy machine knows what was wrong with his request.
const soon = 10 * time.Second

// refused runs what must fail: soon, with a status, an explanation in few lines, and
// nothing left.
func (s *state) refused(t *testing.T, code int, why []string, args ...string) {
	t.Helper()
	here := s.as(t)
	r := here.run(args...).exits(code).complains(why...).says("")
	if r.took > soon {
		t.Errorf("it took %s", r.took)
	}
	if n := strings.Count(r.stderr, "\n"); n < 1 || n > 3 {
		t.Errorf("stderr has %d lines:\n%s", n, r.stderr)
	}
	here.run("server", "list", "-f", "value").ok().says("")
	here.clean()
}

// Bad requests are answered with what is wrong and why.
func TestBadInput(t *testing.T) {
	t.Parallel()
	s := newState(t)
	h := newHub(t)
	noPath := ociLayout(t, configured(t, func(c *v1.Config) { c.Entrypoint, c.Cmd = nil, nil }))
	tests := []struct {
		name string
		code int
		args []string
		why  []string
	}{
		{"unknown image", 125, []string{"boot", h.host + "/no/such:1"}, []string{h.host + "/no/such:1", "not found"}},
		{"unknown layout", 125, []string{"boot", "oci:/no/such"}, []string{"/no/such", "no such file"}},
		{"unknown archive", 125, []string{"boot", "docker-archive:/no/such.tar"}, []string{"/no/such.tar", "no such file"}},
		{"not an archive", 125, []string{"boot", "oci-archive:/etc/passwd"}, []string{"/etc/passwd"}},
		{"unknown tag", 125, []string{"boot", busybox + ":nosuch"}, []string{"nosuch"}},
		{"connection refused", 125, []string{"boot", "127.0.0.1:1/test"}, []string{"127.0.0.1:1", "refused"}},
		{"bad reference", 125, []string{"boot", "Not A Reference"}, []string{"Not A Reference"}},
		{"no reference", 125, []string{"boot"}, []string{"no image"}},
		{"never pulled", 125, []string{"boot", "--pull", "never", h.host + "/no/such"}, []string{h.host + "/no/such"}},
		{"no command", 125, []string{"boot", noPath}, []string{"command"}},
		{"too little memory", 125, []string{"boot", "--memory", "16M", busybox, "true"}, []string{"16 MiB", "memory", "needs"}},
		{"memory that is none", 125, []string{"boot", "--memory", "lots", busybox, "true"}, []string{"lots", "memory"}},
		{"too small a disk", 125, []string{"boot", "--disk", "1K", busybox, "true"}, []string{"disk"}},
		{"no processors", 125, []string{"boot", "--vcpus", "-1", busybox, "true"}, []string{"-1", "processors"}},
		{"unknown flavor", 125, []string{"boot", "--flavor", "m9.vast", busybox, "true"}, []string{"m9.vast", "m1.tiny"}},
		{"unknown kernel", 125, []string{"boot", "--kernel", "nosuch", busybox, "true"}, []string{"nosuch", "kernel build"}},
		{"unknown root mode", 125, []string{"boot", "--root", "floppy", busybox, "true"}, []string{"floppy", "virtiofs", "9p"}},
		{"bad environment", 125, []string{"boot", "--env", "=x", busybox, "true"}, []string{`"=x"`, "NAME=VALUE"}},
		{"no environment file", 125, []string{"boot", "--env-file", "/no/such", busybox, "true"}, []string{"/no/such"}},
		{"bad volume", 125, []string{"boot", "--volume", "/srv", busybox, "true"}, []string{`"/srv"`, "HOST:GUEST"}},
		{"bad volume mode", 125, []string{"boot", "--volume", "/srv:/srv:rx", busybox, "true"}, []string{"ro", "rw"}},
		{"volume over the root", 125, []string{"boot", "--volume", "/srv:/", busybox, "true"}, []string{"root"}},
		{"volume of nothing", 125, []string{"boot", "--volume", "/no/such:/srv", busybox, "true"}, []string{"/no/such", "no such directory"}},
		{"relative workdir", 125, []string{"boot", "--workdir", "srv", busybox, "true"}, []string{`"srv"`, "absolute"}},
		{"workdir that is a file", 126, []string{"boot", "--workdir", "/etc/passwd", busybox, "true"}, []string{"/etc/passwd"}},
		{"bad server name", 125, []string{"boot", "--name", "a b", busybox, "true"}, []string{`"a b"`}},
		{"bad host name", 125, []string{"boot", "--hostname", "a_b", busybox, "true"}, []string{`"a_b"`}},
		{"unknown flag", 125, []string{"boot", "--nosuch", busybox}, []string{"--nosuch"}},
		{"unknown user", 125, []string{"boot", "--user", "who", busybox, "true"}, []string{"who"}},
		{"unknown command", 1, []string{"bollard"}, []string{"bollard"}},
		{"no such server to show", 1, []string{"server", "show", "nosuch"}, []string{"nosuch"}},
		{"no such server to stop", 1, []string{"server", "stop", "nosuch"}, []string{"nosuch"}},
		{"no such server to start", 1, []string{"server", "start", "nosuch"}, []string{"nosuch"}},
		{"no such server to delete", 1, []string{"server", "delete", "nosuch"}, []string{"nosuch"}},
		{"no such server to read", 1, []string{"server", "logs", "nosuch"}, []string{"nosuch"}},
		{"no such image to show", 1, []string{"image", "show", "nosuch"}, []string{"nosuch"}},
		{"no such image to delete", 1, []string{"image", "delete", "nosuch"}, []string{"nosuch"}},
		{"no such image to pull", 1, []string{"image", "pull", "--progress", "none", h.host + "/no/such"}, []string{h.host + "/no/such"}},
		{"not a kernel", 1, []string{"kernel", "import", "/etc/passwd"}, []string{"/etc/passwd"}},
		{"unknown format", 1, []string{"server", "list", "-f", "xml"}, []string{"xml", "json"}},
		{"unknown column", 1, []string{"server", "list", "-c", "Colour"}, []string{"Colour", "Status"}},
		{"state directory too long", 1, []string{"server", "list", "--state-dir", "/tmp/" + strings.Repeat("x", 60)}, []string{"too long", "50"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { s.refused(t, tt.code, tt.why, tt.args...) })
	}
}

// A registry's lies are found out, and what is wrong is named.
func TestRegistryLies(t *testing.T) {
	t.Parallel()
	s := newState(t)
	h, ref, layer := testHub(t)
	other := h.push(t, "test/other", empty.Image)
	digest := func(ref string) string {
		r, err := name.ParseReference(ref)
		if err != nil {
			t.Fatal(err)
		}
		d, err := remote.Head(r)
		if err != nil {
			t.Fatal(err)
		}
		return d.Digest.String()
	}
	right, wrong := digest(ref), digest(other)
	// in changes the bodies of the answers whose path contains part.
	in := func(part string, change func([]byte) []byte) func(http.Handler) http.Handler {
		return func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, part) {
					next.ServeHTTP(w, r)
					return
				}
				var body bytes.Buffer
				next.ServeHTTP(&kept{w, &body}, r)
				b := change(body.Bytes())
				w.Header().Set("Content-Length", fmt.Sprint(len(b)))
				_, _ = w.Write(b)
			})
		}
	}
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte {
			if at < len(b) {
				b[len(b)-1-at] ^= 1
			}
			return b
		}
	}
	tests := []struct {
		name string
		ref  string
		wrap func(http.Handler) http.Handler
		why  []string
	}{
		{"a byte of a layer", ref, in("/blobs/"+layer, flip(100_000)), []string{layer}},
		{"the last byte of a layer", ref, in("/blobs/"+layer, flip(0)), []string{layer}},
		{"a layer cut short", ref, in("/blobs/"+layer, func(b []byte) []byte { return b[:len(b)/2] }), []string{layer}},
		{"a layer too long", ref, in("/blobs/"+layer, func(b []byte) []byte { return append(b, "more"...) }), []string{layer}},
		{"another manifest", ref + "@" + right, in("/manifests/", func([]byte) []byte { return []byte(`{"schemaVersion": 2}`) }), []string{right}},
		{"a digest that it has not", ref + "@" + wrong, nil, []string{wrong, "not found"}},
		{"a manifest that is none", ref, in("/manifests/", func([]byte) []byte { return []byte("<html>hello</html>") }), []string{ref}},
		{"a broken server", ref, func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				http.Error(w, "out of order", http.StatusInternalServerError)
			})
		}, []string{ref, "500"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h.through(tt.wrap)
			s.refused(t, codeSlipway, tt.why, "boot", tt.ref, "true")
			if left := layerFiles(t, s); len(left) > 0 {
				t.Errorf("layers were kept: %q", left)
			}
		})
	}
	h.through(nil)
	s.run("boot", "--rm", ref, "echo", "whole").ok().says("whole\n")
}

// kept is a response that goes nowhere but to a buffer.
type kept struct {
	http.ResponseWriter
	body *bytes.Buffer
}

func (k *kept) WriteHeader(int) {}

func (k *kept) Write(b []byte) (int, error) { return k.body.Write(b) }

// Settings that are wrong are named with the file they are in.
func TestBadConfiguration(t *testing.T) {
	t.Parallel()
	s := newState(t)
	for _, tt := range []struct{ name, content, key string }{
		{"unknown key", "boot:\n  flavour: m1.tiny\n", "boot.flavour"},
		{"bad value", "boot:\n  root: floppy\n", "boot.root"},
		{"bad duration", "engine:\n  idle_timeout: soon\n", "engine.idle_timeout"},
		{"not YAML", "boot: [", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "slipway.yaml")
			writeFile(t, file, tt.content)
			s.refused(t, codeSlipway, []string{file, tt.key}, "boot", "--config", file, busybox, "true")
		})
	}
	t.Run("no file", func(t *testing.T) {
		s.refused(t, 1, []string{"/no/such.yaml"}, "server", "list", "--config", "/no/such.yaml")
	})
	bad := s.as(t)
	bad.env = append(bad.env, "SLIPWAY_BOOT_ROOT=floppy")
	bad.run("server", "list").exits(1).complains("SLIPWAY_BOOT_ROOT", "floppy")
	if pids := engines(s.dir); len(pids) != 1 {
		t.Errorf("engines %v, want the one of the lists", pids)
	}
}

// A state directory without room, or without rights, is what the message says.
func TestBadStateDirectory(t *testing.T) {
	t.Parallel()
	t.Run("full", func(t *testing.T) {
		s := newState(t)
		small := filepath.Join(s.dir, "small")
		mountTmpfs(t, small, "size=64k")
		writeUntilFull(t, filepath.Join(small, "filler"))
		r := s.run("boot", "--state-dir", small, busybox, "true").exits(codeSlipway).complains("no space left on device")
		if r.took > soon {
			t.Errorf("it took %s", r.took)
		}
		endEngines(t, small)
	})
	t.Run("full in the middle", func(t *testing.T) {
		s := newState(t)
		small := filepath.Join(s.dir, "small")
		mountTmpfs(t, small, "size=96m")
		here := &state{t: t, dir: small, env: environ(small)}
		here.run("kernel", "import", os.Getenv("SLIPWAY_TEST_KERNEL_DEB")).ok()
		writeUntilFull(t, filepath.Join(small, "filler"))
		here.run("boot", busybox, "true").exits(codeSlipway).complains("full")
		if err := os.Remove(filepath.Join(small, "filler")); err != nil {
			t.Fatal(err)
		}
		here.run("server", "list", "-f", "value").ok().says("")
		here.clean()
		here.run("boot", "--rm", "--disk", "16M", busybox, "echo", "room again").ok().says("room again\n")
		here.clean()
		endEngines(t, small)
	})
	t.Run("read-only", func(t *testing.T) {
		s := newState(t)
		dir := filepath.Join(s.dir, "ro")
		mountTmpfs(t, dir, "ro")
		s.run("boot", "--state-dir", filepath.Join(dir, "new"), busybox, "true").exits(codeSlipway).complains(dir, "read-only file system")
	})
	t.Run("a file", func(t *testing.T) {
		s := newState(t)
		file := filepath.Join(s.dir, "file")
		writeFile(t, file, "")
		s.run("boot", "--state-dir", file, busybox, "true").exits(codeSlipway).complains(file, "not a directory")
	})
	t.Run("not root", func(t *testing.T) {
		s := newState(t)
		s.run("server", "list").ok()
		// Programs where nobody may go are none for nobody.
		dir := newDir(t)
		for _, name := range []string{"slipway", "slipwayd", "slipway-init", "slipway-configure"} {
			if out, err := exec.Command("cp", filepath.Join(bin, name), dir).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
		if err := os.Chmod(scratch, 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(filepath.Join(dir, "slipway"), "server", "list")
		cmd.Env = environ(s.dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "permission denied") {
			t.Errorf("%v: %s", err, out)
		}
	})
}

// mountTmpfs mounts a file system at dir, which it makes, for the test.
func mountTmpfs(t *testing.T, dir, options string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	flags := uintptr(0)
	if options == "ro" {
		flags, options = syscall.MS_RDONLY, ""
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", flags, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

func endEngines(t *testing.T, dir string) {
	t.Helper()
	if err := endEngine(dir, syscall.SIGTERM); err != nil {
		t.Error(err)
	}
}

func writeUntilFull(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 4096)
	for err == nil {
		_, err = f.Write(block)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// A host that lacks something is told what to install, by boot and by the doctor.
func TestHostLacks(t *testing.T) {
	tests := []struct {
		name string
		hide string // a pattern of files or directories
		boot []string
		item string
		says string
	}{
		{"QEMU", "/usr/bin/qemu-system-x86_64", []string{"qemu-system-x86_64", "install qemu-system-x86"}, "qemu", "missing install qemu-system-x86"},
		{
			"libvirt's driver", "/usr/lib/*/libvirt/connection-driver",
			[]string{"install libvirt-daemon-driver-qemu"}, "libvirt", "missing install libvirt-daemon-driver-qemu",
		},
		{"virtiofsd", "/usr/lib*/*/virtiofsd", []string{"virtiofsd", "--root block"}, "virtiofsd", "limited install"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			files, err := filepath.Glob(tt.hide)
			if err != nil || len(files) == 0 {
				t.Fatalf("nothing to hide: %v", err)
			}
			s := newState(t)
			s.under = hidden(t, files)
			if r := s.run("boot", busybox, "true").exits(codeSlipway).complains(tt.boot...); r.took > soon {
				t.Errorf("it took %s", r.took)
			}
			r := s.run("host", "doctor", "-f", "value", "-c", "Item", "-c", "Status", "-c", "Advice")
			if want := tt.item + " " + tt.says; !strings.Contains(r.stdout, want) {
				t.Errorf("no %q from the doctor:\n%s", want, r.stdout)
			}
			if missing := strings.Contains(tt.says, "missing"); missing != (r.code == 1) {
				t.Errorf("the doctor ends with %d", r.code)
			}
			s.under = nil
		})
	}
}

// hidden is a command that runs another on a host without some files: in a mount
// namespace of its own, where what is in their place cannot be executed or loaded.
func hidden(t *testing.T, files []string) []string {
	t.Helper()
	var script strings.Builder
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		how := "--bind /dev/null"
		if info.IsDir() {
			how = "-t tmpfs none"
		}
		fmt.Fprintf(&script, "mount %s '%s' || exit 99; ", how, f)
	}
	return []string{"unshare", "--mount", "--propagation", "private", "sh", "-c", script.String() + `exec "$@"`, "sh"}
}
