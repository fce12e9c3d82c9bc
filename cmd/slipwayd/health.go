package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
)

// healthTime bounds how long a part of the engine may take to show that it is alive.
const healthTime = 5 * time.Second

// health asks the parts of the engine whether they are alive; nil is a part that is.
func (e *engine) health(ctx context.Context) map[string]error {
	ctx, cancel := context.WithTimeout(ctx, healthTime)
	defer cancel()
	parts := map[string]func(context.Context) error{
		"engine": func(context.Context) error { e.manager.Busy(); return nil },
		"store":  e.store.Ping,
		"libvirt": func(ctx context.Context) error {
			_, err := e.virt.Domains(ctx)
			return err
		},
	}
	type result struct {
		name string
		err  error
	}
	results := make(chan result, len(parts)) // who is late is not waited for
	for name, ask := range parts {
		go func() { results <- result{name, ask(ctx)} }()
	}
	state := map[string]error{}
	for range parts {
		select {
		case r := <-results:
			state[r.name] = r.err
		case <-ctx.Done():
			for name := range parts {
				if _, answered := state[name]; !answered {
					state[name] = fmt.Errorf("no answer: %w", ctx.Err())
				}
			}
			return state
		}
	}
	return state
}

// healthy reports whether all parts are alive.
func (e *engine) healthy(ctx context.Context) bool {
	alive := true
	for part, err := range e.health(ctx) {
		if err != nil {
			alive = false
			e.log.Error("unhealthy", "part", part, "err", err)
		}
	}
	return alive
}

// healthz answers monitors: 200, or 503 with what is wrong.
func (e *engine) healthz(w http.ResponseWriter, r *http.Request) {
	code, status := http.StatusOK, "ok"
	parts := map[string]string{}
	for name, err := range e.health(r.Context()) {
		parts[name] = "ok"
		if err != nil {
			// What exactly is for the log: anybody may ask here.
			code, status, parts[name] = http.StatusServiceUnavailable, "failing", "failing"
			e.log.Error("unhealthy", "part", name, "err", err)
		}
	}
	_ = openstack.WriteJSON(w, code, map[string]any{"status": status, "parts": parts})
}
