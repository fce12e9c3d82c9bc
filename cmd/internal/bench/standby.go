package main

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// standsBy is the same Slipway with an engine that keeps a guest standing by.
func (s *slipway) standsBy() *slipway {
	return &slipway{options: s.options, env: append(slices.Clone(s.env), "SLIPWAY_BOOT_STANDBY=1")}
}

// standbyTime bounds the wait for a guest to stand by.
const standbyTime = time.Minute

// bootStandby boots a server whose guest stands by, and says how much memory that takes,
// its PSS in bytes.
func (s *slipway) bootStandby(ctx context.Context) (t times, memory int64, err error) {
	if _, err := s.boot(ctx); err != nil { // after it the engine knows what is wanted
		return t, 0, err
	}
	if err := s.awaitStandby(ctx); err != nil {
		return t, 0, err
	}
	helpers, err := s.processes()
	if err != nil {
		return t, 0, err
	}
	for _, p := range helpers {
		if program := filepath.Base(p.args[0]); strings.HasPrefix(program, "qemu-system-") || program == "virtiofsd" {
			n, err := pss(p.pid)
			if err != nil {
				return t, 0, err
			}
			memory += n
		}
	}
	t, err = s.boot(ctx)
	return t, memory, err
}

func (s *slipway) awaitStandby(ctx context.Context) error {
	for limit := time.Now().Add(standbyTime); ; {
		out, err := s.command(ctx, "host", "doctor", "-f", "value").CombinedOutput()
		if err == nil && strings.Contains(string(out), "guests standing by: 1") {
			return nil
		}
		if err == nil && time.Now().After(limit) {
			err = errors.New("no guest stands by")
		}
		if err != nil {
			return err
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
