package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/slipway-vm/slipway/cmd/internal/config"
	"github.com/slipway-vm/slipway/guest"
	"github.com/slipway-vm/slipway/launcher"
)

// addOptions names a server's options, those that are not docker's defaults, and
// what became of them.
func addOptions(s launcher.Server, add func(name string, value any)) {
	o := s.Spec.Options
	policy := string(o.Restart.Policy)
	if policy == "" {
		policy = string(guest.RestartNo)
	}
	if o.Restart.Max != 0 {
		policy += fmt.Sprintf(":%d", o.Restart.Max)
	}
	add("restart_policy", policy)
	add("restart_count", s.RestartCount)
	add("health", health(s))
	if h := s.Health; h != nil {
		add("health_failing_streak", h.FailingStreak)
		if len(h.Log) > 0 {
			last := h.Log[len(h.Log)-1]
			add("health_exit_code", last.Code)
			add("health_output", strings.TrimSpace(last.Output))
		}
	}
	var ulimits, tmpfs, hosts []string
	for _, u := range o.Ulimits {
		ulimits = append(ulimits, u.String())
	}
	for _, t := range o.Tmpfs {
		tmpfs = append(tmpfs, strings.TrimSuffix(t.Target+":"+t.Options, ":"))
	}
	for _, h := range s.Spec.Hosts {
		hosts = append(hosts, strings.Join(h.Names, " ")+":"+h.Address)
	}
	for _, option := range []struct {
		name  string
		value string
	}{
		{"health_cmd", strings.Join(o.Healthcheck.Test, " ")},
		{"init", ifSet(o.Init)},
		{"sysctls", pairs(o.Sysctls)},
		{"ulimits", strings.Join(ulimits, ", ")},
		{"read_only", ifSet(o.ReadOnly)},
		{"tmpfs", strings.Join(tmpfs, ", ")},
		{"cap_add", strings.Join(o.CapAdd, ", ")},
		{"cap_drop", strings.Join(o.CapDrop, ", ")},
		{"privileged", ifSet(o.Privileged)},
		{"no_new_privileges", ifSet(o.NoNewPrivileges)},
		{"shm_size", ifNot(o.ShmSize == 0, config.Size(o.ShmSize))},
		{"pids_limit", ifNot(o.PidsLimit == 0, o.PidsLimit)},
		{"oom_score_adj", ifNot(o.OOMScoreAdj == 0, o.OOMScoreAdj)},
		{"group_add", strings.Join(o.GroupAdd, ", ")},
		{"hosts", strings.Join(hosts, ", ")},
		{"dns", strings.Join(s.Spec.Nameservers, ", ")},
		{"dns_search", strings.Join(s.Spec.DNSSearch, ", ")},
		{"dns_options", strings.Join(s.Spec.DNSOptions, ", ")},
		{"labels", pairs(s.Spec.Labels)},
	} {
		if option.value != "" {
			add(option.name, option.value)
		}
	}
}

func ifSet(b bool) string { return ifNot(!b, true) }

// ifNot is v's text, or nothing where v is the default.
func ifNot(isDefault bool, v any) string {
	if isDefault {
		return ""
	}
	return fmt.Sprint(v)
}

func pairs(m map[string]string) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		list = append(list, name+"="+m[name])
	}
	return strings.Join(list, ", ")
}
