package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/usher-authz/usher/envoy/e2e/stack"
)

// replicas are Ushers behind one Envoy, before a backend that answers at once, and with 418 whoever was not checked.
type replicas struct {
	gate   *stack.Gate
	ushers []*stack.Gate
}

// newReplicas starts them. Each says for 7 seconds that it is about to end before it does: Envoy asks for that every 5.
func newReplicas(ctx context.Context, t *testing.T, name string, n int) replicas {
	t.Helper()
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("x-user-id") == "" {
			http.Error(w, "nobody was checked", http.StatusTeapot)
			return
		}
		_, _ = w.Write([]byte("an item\n"))
	}))
	t.Cleanup(backend.Close)
	options := stack.GateOptions{
		Manifests: fmt.Sprintf(`apiVersion: usher.dev/v1alpha1
kind: IdentityProvider
metadata: {name: idp}
spec: {issuer: %q, allowHTTP: true, audiences: [langgraph]}
---
apiVersion: usher.dev/v1alpha1
kind: AuthPolicy
metadata: {name: items}
spec:
  hosts: ["127.0.0.1"]
  providers: [idp]
  backend: {url: %q}
  api: {routes: [{method: GET, path: /items, on: items:read}]}
  rules: [{on: items:read, allow: user.isAuthenticated}]
  identityHeaders: {x-user-id: user.identity}
`, parts.Issuer, backend.URL),
		UsherArgs: []string{"--drain-delay", "7s", "--log-level", "warn"},
		EnvoyArgs: []string{"--check-timeout=5s"}, // a busy machine must not make a 503 of an answer
		Ping: func(ctx context.Context, g *stack.Gate) error {
			r, err := askAt(ctx, http.DefaultClient, g.URL, "/items", "", http.Header{"Authorization": {"Bearer " + alice}})
			if err == nil && r.status != http.StatusOK {
				err = fmt.Errorf("%d %s", r.status, r.body)
			}
			return err
		},
	}
	first, err := parts.NewGateAs(ctx, name+"-1", options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(first.Usher.Stop)
	first.Envoy.Stop() // it knows of no other
	r := replicas{ushers: []*stack.Gate{first}}
	for i := 2; i <= n; i++ {
		next, err := parts.NewUsher(ctx, fmt.Sprintf("%s-%d", name, i), options)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(next.Usher.Stop)
		r.ushers = append(r.ushers, next)
	}
	r.gate, err = first.WithEnvoy(ctx, name, func(bootstrap map[string]any) error {
		var all error
		for _, next := range r.ushers[1:] {
			all = errors.Join(all, addReplica(bootstrap, next.GRPC()))
		}
		return all
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.gate.Envoy.Stop)
	if err := untilServing(ctx, r.gate, n); err != nil {
		t.Fatal(err)
	}
	return r
}

// addReplica adds an address to the cluster of Usher, as a headless Service's name would have several.
func addReplica(bootstrap map[string]any, address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	for _, c := range bootstrap["static_resources"].(map[string]any)["clusters"].([]any) {
		cluster := c.(map[string]any)
		if cluster["name"] != "usher" {
			continue
		}
		endpoints := cluster["load_assignment"].(map[string]any)["endpoints"].([]any)[0].(map[string]any)
		endpoints["lb_endpoints"] = append(endpoints["lb_endpoints"].([]any), map[string]any{"endpoint": map[string]any{
			"address": map[string]any{"socket_address": map[string]any{"address": host, "port_value": number}},
		}})
		return nil
	}
	return errors.New("the bootstrap has no cluster usher")
}

// untilServing waits until Envoy takes n replicas for healthy.
func untilServing(ctx context.Context, g *stack.Gate, n int) error {
	return stack.Poll(ctx, func() error {
		if healthy, err := usherStat(ctx, g, "membership_healthy"); err != nil || healthy != n {
			return fmt.Errorf("%d replicas are healthy, expected %d: %w", healthy, n, err)
		}
		return nil
	})
}

// usherStat is one of Envoy's numbers on the cluster of Usher.
func usherStat(ctx context.Context, g *stack.Gate, name string) (int, error) {
	r, err := askAt(ctx, http.DefaultClient, g.EnvoyAdmin, "/stats?filter=^cluster.usher."+name+"$", "", nil)
	if err != nil {
		return 0, err
	}
	_, number, _ := strings.Cut(r.body, ": ")
	return strconv.Atoi(strings.TrimSpace(number))
}

// checked is how many checks each replica has allowed. Any other outcome is an error.
func (r replicas) checked(ctx context.Context) ([]int, error) {
	out := make([]int, len(r.ushers))
	for i, g := range r.ushers {
		m, err := askAt(ctx, http.DefaultClient, g.UsherAdmin, "/metrics", "", nil)
		if err != nil {
			return nil, err
		}
		for _, m := range regexp.MustCompile(`(?m)^usher_checks_total\{[^}]*outcome="(\w+)"[^}]*\} (\d+)$`).FindAllStringSubmatch(m.body, -1) {
			n, err := strconv.Atoi(m[2])
			if err == nil && n > 0 && m[1] != "allow" {
				err = fmt.Errorf("replica %d answered %d times %s", i, n, m[1])
			}
			if err != nil {
				return nil, err
			}
			out[i] += n
		}
	}
	return out, nil
}

// h2load sends n requests with Alice's token, and returns how many were answered with which status; -1 is none.
func (r replicas) h2load(ctx context.Context, n int, args ...string) (map[int]int, error) {
	root, err := stack.Root()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "h2load-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	log := filepath.Join(dir, "requests")
	args = append(args, "-t", "1", "-n", strconv.Itoa(n), "--log-file", log, "-H", "authorization: Bearer "+alice, r.gate.URL+"/items")
	out, err := exec.CommandContext(ctx, filepath.Join(root, ".tools", "bin", "h2load"), args...).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("h2load: %w: %s", err, out)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		return nil, err
	}
	statuses := map[int]int{}
	for line := range strings.Lines(string(text)) { // its start, status and duration
		status, err := strconv.Atoi(strings.Split(line, "\t")[1])
		if err != nil {
			return nil, fmt.Errorf("h2load wrote %q: %w", line, err)
		}
		statuses[status]++
		n--
	}
	if statuses[-1] += n; statuses[-1] == 0 { // what it gave up is in no line
		delete(statuses, -1)
	}
	return statuses, nil
}

