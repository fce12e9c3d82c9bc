package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// memory is the proportional set size of what runs for one idle server.
type memory struct {
	qemu, virtiofsd, engine int64
	floor                   int64 // of the bare guest
	standby                 int64 // of a guest that stands by and its virtiofsd
}

func (m memory) total() int64 { return m.qemu + m.virtiofsd + m.engine }

// settle is how long a server idles before its memory is read.
const settle = 5 * time.Second

// measureMemory starts a server, reads what it takes, makes the floor that
// corresponds to it, and deletes it.
func (s *slipway) measureMemory(ctx context.Context) (m memory, f *floor, err error) {
	const name = "bench"
	// What the engine took to import a kernel and an image is not a server's.
	if err := s.stopEngine(ctx); err != nil {
		return m, nil, err
	}
	if err := s.run(ctx, s.bootArgs([]string{"--detach", "--name", name}, "sleep", "1000")...); err != nil {
		return m, nil, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, s.run(ctx, "server", "delete", name))
	}()
	if err := s.run(ctx, "server", "show", name, "-f", "json"); err != nil {
		return m, nil, err
	}
	select {
	case <-ctx.Done():
		return m, nil, ctx.Err()
	case <-time.After(settle):
	}

	pid, err := s.enginePID(ctx)
	if err == nil && pid == 0 {
		err = errors.New("no engine runs beside a running server")
	}
	if err != nil {
		return m, nil, err
	}
	if m.engine, err = pss(pid); err != nil {
		return m, nil, err
	}
	helpers, err := s.processes()
	if err != nil {
		return m, nil, err
	}
	for _, p := range helpers {
		n, err := pss(p.pid)
		if err != nil {
			return m, nil, err
		}
		switch program := filepath.Base(p.args[0]); {
		case strings.HasPrefix(program, "qemu-system-"):
			m.qemu += n
			if f, err = newFloor(ctx, p.args, filepath.Join(s.bin, "slipway-init"), filepath.Join(s.state, "bench")); err != nil {
				return m, nil, err
			}
		case program == "virtiofsd":
			m.virtiofsd += n
		}
	}
	if f == nil {
		return m, nil, errors.New("no QEMU runs for the server")
	}
	m.floor, err = f.memory(ctx)
	return m, f, err
}

type process struct {
	pid  int
	args []string
}

// processes lists those whose arguments name the state directory.
func (s *slipway) processes() ([]process, error) {
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	var found []process
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(data, []byte(s.state+"/")) {
			continue // it has ended, or is somebody else's
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return nil, err
		}
		found = append(found, process{pid, strings.Split(string(bytes.TrimRight(data, "\x00")), "\x00")})
	}
	return found, nil
}

// pss is a process's proportional set size in bytes: what it has alone, and its
// share of what it has with others.
func pss(pid int) (int64, error) {
	path := fmt.Sprintf("/proc/%d/smaps_rollup", pid)
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		if kb, ok := strings.CutPrefix(lines.Text(), "Pss:"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(kb, "kB")), 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("%s has no Pss", path)
}
