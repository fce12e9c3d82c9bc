package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// containerdPuller starts a containerd of its own and pulls with its test client,
// which unpacks too. That fetches all layers at once unless
// --max-concurrent-downloads says less.
type containerdPuller struct {
	dir         string // of the programs; empty for those of the system
	snapshotter string
	config      string // what is not as it is shipped

	d    *daemon
	sock string
}

// fourUnpacks is what makes containerd 2 fastest. It takes igzip by itself, where that
// is installed.
const fourUnpacks = `
[plugins."io.containerd.transfer.v1.local"]
max_concurrent_unpacks = 4
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
platform = "linux"
snapshotter = "erofs"
differ = "erofs"
`

// program is the path of a program in a directory, or its name for exec.LookPath.
func program(dir, name string) string {
	if dir == "" {
		return name
	}
	return filepath.Join(dir, name)
}

func (p *containerdPuller) open(ctx context.Context, _ options, dir string) error {
	p.sock = filepath.Join(dir, "c.sock")
	config := filepath.Join(dir, "config.toml")
	version, path := 2, os.Getenv("PATH")
	if p.dir != "" {
		version, path = 3, p.dir+":"+path
	}
	// Kubernetes' interface wants a network set-up; nothing here needs it.
	if err := os.WriteFile(config, fmt.Appendf(nil, `version = %d
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = %q
[plugins."io.containerd.internal.v1.opt"]
path = %q
%s`, version, filepath.Join(dir, "root"), filepath.Join(dir, "run"), p.sock, filepath.Join(dir, "opt"), p.config), 0o600); err != nil {
		return err
	}
	ready := func() error {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", p.sock)
		if err != nil {
			return err
		}
		return errors.Join(conn.Close(), p.ctr(ctx, "version"))
	}
	var err error
	p.d, err = startDaemon(ctx, filepath.Join(dir, "log"), ready, "env", "PATH="+path, program(p.dir, "containerd"), "--config", config)
	return err
}

func (p *containerdPuller) ctr(ctx context.Context, args ...string) error {
	return runCommand(ctx, program(p.dir, "ctr"), append([]string{"--address", p.sock}, args...)...)
}

func (p *containerdPuller) pull(ctx context.Context, ref string) error {
	return p.ctr(ctx, "images", "pull", "--plain-http", "--snapshotter", p.snapshotter, ref)
}

func (p *containerdPuller) rest(context.Context) error { return nil }

func (p *containerdPuller) close(context.Context) error { return p.d.stop() }