// load is requests that go on, in rounds of h2load.
type load struct {
	mu       sync.Mutex
	begun    int
	ended    int
	statuses map[int]int
	err      error
	stop     func()
}

// newLoad begins to send 100 requests a second. The rounds are short.
func (r replicas) newLoad(ctx context.Context, t *testing.T, args ...string) *load {
	t.Helper()
	l := &load{statuses: map[int]int{}}
	loading, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for loading.Err() == nil {
			l.mu.Lock()
			l.begun++
			l.mu.Unlock()
			statuses, err := r.h2load(ctx, 100, args...)
			l.mu.Lock()
			l.ended++
			for status, n := range statuses {
				l.statuses[status] += n
			}
			l.err = errors.Join(l.err, err)
			l.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	l.stop = func() { cancel(); <-done }
	t.Cleanup(l.stop)
	return l
}

// round waits until a round has begun and ended.
func (l *load) round(ctx context.Context) error {
	l.mu.Lock()
	next := l.begun + 1
	l.mu.Unlock()
	return stack.Poll(ctx, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.ended < next {
			return fmt.Errorf("%d rounds of requests have ended, not %d: %w", l.ended, next, l.err)
		}
		return nil
	})
}

// end stops it, and returns how many requests were answered with which status.
func (l *load) end() (map[int]int, error) {
	l.stop()
	return maps.Clone(l.statuses), l.err
}
