package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/output"
)

func TestParseTime(t *testing.T) {
	zone := time.FixedZone("there", 2*3600)
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, zone)
	for s, want := range map[string]time.Time{
		"":                     {},
		"10m":                  now.Add(-10 * time.Minute),
		"1h30m":                now.Add(-90 * time.Minute),
		"1500000000":           time.Unix(1500000000, 0),
		"1500000000.5":         time.Unix(1500000000, 5e8),
		"2026-01-02T03:04:05Z": time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		"2026-01-02T03:04:05":  time.Date(2026, 1, 2, 3, 4, 5, 0, zone),
		"2026-01-02T03:04":     time.Date(2026, 1, 2, 3, 4, 0, 0, zone),
		"2026-01-02":           time.Date(2026, 1, 2, 0, 0, 0, 0, zone),
	} {
		if got, err := parseTime("--since", s, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v; want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"yesterday", "2026-13-01", "m"} {
		if got, err := parseTime("--since", s, now); err == nil || !strings.Contains(err.Error(), s) {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
}

func TestStamper(t *testing.T) {
	var b bytes.Buffer
	s := &stamper{w: &b}
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	for i, piece := range []string{"one\ntw", "o", "\nthree\n", "\n"} {
		if err := s.write(output.Record{Time: at.Add(time.Duration(i) * time.Second), Data: []byte(piece)}); err != nil {
			t.Fatal(err)
		}
	}
	want := "2026-01-02T03:04:05.000006000Z one\n2026-01-02T03:04:05.000006000Z two\n" +
		"2026-01-02T03:04:07.000006000Z three\n2026-01-02T03:04:08.000006000Z \n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}

func TestLogOptions(t *testing.T) {
	var s launcher.Spec
	if err := logOptions(&s, []string{"max-size=10m", "max-file=3"}); err != nil || *s.LogBytes != 10<<20 || s.LogFiles != 3 {
		t.Errorf("%+v, %v", s, err)
	}
	if err := logOptions(&s, []string{"max-size=-1"}); err != nil || *s.LogBytes != 0 {
		t.Errorf("%+v, %v", s, err)
	}
	for _, bad := range []string{"max-size=0", "max-size=x", "max-file=0", "max-file=", "labels=a", "max-size"} {
		if err := logOptions(&s, []string{bad}); err == nil || !strings.Contains(err.Error(), "max-") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
