package share

import (
	"errors"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestSpecRoundTrip(t *testing.T) {
	spec := Spec{
		Hostname: "web", Args: []string{"nginx", "-g", "daemon off;"}, Env: []string{"A=1"}, User: "app:app",
		Dir: "/srv", StopSignal: "SIGQUIT", Grace: 3 * time.Second, Stdin: true,
		Mounts:      []Mount{{Source: "volumes/0", Target: "/data", ReadOnly: true}},
		Nameservers: []string{"10.0.0.1"}, Hosts: []Host{{Address: "10.0.0.2", Names: []string{"db"}}},
	}
	data, err := spec.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseSpec(data)
	if err != nil {
		t.Fatal(err)
	}
	spec.Version = SpecVersion
	if !reflect.DeepEqual(*got, spec) {
		t.Errorf("got %+v, want %+v", *got, spec)
	}
}

func TestSpecValidate(t *testing.T) {
	valid := func() Spec { return Spec{Version: 1, Args: []string{"x"}} }
	for name, change := range map[string]func(*Spec){
		"version 99":    func(s *Spec) { s.Version = 99 },
		"version 0":     func(s *Spec) { s.Version = 0 },
		"no command":    func(s *Spec) { s.Args = nil },
		"not absolute":  func(s *Spec) { s.Dir = "srv" },
		"negative":      func(s *Spec) { s.Grace = -1 },
		"zero byte":     func(s *Spec) { s.Env = []string{"A=\x00"} },
		"stop signal":   func(s *Spec) { s.StopSignal = "SIGNOTHING" },
		"below the roo": func(s *Spec) { s.Mounts = []Mount{{Source: "volumes/0", Target: "/"}} },
		"/data":         func(s *Spec) { s.Mounts = []Mount{{Source: "../x", Target: "/data"}} },
		"clean path":    func(s *Spec) { s.Mounts = []Mount{{Source: "volumes/../../x", Target: "/data"}} },
	} {
		s := valid()
		change(&s)
		if err := s.Validate(); !errors.Is(err, ErrInvalidSpec) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := valid()
	if err := s.Validate(); err != nil {
		t.Error(err)
	}
	if _, err := ParseSpec([]byte("{")); !errors.Is(err, ErrInvalidSpec) {
		t.Errorf("cut JSON: %v", err)
	}
}

func TestParseSignal(t *testing.T) {
	for s, want := range map[string]syscall.Signal{
		"": 15, "TERM": 15, "SIGTERM": 15, "sigquit": 3, "9": 9, "USR1": 10,
		"RTMIN": 34, "SIGRTMIN+3": 37, "RTMAX-1": 63, "64": 64,
		"0": 0, "65": 0, "-1": 0, "NOPE": 0, "RTMIN-1": 0, "RTMAX+1": 0, "RTMIN+x": 0,
	} {
		got, err := ParseSignal(s)
		if got != want || (err != nil) != (want == 0) {
			t.Errorf("%q: %d, err %v, want %d", s, got, err, want)
		}
	}
}
