package main

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/events"
	"github.com/slipway-vm/slipway/launcher/host"
)

// metrics is what /metrics tells.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.HistogramVec
	stages   *prometheus.HistogramVec
	boots    *prometheus.CounterVec
	cached   *prometheus.CounterVec
	manager  *launcher.Manager
	log      *slog.Logger
}

func newMetrics(e *engine) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(), manager: e.manager, log: e.log,
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "slipway_http_request_duration_seconds", Help: "How long requests took to answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"route", "code"}),
		stages: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "slipway_boot_stage_duration_seconds", Help: "How long the stages of boots took, up to the entrypoint's start.",
			Buckets: []float64{.001, .005, .01, .05, .1, .25, .5, 1, 2, 4, 8, 16, 32, 64, 128},
		}, []string{"stage"}),
		boots: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "slipway_boots_total", Help: "Boots that came to the entrypoint's start, and that did not.",
		}, []string{"result"}),
		cached: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "slipway_image_cache_total", Help: "First boots of servers by whether the image's layers were there (hit) or had to be fetched (miss).",
		}, []string{"result"}),
	}
	m.registry.MustRegister(m.requests, m.stages, m.boots, m.cached, &guests{e},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorLog: slog.NewLogLogger(m.log.Handler(), slog.LevelWarn)})
}

// answered counts a request. What leads nowhere is one route: paths are endless.
func (m *metrics) answered(r *http.Request, x *openstack.Exchange, code int, elapsed time.Duration) {
	route := x.Route
	if route == "" {
		route = "none"
		if p := r.Pattern; p == "GET /metrics" || p == "GET /healthz" || p == "GET /{$}" {
			route = p
		}
	}
	m.requests.WithLabelValues(route, strconv.Itoa(code)).Observe(elapsed.Seconds())
}

// watch counts boots until ctx ends.
func (m *metrics) watch(ctx context.Context) {
	query := events.Query{Filter: events.Filter{Actions: []string{string(events.Start), string(events.Die)}}}
	running := map[string]bool{}
	for _, s := range m.manager.Servers() {
		running[s.ID] = s.VMState == launcher.VMActive
	}
	err := m.manager.Events(ctx, query, func(e events.Event) error {
		switch {
		case e.Action == events.Start:
			running[e.Server] = true
			m.booted(e.Server)
		case running[e.Server]:
			delete(running, e.Server)
		default:
			m.boots.WithLabelValues("failed").Inc()
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		m.log.Warn("boots are not counted any more", "err", err)
	}
}

func (m *metrics) booted(id string) {
	m.boots.WithLabelValues("started").Inc()
	s, err := m.manager.Server(id)
	if err != nil {
		return // deleted since
	}
	t := s.Timeline
	for _, stage := range []struct {
		name string
		took time.Duration
	}{
		{"resolve", t.Resolve}, {"fetch", t.Fetch}, {"unpack", t.Unpack}, {"clone", t.Clone},
		{"define", t.Define}, {"kernel", t.Kernel}, {"init", t.Init},
	} {
		if stage.took > 0 {
			m.stages.WithLabelValues(stage.name).Observe(stage.took.Seconds())
		}
	}
	if s.Run != 1 {
		return
	}
	result := "hit"
	if t.Fetch > 0 {
		result = "miss"
	}
	m.cached.WithLabelValues(result).Inc()
}

// guests tells what there is when it is asked.
type guests struct{ e *engine }

var (
	serversDesc = prometheus.NewDesc("slipway_servers", "Servers by Nova's status.", []string{"status"}, nil)
	memoryDesc  = prometheus.NewDesc("slipway_server_memory_bytes",
		"Memory of the host that a server's processes take, each with its share of what is shared (PSS).", []string{"server", "process"}, nil)
	standbyDesc = prometheus.NewDesc("slipway_standby_guests", "Guests that have booted and wait for a server.", nil, nil)
	flavorDesc  = prometheus.NewDesc("slipway_server_flavor_memory_bytes", "Memory that the guest of a running server has.", []string{"server"}, nil)
)

// Describe implements prometheus.Collector.
func (*guests) Describe(ch chan<- *prometheus.Desc) {
	ch <- serversDesc
	ch <- memoryDesc
	ch <- flavorDesc
	ch <- standbyDesc
}

// Collect implements prometheus.Collector.
func (g *guests) Collect(ch chan<- prometheus.Metric) {
	count := map[string]int{"ACTIVE": 0, "SHUTOFF": 0, "ERROR": 0, "BUILD": 0}
	processes := host.ProcessesOf(g.e.cfg.StateDir)
	for _, s := range g.e.manager.Servers() {
		count[s.Status()]++
		if s.VMState != launcher.VMActive {
			continue
		}
		ch <- prometheus.MustNewConstMetric(flavorDesc, prometheus.GaugeValue, float64(s.Flavor.Memory), s.ID)
		for name, bytes := range processes[s.ID] {
			ch <- prometheus.MustNewConstMetric(memoryDesc, prometheus.GaugeValue, float64(bytes), s.ID, name)
		}
	}
	ch <- prometheus.MustNewConstMetric(standbyDesc, prometheus.GaugeValue, float64(g.e.manager.Standby()))
	for status, n := range count {
		ch <- prometheus.MustNewConstMetric(serversDesc, prometheus.GaugeValue, float64(n), status)
	}
}
