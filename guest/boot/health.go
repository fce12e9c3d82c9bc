package boot

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/slipway-vm/slipway/guest/agent"
	"github.com/slipway-vm/slipway/guest/share"
)

// watchHealth runs the health check, one at a time, while the entrypoint lives.
func (g *guestState) watchHealth(e *entrypoint, h share.Healthcheck) {
	state := agent.Health{Status: agent.HealthStarting}
	g.events.Append(agent.Event{Type: agent.EventHealth, At: sinceBoot(), PID: e.pid, Health: &state})
	for {
		select {
		case <-time.After(checkInterval(h, state.Status, time.Since(e.began))):
		case <-e.ended:
			return
		}
		// Whoever was frozen has had no chance to be healthy.
		if keyedCounts(filepath.Join(entryCgroup, "cgroup.events"), " ")["frozen"] == 1 {
			continue
		}
		began := time.Now()
		check := g.checkHealth(h, e.ended)
		select {
		case <-e.ended:
			return // it says nothing about the next life
		default:
		}
		state = judge(state, h, check, began.Sub(e.began))
		told := state
		g.events.Append(agent.Event{Type: agent.EventHealth, At: sinceBoot(), PID: e.pid, Health: &told})
	}
}

// checkInterval is how long to wait before the next check of an entrypoint that
// has run for so long.
func checkInterval(h share.Healthcheck, s agent.HealthStatus, ran time.Duration) time.Duration {
	if s == agent.HealthStarting && ran < h.StartPeriod {
		return h.StartInterval
	}
	return h.Interval
}

// judge returns what a check, begun so long after the entrypoint, makes of its
// health: docker's rules.
func judge(before agent.Health, h share.Healthcheck, check agent.HealthCheck, ran time.Duration) agent.Health {
	now := agent.Health{Status: before.Status, Streak: before.Streak + 1, Check: &check}
	switch {
	case check.Code == 0:
		now.Status, now.Streak = agent.HealthHealthy, 0
	case before.Status == agent.HealthStarting && ran < h.StartPeriod:
		now.Streak = before.Streak // it may still be starting
	case now.Streak >= h.Retries:
		now.Status = agent.HealthFailing
	}
	return now
}

// checkHealth runs the check once.
func (g *guestState) checkHealth(h share.Healthcheck, ended <-chan struct{}) agent.HealthCheck {
	check := agent.HealthCheck{Start: time.Now().UTC()}
	check.Code, check.Output = g.runCheck(h, ended)
	check.End = time.Now().UTC()
	check.Output = check.Output[:min(len(check.Output), agent.MaxHealthOutput)]
	return check
}

func (g *guestState) runCheck(h share.Healthcheck, ended <-chan struct{}) (code int, output string) {
	p, err := (*control)(g).Exec(agent.ExecRequest{Args: h.Command()})
	if err != nil {
		return exitCode(err), err.Error()
	}
	defer p.Close()
	var out boundedText
	var readers sync.WaitGroup
	for _, r := range p.Outputs() {
		if r != nil {
			readers.Go(func() { _, _ = io.Copy(&out, r) })
		}
	}
	exited := make(chan agent.Exit, 1)
	go func() { exited <- p.Wait() }()
	select {
	case exit := <-exited:
		readers.Wait()
		return exit.Code, out.String()
	case <-time.After(h.Timeout):
		return -1, fmt.Sprintf("Health check exceeded timeout (%s): %s", h.Timeout, out.String())
	case <-ended:
		return -1, ""
	}
}

// boundedText keeps the beginning of what is written to it.
type boundedText struct {
	mu   sync.Mutex
	kept []byte
}

func (b *boundedText) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.kept = append(b.kept, p[:min(len(p), agent.MaxHealthOutput-len(b.kept))]...)
	return len(p), nil
}

func (b *boundedText) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.ToValidUTF8(string(b.kept), "?")
}
