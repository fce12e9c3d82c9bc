package launcher

import (
	"strings"

	"github.com/slipway-vm/slipway/guest/agent"
)

// Health is what a server's health checks have shown.
type Health struct {
	Status agent.HealthStatus `json:"status"`
	// FailingStreak is how many checks in a row have failed.
	FailingStreak int `json:"failing_streak"`
	// Log has the latest checks, oldest first, as many as docker keeps.
	Log []agent.HealthCheck `json:"log,omitempty"`
}

const healthLog = 5

// after returns what the next word of a guest makes of the health so far. Without
// a check it is the word of an entrypoint that has just started. The guest may say
// anything: what is kept is bounded and harmless to show.
func (h *Health) after(next agent.Health) *Health {
	switch next.Status {
	case agent.HealthHealthy, agent.HealthFailing:
	default:
		next.Status = agent.HealthStarting
	}
	now := &Health{Status: next.Status, FailingStreak: max(0, next.Streak)}
	if next.Check == nil {
		return now
	}
	check := *next.Check
	check.Output = printable(strings.ToValidUTF8(check.Output[:min(len(check.Output), agent.MaxHealthOutput)], "?"))
	if h != nil {
		now.Log = append(now.Log, h.Log[max(0, len(h.Log)-healthLog+1):]...)
	}
	now.Log = append(now.Log, check)
	return now
}
