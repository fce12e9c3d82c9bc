package share

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Options are what a user may ask of the entrypoint's surroundings, with the
// names and meanings of docker's flags. The zero value is docker's default in
// everything. They travel unchanged from the user to the guest.
type Options struct {
	Restart Restart `json:"restart,omitzero"`
	// Healthcheck of a request is laid over the image's.
	Healthcheck Healthcheck `json:"healthcheck,omitzero"`
	// Init puts an init, which forwards signals and reaps, before the entrypoint.
	Init            bool              `json:"init,omitempty"`
	Sysctls         map[string]string `json:"sysctls,omitempty"` // of the guest's kernel, by dotted name
	Ulimits         []Ulimit          `json:"ulimits,omitempty"`
	ReadOnly        bool              `json:"read_only,omitempty"` // the root
	Tmpfs           []Tmpfs           `json:"tmpfs,omitempty"`
	CapAdd          []string          `json:"cap_add,omitempty"` // with or without CAP_, or ALL
	CapDrop         []string          `json:"cap_drop,omitempty"`
	Privileged      bool              `json:"privileged,omitempty"`
	NoNewPrivileges bool              `json:"no_new_privileges,omitempty"`
	ShmSize         int64             `json:"shm_size,omitempty"`   // bytes of /dev/shm; 0: DefaultShmSize
	PidsLimit       int64             `json:"pids_limit,omitempty"` // 0 and -1: none
	OOMScoreAdj     int               `json:"oom_score_adj,omitempty"`
	GroupAdd        []string          `json:"group_add,omitempty"` // names or gids
}

// DefaultShmSize is docker's.
const DefaultShmSize = 64 << 20

// RestartPolicy says when an entrypoint that has ended is started again.
type RestartPolicy string

// The restart policies. Empty is RestartNo.
const (
	RestartNo            RestartPolicy = "no"
	RestartOnFailure     RestartPolicy = "on-failure"
	RestartAlways        RestartPolicy = "always"
	RestartUnlessStopped RestartPolicy = "unless-stopped"
)

// Restart is a restart policy with its state.
type Restart struct {
	Policy RestartPolicy `json:"policy,omitempty"`
	// Max bounds the restarts of RestartOnFailure; 0: no bound.
	Max int `json:"max,omitempty"`
	// Count is how many restarts have been made before this boot.
	Count int `json:"count,omitempty"`
}

// Wanted reports whether an entrypoint that ended by itself with code is to be
// started again, after count restarts.
func (r Restart) Wanted(code, count int) bool {
	switch r.Policy {
	case RestartAlways, RestartUnlessStopped:
		return true
	case RestartOnFailure:
		return code != 0 && (r.Max == 0 || count < r.Max)
	}
	return false
}

// Backoff is docker's wait before a restart.
type Backoff struct{ next time.Duration }

// The bounds of a Backoff, and the time after which a run counts as a success.
const (
	firstBackoff = 100 * time.Millisecond
	lastBackoff  = time.Minute
	settled      = 10 * time.Second
)

// Next returns how long to wait before the next restart of something that ran
// for so long.
func (b *Backoff) Next(ran time.Duration) time.Duration {
	if b.next == 0 || ran >= settled {
		b.next = firstBackoff
	} else {
		b.next = min(2*b.next, lastBackoff)
	}
	return b.next
}

// Healthcheck is an image's, as docker's image configuration has it.
type Healthcheck struct {
	// Test is empty or NONE for none, CMD and arguments, or CMD-SHELL and a
	// command line.
	Test          []string      `json:"test,omitempty"`
	Interval      time.Duration `json:"interval,omitempty"`
	Timeout       time.Duration `json:"timeout,omitempty"`
	StartPeriod   time.Duration `json:"start_period,omitempty"`
	StartInterval time.Duration `json:"start_interval,omitempty"`
	Retries       int           `json:"retries,omitempty"`
}

// Enabled reports whether there is something to run.
func (h Healthcheck) Enabled() bool { return len(h.Test) > 0 && h.Test[0] != "NONE" }

