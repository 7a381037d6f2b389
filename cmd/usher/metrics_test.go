package main

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"

	"github.com/usher-authz/usher/k8s/watch"
)

func TestMetrics(t *testing.T) {
	t.Run("what_the_gate_counts", func(t *testing.T) {
		noLeaks(t)
		w := newWorld(t)
		p := start(t, w.config).ready()
		p.status("GET", "/threads/"+thread, w.provider.Mint())
		p.status("GET", "/threads/"+thread, "")
		p.status("GET", "/nowhere", w.provider.Mint())
		code, body := p.get("/metrics")
		if code != 200 {
			t.Fatalf("status %d", code)
		}
		for _, line := range []string{
			`usher_checks_total{outcome="allow"} 1`,
			`usher_checks_total{outcome="unauthenticated"} 1`,
			`usher_checks_total{outcome="not_found"} 1`,
			`usher_check_duration_seconds_count 3`,
			`usher_panics_total 0`,
			`usher_ready 1`,
			`usher_provider_ready{provider="company"} 1`,
			`usher_provider_keys{provider="company"} 1`,
			`usher_provider_key_fetches_total{provider="company",result="fetched"} 1`,
			`usher_lookup_requests_total{backend="` + w.backend.URL + `",result="answered"} 1`,
			`usher_manifest_problems 0`,
			`usher_build_info{`,
			`go_goroutines `,
		} {
			if !strings.Contains(body, "\n"+line) {
				t.Errorf("/metrics lacks %s", line)
			}
		}
		if strings.Contains(body, "alice") {
			t.Error("/metrics names a user")
		}
		p.terminate()
		p.wait()
	})
	t.Run("names_and_help_are_as_Prometheus_wants_them", func(t *testing.T) {
		g := newGate(zap.NewNop(), 0, nil)
		g.connection = func() watch.Connection { return watch.Connection{Refused: []string{"permission is missing"}} }
		r := prometheus.NewPedanticRegistry()
		r.MustRegister(metrics{g}, g.latency)
		problems, err := testutil.GatherAndLint(r)
		if err != nil || len(problems) > 0 {
			t.Errorf("%v, %v", problems, err)
		}
		const told = `# HELP usher_api_server_connected 1 if the API server that the manifests are watched at answers.
# TYPE usher_api_server_connected gauge
usher_api_server_connected 0
# HELP usher_api_server_refusals Kinds of requests that the API server refuses, such as to write a status.
# TYPE usher_api_server_refusals gauge
usher_api_server_refusals 1
`
		if err := testutil.GatherAndCompare(r, strings.NewReader(told), "usher_api_server_connected", "usher_api_server_refusals"); err != nil {
			t.Error(err)
		}
	})
}
