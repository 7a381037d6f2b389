package main

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/usher-authz/usher/extauthz/revocation"
)

// metrics gives Prometheus what the gate counts anyway: a scrape reads it, a check pays nothing for it but its place in the
// histogram of latencies.
type metrics struct{ gate *gate }

var (
	describeChecks   = describe("checks_total", "Checks answered, by outcome.", "outcome")
	describePanics   = describe("panics_total", "Panics in checks; each was answered 503.")
	describeShadows  = describe("shadow_decisions_total", "Requests that a Shadow policy decided, by what differs from the decision in force.", "policy", "difference")
	describeRecords  = describe("recorded_requests_total", "Requests for the file of --record-requests, by result: written, dropped, failed.", "result")
	describeReady    = describe("ready", "1 if /readyz says ready.")
	describeProblems = describe("manifest_problems", "Problems of the last reading of the manifests, if it was not put in force.")
	describeLoaded   = describe("manifest_loaded_timestamp_seconds", "When the manifests in force were put in force.")

	describeConnected = describe("api_server_connected", "1 if the API server that the manifests are watched at answers.")
	describeRefused   = describe("api_server_refusals", "Kinds of requests that the API server refuses, such as to write a status.")

	describeProvider = describe("provider_ready", "1 if tokens of the provider can be verified.", "provider")
	describeKeys     = describe("provider_keys", "Keys that are held of the provider.", "provider")
	describeFetches  = describe("provider_key_fetches_total", "Fetches of the provider's keys, by result: fetched, unchanged, failed.", "provider", "result")
	describeWanted   = describe("provider_keys_wanted_total", "Tokens that asked for newer keys, mostly by an unknown kid.", "provider")
	describeAsked    = describe("provider_requests_total", "Requests about opaque tokens, by result: answered, failed.", "provider", "result")
	describeAskedHit = describe("provider_hits_total", "Opaque tokens that were answered from memory.", "provider")
	describeBroken   = describe("provider_breaker_openings_total", "How often the provider was left alone for a moment.", "provider")

	describeListed  = describe("revocation_connected", "1 if the provider's list of revoked tokens is read and followed.", "provider")
	describeEntries = describe("revocation_entries", "Entries that are held of the provider's list of revoked tokens.", "provider")

	describeLookups      = describe("lookup_requests_total", "Look-ups at the backend, by result: answered, failed.", "backend", "result")
	describeLookupHits   = describe("lookup_hits_total", "Look-ups that were answered from memory.", "backend")
	describeLookupBroken = describe("lookup_breaker_openings_total", "How often the backend was left alone for a moment.", "backend")
)

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("usher_"+name, help, labels, nil)
}

// newMetrics is the handler of /metrics.
func newMetrics(g *gate) http.Handler {
	r := prometheus.NewRegistry()
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "usher_build_info", Help: "Always 1."}, []string{"version", "go"})
	v := readVersion()
	info.WithLabelValues(v.Version, v.Go).Set(1)
	r.MustRegister(metrics{g}, g.latency, info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}

// newLatency is a histogram of how long checks take, in seconds; above 160 ms they are answered 503.
func newLatency() prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "usher_check_duration_seconds", Help: "How long a check took, without gRPC.",
		Buckets: []float64{.000025, .00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .2, 1},
	})
}

// Describe implements prometheus.Collector. It describes nothing, as providers and backends come and go.
func (metrics) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (m metrics) Collect(out chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, n uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	outcomes, panics := m.gate.checks.Counts()
	for o, n := range outcomes {
		counter(describeChecks, n, o.String())
	}
	counter(describePanics, panics)
	for c, n := range m.gate.checks.ShadowCounts() {
		counter(describeShadows, n, c.Policy, string(c.Difference))
	}
	if rec := m.gate.recorder; rec != nil {
		counter(describeRecords, rec.records.Load(), "written")
		counter(describeRecords, rec.dropped.Load(), "dropped")
		counter(describeRecords, rec.failures.Load(), "failed")
	}
	r := m.gate.readiness()
	gauge(describeReady, truth(r.Ready))
	gauge(describeProblems, float64(r.Manifests.Count))
	gauge(describeLoaded, float64(r.Manifests.Since.UnixMilli())/1000)
	if c := r.APIServer; c != nil {
		gauge(describeConnected, truth(c.Connected))
		gauge(describeRefused, float64(len(c.Refused)))
	}
	for name, s := range r.Providers {
		gauge(describeProvider, truth(s.Ready), name)
		if f := s.Fetches; f != nil {
			gauge(describeKeys, float64(s.Keys), name)
			counter(describeFetches, f.Attempts-f.Failures-f.Unchanged, name, "fetched")
			counter(describeFetches, f.Unchanged, name, "unchanged")
			counter(describeFetches, f.Failures, name, "failed")
			counter(describeWanted, f.Wanted, name)
		}
		if a := s.Asked; a != nil {
			counter(describeAsked, uint64(a.Requests-a.Failures), name, "answered")
			counter(describeAsked, uint64(a.Failures), name, "failed")
			counter(describeAskedHit, uint64(a.Hits), name)
			counter(describeBroken, uint64(a.Openings), name)
		}
		if l, ok := s.Revocation.(revocation.Status); ok {
			gauge(describeListed, truth(l.Connected), name)
			gauge(describeEntries, float64(l.Entries), name)
		}
	}
	for url, b := range r.Backends {
		counter(describeLookups, uint64(b.Requests-b.Failures), url, "answered")
		counter(describeLookups, uint64(b.Failures), url, "failed")
		counter(describeLookupHits, uint64(b.Hits), url)
		counter(describeLookupBroken, uint64(b.Openings), url)
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
