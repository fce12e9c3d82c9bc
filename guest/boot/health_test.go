package boot

import (
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/guest/agent"
	"github.com/slipway-vm/slipway/guest/share"
)

func TestJudge(t *testing.T) {
	h := share.Healthcheck{StartPeriod: time.Minute, Retries: 2}
	state := agent.Health{Status: agent.HealthStarting}
	for i, step := range []struct {
		code   int
		ran    time.Duration
		status agent.HealthStatus
		streak int
	}{
		{1, time.Second, agent.HealthStarting, 0},
		{1, 59 * time.Second, agent.HealthStarting, 0},
		{1, time.Minute, agent.HealthStarting, 1},
		{-1, time.Minute, agent.HealthFailing, 2},
		{1, time.Minute, agent.HealthFailing, 3},
		{0, time.Minute, agent.HealthHealthy, 0},
		{1, time.Second, agent.HealthHealthy, 1}, // once healthy it has started
		{2, time.Second, agent.HealthFailing, 2},
	} {
		state = judge(state, h, agent.HealthCheck{Code: step.code}, step.ran)
		if state.Status != step.status || state.Streak != step.streak || state.Check.Code != step.code {
			t.Errorf("step %d: %+v", i, state)
		}
	}
}

func TestCheckInterval(t *testing.T) {
	h := share.Healthcheck{Interval: 30, StartInterval: 5, StartPeriod: 100}
	for _, test := range []struct {
		s    agent.HealthStatus
		ran  time.Duration
		want time.Duration
	}{{agent.HealthStarting, 50, 5}, {agent.HealthStarting, 100, 30}, {agent.HealthHealthy, 50, 30}} {
		if got := checkInterval(h, test.s, test.ran); got != test.want {
			t.Errorf("%+v: %d", test, got)
		}
	}
}

func TestBoundedText(t *testing.T) {
	var b boundedText
	for range 3 {
		if n, err := b.Write([]byte(strings.Repeat("é", 1000) + "\xff")); n != 2001 || err != nil {
			t.Errorf("wrote %d, err %v", n, err)
		}
	}
	if got := b.String(); len(got) != agent.MaxHealthOutput || !strings.Contains(got, "é?é") {
		t.Errorf("%d bytes kept", len(got))
	}
}

func TestMountOptions(t *testing.T) {
	flags, data := mountOptions(noAll, "ro,exec,size=1m,mode=700,dev")
	if flags != unix.MS_NOSUID|unix.MS_RDONLY || data != "size=1m,mode=700" {
		t.Errorf("flags %x, data %q", flags, data)
	}
}

// A panic of init's is a failure like others.
func TestGuarded(t *testing.T) {
	err := guarded(func() error { panic("out of order") })
	if err == nil || !strings.Contains(err.Error(), "out of order") {
		t.Error(err)
	}
	want := errors.New("x")
	if err := guarded(func() error { return want }); !errors.Is(err, want) {
		t.Error(err)
	}
}
