package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/slipway-vm/slipway/cmd/internal/config"
	"github.com/slipway-vm/slipway/guest"
	"github.com/slipway-vm/slipway/launcher"
)

// optionFlags are docker's flags for the surroundings of an entrypoint, as they
// are given.
type optionFlags struct {
	launcher.Spec // what needs no reading

	restart     string
	healthCmd   string
	noHealth    bool
	sysctls     []string
	ulimits     []string
	tmpfs       []string
	securityOpt []string
	shmSize     config.Size
	hosts       []string
	labels      []string
}

func (o *optionFlags) add(f *pflag.FlagSet) {
	f.StringVar(&o.restart, "restart", "", "start again what has ended: no, on-failure[:`N`], always or unless-stopped")
	f.StringVar(&o.healthCmd, "health-cmd", "", "shell `command` that finds out whether the server is healthy")
	h := &o.Healthcheck
	f.DurationVar(&h.Interval, "health-interval", 0, "`time` between health checks (default: the image's, or 30s)")
	f.DurationVar(&h.Timeout, "health-timeout", 0, "`time` that a health check may take (default: the image's, or 30s)")
	f.IntVar(&h.Retries, "health-retries", 0, "failed health checks in a row that make it unhealthy (default: the image's, or 3)")
	f.DurationVar(&h.StartPeriod, "health-start-period", 0, "`time` to start, in which failed health checks do not count")
	f.DurationVar(&h.StartInterval, "health-start-interval", 0, "`time` between health checks meanwhile (default: the image's, or 5s)")
	f.BoolVar(&o.noHealth, "no-healthcheck", false, "leave out the image's health check")
	f.BoolVar(&o.Init, "init", false, "run an init before the entrypoint that passes signals on and reaps")
	f.StringArrayVar(&o.sysctls, "sysctl", nil, "`NAME=VALUE`: a setting of the guest's kernel; can be repeated")
	f.StringArrayVar(&o.ulimits, "ulimit", nil, "`NAME=SOFT[:HARD]`: a limit of each process, -1 for none; can be repeated")
	f.BoolVar(&o.ReadOnly, "read-only", false, "make the root read-only")
	f.StringArrayVar(&o.tmpfs, "tmpfs", nil, "`PATH[:OPTIONS]`: an empty file system in memory; can be repeated")
	f.StringSliceVar(&o.CapAdd, "cap-add", nil, "`capability` to add to docker's default set, or ALL; can be repeated")
	f.StringSliceVar(&o.CapDrop, "cap-drop", nil, "`capability` to drop, or ALL; can be repeated")
	f.BoolVar(&o.Privileged, "privileged", false, "all capabilities and devices of the guest, its /sys writable")
	f.StringArrayVar(&o.securityOpt, "security-opt", nil, "no-new-privileges: executing a file gives nobody more rights")
	f.Var(&o.shmSize, "shm-size", "size of /dev/shm (default 64M)")
	f.Int64Var(&o.PidsLimit, "pids-limit", 0, "largest `number` of processes and threads, -1 for any")
	f.IntVar(&o.OOMScoreAdj, "oom-score-adj", 0, "`number` from -1000 to 1000: who is killed first for want of memory")
	f.StringArrayVar(&o.GroupAdd, "group-add", nil, "`group` to run the entrypoint with besides its user's; can be repeated")
	f.StringArrayVar(&o.hosts, "add-host", nil, "`NAME:ADDRESS`: a line for /etc/hosts; can be repeated")
	f.StringArrayVar(&o.Nameservers, "dns", nil, "`address` of a name server; can be repeated")
	f.StringArrayVar(&o.DNSSearch, "dns-search", nil, "`domain` to look for names in; can be repeated")
	f.StringArrayVar(&o.DNSOptions, "dns-option", nil, "`option` of the resolver; can be repeated")
	f.StringArrayVarP(&o.labels, "label", "l", nil, "`NAME[=VALUE]`: a label of the server; can be repeated")
}

// fill gives the server's specification what the flags say.
func (o *optionFlags) fill(s *launcher.Spec) error {
	o.ShmSize = int64(o.shmSize)
	for _, read := range []func() error{o.readRestart, o.readHealth, o.readSysctls, o.readUlimits, o.readTmpfs,
		o.readSecurity, o.readHosts, o.readLabels} {
		if err := read(); err != nil {
			return err
		}
	}
	s.Options, s.Labels, s.Hosts = o.Options, o.Labels, o.Hosts
	s.Nameservers, s.DNSSearch, s.DNSOptions = o.Nameservers, o.DNSSearch, o.DNSOptions
	return nil
}