// Over lays h over what the image says: what h leaves out is the image's.
func (h Healthcheck) Over(image Healthcheck) Healthcheck {
	if len(h.Test) > 0 {
		image.Test = h.Test
	}
	for _, d := range []struct{ to, from *time.Duration }{
		{&image.Interval, &h.Interval}, {&image.Timeout, &h.Timeout},
		{&image.StartPeriod, &h.StartPeriod}, {&image.StartInterval, &h.StartInterval},
	} {
		if *d.from != 0 {
			*d.to = *d.from
		}
	}
	if h.Retries != 0 {
		image.Retries = h.Retries
	}
	return image
}

// Defaults fills in docker's where h says nothing.
func (h Healthcheck) Defaults() Healthcheck {
	return h.Over(Healthcheck{Interval: 30 * time.Second, Timeout: 30 * time.Second, StartInterval: 5 * time.Second, Retries: 3})
}

// Command is what to execute.
func (h Healthcheck) Command() []string {
	if h.Test[0] == "CMD-SHELL" {
		return []string{"/bin/sh", "-c", strings.Join(h.Test[1:], " ")}
	}
	return h.Test[1:]
}

func (h Healthcheck) validate() error {
	if len(h.Test) > 0 {
		switch kind := h.Test[0]; {
		case kind != "NONE" && kind != "CMD" && kind != "CMD-SHELL":
			return fmt.Errorf("health check: the test begins with %q instead of NONE, CMD or CMD-SHELL", kind)
		case kind != "NONE" && (len(h.Test) < 2 || h.Test[1] == ""):
			return errors.New("health check: no command")
		}
	}
	for name, d := range map[string]time.Duration{
		"interval": h.Interval, "timeout": h.Timeout, "start period": h.StartPeriod, "start interval": h.StartInterval,
	} {
		if d < 0 || d > 0 && d < time.Millisecond {
			return fmt.Errorf("health check: %s %s: use 1ms or more", name, d)
		}
	}
	if h.Retries < 0 {
		return fmt.Errorf("health check: %d retries: use 0 or more", h.Retries)
	}
	return nil
}

// Tmpfs is an empty file system in memory.
type Tmpfs struct {
	Target string `json:"target"` // absolute, inside the root
	// Options are mount(8)'s, separated by commas, over noexec,nosuid,nodev.
	Options string `json:"options,omitempty"`
}

// Validate refuses options that cannot be. Its errors name the option and say
// what would do.
func (o *Options) Validate() error {
	checks := []func() error{
		o.Restart.validate, o.Healthcheck.validate, o.validateSysctls, o.validateUlimits, o.validateTmpfs,
		func() error { _, err := o.Capabilities(); return err },
	}
	for _, check := range checks {
		if err := check(); err != nil {
			return err
		}
	}
	switch {
	case o.ShmSize < 0:
		return fmt.Errorf("/dev/shm of %d bytes: use more than 0", o.ShmSize)
	case o.PidsLimit < -1 || o.PidsLimit > maxPids:
		return fmt.Errorf("limit of %d processes: use 1 to %d, or -1 for none", o.PidsLimit, maxPids)
	case o.OOMScoreAdj < -1000 || o.OOMScoreAdj > 1000:
		return fmt.Errorf("OOM score adjustment %d: use -1000 to 1000", o.OOMScoreAdj)
	case slices.Contains(o.GroupAdd, ""):
		return errors.New("an additional group has no name")
	}
	return nil
}

// maxPids is the kernel's PID_MAX_LIMIT.
const maxPids = 4 << 20

func (r Restart) validate() error {
	switch r.Policy {
	case "", RestartNo, RestartAlways, RestartUnlessStopped:
		if r.Max != 0 {
			return fmt.Errorf("restart policy %s: only on-failure takes a number of restarts", r.Policy)
		}
	case RestartOnFailure:
		if r.Max < 0 {
			return fmt.Errorf("restart policy on-failure:%d: the number of restarts is negative", r.Max)
		}
	default:
		return fmt.Errorf("restart policy %q: use no, on-failure[:N], always or unless-stopped", string(r.Policy))
	}
	return nil
}

