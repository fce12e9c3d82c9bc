package launcher

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/slipway-vm/slipway/guest"
	"github.com/slipway-vm/slipway/guest/agent"
)

func TestHealthcheckOfImage(t *testing.T) {
	const image = `{"config": {"Shell": ["/bin/ash", "-ec"], "Healthcheck": {"Test": ["CMD-SHELL", "check it"],
		"Interval": 1000000000, "StartInterval": 2000000000, "Retries": 4}}}`
	got, err := (&Spec{}).healthcheck([]byte(image))
	want := guest.Healthcheck{Test: []string{"CMD", "/bin/ash", "-ec", "check it"}, Interval: time.Second,
		StartInterval: 2 * time.Second, Retries: 4}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, err %v, want %+v", got, err, want)
	}
	none := &Spec{Options: guest.Options{Healthcheck: guest.Healthcheck{Test: []string{"NONE"}}}}
	if got, err := none.healthcheck([]byte(image)); err != nil || got.Enabled() {
		t.Errorf("got %+v, err %v", got, err)
	}
	if got, err := (&Spec{}).healthcheck([]byte(`{"config": {}}`)); err != nil || got.Enabled() {
		t.Errorf("got %+v, err %v", got, err)
	}
	if _, err := (&Spec{}).healthcheck([]byte(`{"config": {"Healthcheck": {"Test": ["SHELL"]}}}`)); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
}

// What a guest says of its health is kept bounded and harmless.
func TestHealthAfter(t *testing.T) {
	var h *Health
	for i := range 8 {
		h = h.after(agent.Health{Status: agent.HealthHealthy, Streak: -1,
			Check: &agent.HealthCheck{Code: i, Output: "\x1b[2J" + strings.Repeat("\xff", 2*agent.MaxHealthOutput)}})
	}
	if len(h.Log) != 5 || h.Log[0].Code != 3 || h.Log[4].Code != 7 || h.FailingStreak != 0 || h.Status != agent.HealthHealthy {
		t.Errorf("got %d checks, %+v", len(h.Log), h.Status)
	}
	if out := h.Log[4].Output; len(out) > agent.MaxHealthOutput || strings.Contains(out, "\x1b") {
		t.Errorf("output of %d bytes", len(out))
	}
	if h = h.after(agent.Health{Status: "\x1b[2J"}); h.Status != agent.HealthStarting || len(h.Log) != 0 {
		t.Errorf("got %+v", h)
	}
}

func TestOptionsRefused(t *testing.T) {
	for want, s := range map[string]Spec{
		"exclude each other":       {AutoRemove: true, Options: guest.Options{Restart: guest.Restart{Policy: guest.RestartAlways}}},
		`name server "x"`:          {Nameservers: []string{"x"}},
		"is not one word":          {DNSSearch: []string{"a b"}},
		`"y" is not an IP address`: {Hosts: []guest.Host{{Address: "y", Names: []string{"x"}}}},
		`host name "a#b"`:          {Hosts: []guest.Host{{Address: "10.0.0.1", Names: []string{"a#b"}}}},
		"a label has no name":      {Labels: map[string]string{"": "x"}},
		"restart policy":           {Options: guest.Options{Restart: guest.Restart{Policy: "x"}}},
	} {
		s.Image = "x"
		if err := s.validate(); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
