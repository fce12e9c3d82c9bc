package share

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestOptionsValidate(t *testing.T) {
	for want, o := range map[string]Options{
		"no, on-failure[:N], always or unless-stopped": {Restart: Restart{Policy: "maybe"}},
		"only on-failure takes a number":               {Restart: Restart{Policy: RestartAlways, Max: 1}},
		"number of restarts is negative":               {Restart: Restart{Policy: RestartOnFailure, Max: -1}},
		`begins with "SHELL"`:                          {Healthcheck: Healthcheck{Test: []string{"SHELL", "x"}}},
		"health check: no command":                     {Healthcheck: Healthcheck{Test: []string{"CMD"}}},
		"interval 10ns":                                {Healthcheck: Healthcheck{Interval: 10}},
		"-1 retries":                                   {Healthcheck: Healthcheck{Retries: -1}},
		`sysctl "kernel"`:                              {Sysctls: map[string]string{"kernel": "1"}},
		`sysctl "../../etc/passwd"`:                    {Sysctls: map[string]string{"../../etc/passwd": "1"}},
		`sysctl "kernel/../x"`:                         {Sysctls: map[string]string{"kernel/../x": "1"}},
		"the value is not one line":                    {Sysctls: map[string]string{"kernel.x": "1\n2"}},
		`ulimit "x"`:                                   {Ulimits: []Ulimit{{Name: "x"}}},
		"soft limit is above":                          {Ulimits: []Ulimit{{Name: "core", Soft: -1, Hard: 5}}},
		"use 0 or more":                                {Ulimits: []Ulimit{{Name: "core", Soft: -2, Hard: -1}}},
		"at most 1048576 files":                        {Ulimits: []Ulimit{{Name: "nofile", Soft: 1, Hard: -1}}},
		`tmpfs "x"`:                                    {Tmpfs: []Tmpfs{{Target: "x"}}},
		`tmpfs "/."`:                                   {Tmpfs: []Tmpfs{{Target: "/."}}},
		`option "size"`:                                {Tmpfs: []Tmpfs{{Target: "/x", Options: "ro,size"}}},
		`option "mode=rwx"`:                            {Tmpfs: []Tmpfs{{Target: "/x", Options: "mode=rwx"}}},
		`capability "NOTHING"`:                         {CapDrop: []string{"NOTHING"}},
		"/dev/shm of -1 bytes":                         {ShmSize: -1},
		"limit of -2 processes":                        {PidsLimit: -2},
		"adjustment -1001":                             {OOMScoreAdj: -1001},
		"additional group":                             {GroupAdd: []string{""}},
	} {
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
		s := Spec{Version: 2, Args: []string{"x"}, Options: o}
		if err := s.Validate(); !errors.Is(err, ErrInvalidSpec) {
			t.Errorf("%s: %v", want, err)
		}
	}
	good := Options{
		Restart: Restart{Policy: RestartOnFailure, Max: 3}, Healthcheck: Healthcheck{Test: []string{"CMD-SHELL", "true"}, Interval: time.Second},
		Sysctls: map[string]string{"net.ipv4.ip_forward": "1", "net/ipv4/conf/eth0.1/forwarding": "1"},
		Ulimits: []Ulimit{{"core", -1, -1}, {"nofile", 5, 10}}, Tmpfs: []Tmpfs{{"/x", "rw,exec,size=50%,mode=0755"}, {Target: "/y"}},
		PidsLimit: -1, OOMScoreAdj: 1000,
	}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
}

func TestCapabilities(t *testing.T) {
	const docker = 0xa80425fb // what CapEff shows in a container of docker's
	for _, test := range []struct {
		o    Options
		want Capabilities
	}{
		{Options{}, docker},
		{Options{CapAdd: []string{"net_admin", "CAP_SYS_TIME"}}, docker | 1<<12 | 1<<25},
		{Options{CapDrop: []string{"CHOWN"}, CapAdd: []string{"CHOWN"}}, docker},
		{Options{CapDrop: []string{"KILL"}}, docker &^ (1 << 5)},
		{Options{CapDrop: []string{"ALL"}}, 0},
		{Options{CapDrop: []string{"ALL"}, CapAdd: []string{"KILL"}}, 1 << 5},
		{Options{CapAdd: []string{"ALL"}, CapDrop: []string{"KILL"}}, 1<<41 - 1 - 1<<5},
		{Options{Privileged: true, CapDrop: []string{"ALL"}}, 1<<41 - 1},
	} {
		if got, err := test.o.Capabilities(); got != test.want || err != nil {
			t.Errorf("%+v: %x, err %v, want %x", test.o, got, err, test.want)
		}
	}
}

func TestRestartWanted(t *testing.T) {
	for _, test := range []struct {
		r     Restart
		code  int
		count int
		want  bool
	}{
		{Restart{}, 1, 0, false},
		{Restart{Policy: RestartNo}, 1, 0, false},
		{Restart{Policy: RestartOnFailure}, 0, 0, false},
		{Restart{Policy: RestartOnFailure}, 1, 1000, true},
		{Restart{Policy: RestartOnFailure, Max: 2}, 1, 1, true},
		{Restart{Policy: RestartOnFailure, Max: 2}, 1, 2, false},
		{Restart{Policy: RestartAlways}, 0, 1000, true},
		{Restart{Policy: RestartUnlessStopped}, 0, 0, true},
	} {
		if got := test.r.Wanted(test.code, test.count); got != test.want {
			t.Errorf("%+v after %d, %d restarts: %t", test.r, test.code, test.count, got)
		}
	}
}

func TestBackoff(t *testing.T) {
	var b Backoff
	var got []time.Duration
	for range 12 {
		got = append(got, b.Next(time.Second))
	}
	got = append(got, b.Next(10*time.Second), b.Next(time.Second))
	for i, want := range []int{100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000, 100, 200} {
		if got[i] != time.Duration(want)*time.Millisecond {
			t.Errorf("wait %d is %s, want %d ms", i, got[i], want)
		}
	}
}

func TestHealthcheckOver(t *testing.T) {
	image := Healthcheck{Test: []string{"CMD", "check"}, Interval: time.Minute, Retries: 5}
	for _, test := range []struct{ user, want Healthcheck }{
		{Healthcheck{}, image},
		{Healthcheck{Test: []string{"NONE"}}, Healthcheck{Test: []string{"NONE"}, Interval: time.Minute, Retries: 5}},
		{Healthcheck{Timeout: time.Second, Retries: 1}, Healthcheck{Test: image.Test, Interval: time.Minute, Timeout: time.Second, Retries: 1}},
	} {
		if got := test.user.Over(image); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%+v: %+v", test.user, got)
		}
	}
	if (Healthcheck{}).Enabled() || (Healthcheck{Test: []string{"NONE"}}).Enabled() || !image.Enabled() {
		t.Error("enabled")
	}
	d := image.Defaults()
	if d.Interval != time.Minute || d.Timeout != 30*time.Second || d.StartInterval != 5*time.Second || d.Retries != 5 {
		t.Errorf("defaults %+v", d)
	}
}

func TestSysctlFile(t *testing.T) {
	for name, want := range map[string]string{
		"net.ipv4.ip_forward":             "net/ipv4/ip_forward",
		"net/ipv4/ip_forward":             "net/ipv4/ip_forward",
		"net.ipv4.conf.eth0/1.forwarding": "net/ipv4/conf/eth0.1/forwarding",
		"net/ipv4/conf/eth0.1/forwarding": "net/ipv4/conf/eth0.1/forwarding",
	} {
		if got := SysctlFile(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}