func (o *Options) validateSysctls() error {
	for name, value := range o.Sysctls {
		parts := strings.FieldsFunc(name, func(c rune) bool { return c == '.' || c == '/' })
		bad := len(parts) < 2 || strings.ContainsAny(name, " \t\n=\x00") || strings.Contains(name, "..") ||
			strings.Trim(name, "./") != name
		if bad {
			return fmt.Errorf("sysctl %q: use NAME=VALUE with a dotted name such as net.core.somaxconn", name)
		}
		if strings.ContainsAny(value, "\n\x00") || len(value) > 4096 {
			return fmt.Errorf("sysctl %s: the value is not one line", name)
		}
	}
	return nil
}

// SysctlFile is a setting's path below /proc/sys. As sysctl(8) has it, the
// separator that comes first separates, and the other is part of a name.
func SysctlFile(name string) string {
	if i := strings.IndexAny(name, "./"); i >= 0 && name[i] == '.' {
		return strings.Map(func(c rune) rune {
			switch c {
			case '.':
				return '/'
			case '/':
				return '.'
			}
			return c
		}, name)
	}
	return name
}

func (o *Options) validateTmpfs() error {
	for _, t := range o.Tmpfs {
		if !path.IsAbs(t.Target) || path.Clean(t.Target) == "/" {
			return fmt.Errorf("tmpfs %q: use an absolute path below the root", t.Target)
		}
		for option := range strings.SplitSeq(t.Options, ",") {
			name, value, hasValue := strings.Cut(option, "=")
			switch {
			case option == "":
			case slices.Contains(tmpfsValues, name) && hasValue && value != "" && strings.Trim(value, "0123456789kKmMgGtT%") == "":
			case slices.Contains(tmpfsFlags, option):
			default:
				return fmt.Errorf("tmpfs %s: option %q is none of %s, %s=", t.Target, option,
					strings.Join(tmpfsFlags, " "), strings.Join(tmpfsValues, "= "))
			}
		}
	}
	return nil
}

var (
	tmpfsValues = []string{"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks"}
	tmpfsFlags  = []string{"rw", "ro", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "sync", "async",
		"atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime"}
)

// Ulimit bounds a resource of each process; -1 is without bound.
type Ulimit struct {
	Name string `json:"name"` // as docker's --ulimit: nofile, nproc...
	Soft int64  `json:"soft"`
	Hard int64  `json:"hard"`
}

func (u Ulimit) String() string {
	return u.Name + "=" + strconv.FormatInt(u.Soft, 10) + ":" + strconv.FormatInt(u.Hard, 10)
}

// Resource returns the number of the resource, as setrlimit(2) takes it.
func (u Ulimit) Resource() (int, bool) {
	i := slices.Index(resources, u.Name)
	return i, i >= 0
}

// resources are the kernel's, by number.
var resources = []string{"cpu", "fsize", "data", "stack", "core", "rss", "nproc", "nofile", "memlock", "as",
	"locks", "sigpending", "msgqueue", "nice", "rtprio", "rttime"}

// maxFiles is the largest limit of open files, the guest's fs.nr_open.
const maxFiles = 1 << 20

func (o *Options) validateUlimits() error {
	for _, u := range o.Ulimits {
		_, known := u.Resource()
		switch {
		case !known:
			return fmt.Errorf("ulimit %q: no such resource: use one of %s", u.Name, strings.Join(resources, " "))
		case u.Soft < -1 || u.Hard < -1:
			return fmt.Errorf("ulimit %s: use 0 or more, or -1 for no limit", u)
		case u.Hard != -1 && (u.Soft == -1 || u.Soft > u.Hard):
			return fmt.Errorf("ulimit %s: the soft limit is above the hard limit", u)
		case u.Name == "nofile" && (u.Hard == -1 || u.Hard > maxFiles):
			return fmt.Errorf("ulimit %s: at most %d files can be open", u, maxFiles)
		}
	}
	return nil
}