func (o *optionFlags) readRestart() error {
	policy, limit, limited := strings.Cut(o.restart, ":")
	o.Restart.Policy = guest.RestartPolicy(policy)
	if !limited {
		return nil
	}
	n, err := strconv.Atoi(limit)
	if err != nil || n < 0 {
		return fmt.Errorf("--restart %s: %q is no number of restarts", o.restart, limit)
	}
	o.Restart.Max = n
	return nil
}

func (o *optionFlags) readHealth() error {
	set := o.Healthcheck.Interval != 0 || o.Healthcheck.Timeout != 0 || o.Healthcheck.Retries != 0 ||
		o.Healthcheck.StartPeriod != 0 || o.Healthcheck.StartInterval != 0
	switch {
	case o.noHealth && (set || o.healthCmd != ""):
		return errors.New("--no-healthcheck excludes the --health flags")
	case o.noHealth:
		o.Healthcheck.Test = []string{"NONE"}
	case o.healthCmd != "":
		o.Healthcheck.Test = []string{"CMD-SHELL", o.healthCmd}
	}
	return nil
}

func (o *optionFlags) readSysctls() error {
	for _, s := range o.sysctls {
		name, value, ok := strings.Cut(s, "=")
		if !ok {
			return fmt.Errorf("--sysctl %s: use NAME=VALUE", s)
		}
		if o.Sysctls == nil {
			o.Sysctls = map[string]string{}
		}
		o.Sysctls[name] = value
	}
	return nil
}

func (o *optionFlags) readUlimits() error {
	for _, s := range o.ulimits {
		name, values, ok := strings.Cut(s, "=")
		soft, hard, both := strings.Cut(values, ":")
		if !both {
			hard = soft
		}
		u := guest.Ulimit{Name: name}
		var softErr, hardErr error
		u.Soft, softErr = strconv.ParseInt(soft, 10, 64)
		u.Hard, hardErr = strconv.ParseInt(hard, 10, 64)
		if !ok || softErr != nil || hardErr != nil {
			return fmt.Errorf("--ulimit %s: use NAME=SOFT[:HARD] with numbers, such as nofile=1024:2048", s)
		}
		o.Ulimits = append(o.Ulimits, u)
	}
	return nil
}

func (o *optionFlags) readTmpfs() error {
	for _, s := range o.tmpfs {
		target, options, _ := strings.Cut(s, ":")
		o.Tmpfs = append(o.Tmpfs, guest.Tmpfs{Target: target, Options: options})
	}
	return nil
}

// readSecurity also takes what asks for no confinement by the host's means:
// servers have none.
func (o *optionFlags) readSecurity() error {
	for _, s := range o.securityOpt {
		name, value, _ := strings.Cut(strings.Replace(s, ":", "=", 1), "=")
		switch {
		case name == "no-new-privileges" && (value == "" || value == "true"):
			o.NoNewPrivileges = true
		case name == "no-new-privileges" && value == "false":
			o.NoNewPrivileges = false
		case (name == "seccomp" || name == "apparmor") && value == "unconfined", name == "label" && value == "disable":
		default:
			return fmt.Errorf("--security-opt %s: there is no-new-privileges; seccomp, AppArmor and SELinux do not confine what has a kernel of its own", s)
		}
	}
	return nil
}

func (o *optionFlags) readHosts() error {
	for _, s := range o.hosts {
		sep := ":"
		if strings.Contains(s, "=") {
			sep = "="
		}
		name, address, ok := strings.Cut(s, sep)
		if !ok || name == "" {
			return fmt.Errorf("--add-host %s: use NAME:ADDRESS", s)
		}
		address = strings.TrimSuffix(strings.TrimPrefix(address, "["), "]")
		o.Hosts = append(o.Hosts, guest.Host{Address: address, Names: []string{name}})
	}
	return nil
}

func (o *optionFlags) readLabels() error {
	for _, s := range o.labels {
		name, value, _ := strings.Cut(s, "=")
		if o.Labels == nil {
			o.Labels = map[string]string{}
		}
		o.Labels[name] = value
	}
	return nil
}
