package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// daemon is a program that runs while others are measured.
type daemon struct {
	cmd   *exec.Cmd
	ended chan struct{}
	err   error // once ended
}

// startDaemon starts a program, its output going to the file log, and waits until
// ready gives no error.
func startDaemon(ctx context.Context, log string, ready func() error, program string, args ...string) (*daemon, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	d := &daemon{cmd: exec.CommandContext(ctx, program, args...), ended: make(chan struct{})}
	d.cmd.Stdout, d.cmd.Stderr = out, out
	d.cmd.Cancel = func() error { return d.cmd.Process.Signal(syscall.SIGTERM) }
	d.cmd.WaitDelay = 10 * time.Second
	// In a session of its own, as Slipway's engine is: the kernel shares processors
	// among sessions (sched(7), autogroup), and on a busy machine that would favour
	// whoever has more of them. Besides, a terminal's interrupt is to reach it
	// after those who use it.
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		d.err = d.cmd.Wait()
		close(d.ended)
	}()
	deadline := time.After(20 * time.Second)
	for {
		err := ready()
		if err == nil {
			return d, nil
		}
		select {
		case <-d.ended:
			said, _ := os.ReadFile(log)
			return nil, fmt.Errorf("%s: ended: %w: %s", program, d.err, said)
		case <-deadline:
			return nil, errors.Join(fmt.Errorf("%s: does not answer: %w", program, err), d.stop())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// stop ends the daemon.
func (d *daemon) stop() error {
	if d == nil {
		return nil
	}
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-d.ended:
		return nil
	case <-time.After(20 * time.Second):
		d.cmd.Process.Kill()
		<-d.ended
		return fmt.Errorf("%s: had to be killed", d.cmd.Path)
	}
}

// registry is Debian's docker-registry on loopback, its storage in a directory.
type registry struct {
	*daemon
	host string
}

func startRegistry(ctx context.Context, dir string) (*registry, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &registry{host: l.Addr().String()}
	if err := l.Close(); err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "registry.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, `version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: %q}}
http: {addr: %q}
`, filepath.Join(dir, "registry"), r.host), 0o600); err != nil {
		return nil, err
	}
	ready := func() error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.host+"/v2/", http.NoBody)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		return resp.Body.Close()
	}
	r.daemon, err = startDaemon(ctx, filepath.Join(dir, "registry.log"), ready, "docker-registry", "serve", config)
	return r, err
}

// push copies an OCI layout to the registry, and gives the reference to it.
func (r *registry) push(ctx context.Context, layouts, name string) (string, error) {
	ref := r.host + "/" + name + ":latest"
	return ref, runCommand(ctx, "skopeo", "--insecure-policy", "copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false",
		"oci:"+filepath.Join(layouts, name)+":latest", "docker://"+ref)
}
