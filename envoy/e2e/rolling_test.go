package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/usher-authz/usher/envoy/e2e/stack"
)

// replicas are two Ushers behind one Envoy, before a backend that answers at once.
type replicas struct {
	gate   *stack.Gate
	ushers []*stack.Gate
}

// newReplicas starts them. Each says 7 seconds long that it is about to end before it does: Envoy asks for that every 5 seconds.
func newReplicas(ctx context.Context, t *testing.T, name string, edits ...func(bootstrap map[string]any) error) replicas {
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
  api: {routes: [{method: GET, path: /items, on: items:read}, {method: GET, path: /ok, public: true}]}
  rules: [{on: items:read, allow: user.isAuthenticated}]
  identityHeaders: {x-user-id: user.identity}
`, parts.Issuer, backend.URL),
		UsherArgs: []string{"--drain-delay", "7s", "--log-level", "warn"},
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
	second, err := parts.NewUsher(ctx, name+"-2", options)
	if err != nil {
		t.Fatal(err)
	}
	gate, err := first.WithEnvoy(ctx, name, func(bootstrap map[string]any) error {
		err := addReplica(bootstrap, second.GRPC())
		for _, edit := range edits {
			err = errors.Join(err, edit(bootstrap))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := untilServing(ctx, gate, 2); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(first.Usher.Stop)
	t.Cleanup(second.Usher.Stop)
	t.Cleanup(gate.Envoy.Stop)
	return replicas{gate, []*stack.Gate{first, second}}
}

// load is what h2load says of the requests that it sent.
type load struct{ sent, good, bad int }

var (
	loadRequests = regexp.MustCompile(`requests: (\d+) total, (\d+) started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout`)
	loadStatus   = regexp.MustCompile(`status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx`)
)

// h2load sends n requests with Alice's token, 8 at once on each connection or one where that is all that the protocol can do.
func (r replicas) h2load(ctx context.Context, n int, args ...string) (load, string, error) {
	root, err := stack.Root()
	if err != nil {
		return load{}, "", err
	}
	args = append(args, "-t", "1", "-n", strconv.Itoa(n), "-H", "authorization: Bearer "+alice, r.gate.URL+"/items")
	out, err := exec.CommandContext(ctx, filepath.Join(root, ".tools", "bin", "h2load"), args...).CombinedOutput()
	text := string(out)
	requests, status := loadRequests.FindStringSubmatch(text), loadStatus.FindStringSubmatch(text)
	if err != nil || requests == nil || status == nil {
		return load{}, text, fmt.Errorf("h2load: %w: %s", err, text)
	}
	number := func(s string) int { n, _ := strconv.Atoi(s); return n } // it is digits
	l := load{sent: number(requests[1]), good: number(status[1])}
	l.bad = l.sent - min(l.good, number(requests[4]))
	return l, text, nil
}

// checks is how many checks a replica has answered, by outcome.
func checks(ctx context.Context, g *stack.Gate) (map[string]int, error) {
	r, err := askAt(ctx, http.DefaultClient, g.UsherAdmin, "/metrics", "", nil)
	if err != nil {
		return nil, err
	}
	out := map[string]int{}
	for _, m := range regexp.MustCompile(`(?m)^usher_checks_total\{[^}]*outcome="(\w+)"[^}]*\} (\d+)$`).FindAllStringSubmatch(r.body, -1) {
		n, err := strconv.Atoi(m[2])
		if err != nil {
			return nil, err
		}
		out[m[1]] += n
	}
	return out, nil
}

// Two replicas behind one Envoy are stopped and started again, one after the other, as a rolling update does, while h2load sends
// requests over HTTP/1.1 and HTTP/2: not one of them fails. Envoy shares them between the replicas, sends none to one that is
// not ready yet, and none to one that said that it is about to end.
func TestARollingRestartFailsNotOneRequest(t *testing.T) {
	ctx := beginFor(t, 4*time.Minute)
	r := newReplicas(ctx, t, "rolling")
	loading, stop := context.WithCancel(ctx)
	defer stop()
	var group sync.WaitGroup
	totals := map[string]*load{}
	for name, args := range map[string][]string{
		"HTTP/1.1": {"--h1", "-c", "8"},
		"HTTP/2":   {"-c", "2", "-m", "8"},
	} {
		total := &load{}
		totals[name] = total
		group.Go(func() {
			for loading.Err() == nil {
				l, text, err := r.h2load(ctx, 400, args...)
				if err != nil {
					t.Error(err)
					return
				}
				if l.bad > 0 {
					t.Errorf("%s: %s", name, text)
				}
				total.sent, total.good, total.bad = total.sent+l.sent, total.good+l.good, total.bad+l.bad
			}
		})
	}
	for _, g := range r.ushers {
		g.Usher.Stop()
		if err := errors.Join(g.Usher.Start(ctx), untilServing(ctx, r.gate, 2)); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	group.Wait()
	for name, total := range totals {
		t.Logf("%s: %d requests, %d good", name, total.sent, total.good)
		if total.good == 0 {
			t.Errorf("%s: nothing was sent", name)
		}
	}
	// Both are new now, and have their share.
	if l, text, err := r.h2load(ctx, 1000, "-c", "4", "-m", "4"); err != nil || l.bad > 0 {
		t.Fatalf("%v: %s", err, text)
	}
	for i, g := range r.ushers {
		outcomes, err := checks(ctx, g)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("replica %d: %v", i, outcomes)
		for outcome, n := range outcomes {
			if outcome != "allow" && n > 0 {
				t.Errorf("replica %d answered %d times %s", i, n, outcome)
			}
		}
		if outcomes["allow"] < 200 {
			t.Errorf("replica %d answered only %d checks", i, outcomes["allow"])
		}
	}
}

// A replica that is killed says nothing to anybody: only the checks that were on their way to it fail, and those before Envoy
// has seen that nobody is there.
func TestAReplicaThatIsKilled(t *testing.T) {
	ctx := beginFor(t, 3*time.Minute)
	r := newReplicas(ctx, t, "killed")
	loading, stop := context.WithCancel(ctx)
	defer stop()
	total := load{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for loading.Err() == nil {
			l, text, err := r.h2load(ctx, 500, "-c", "4", "-m", "8")
			if err != nil {
				t.Error(err)
				return
			}
			if l.bad > 0 {
				t.Log(text)
			}
			total.sent, total.good, total.bad = total.sent+l.sent, total.good+l.good, total.bad+l.bad
		}
	}()
	time.Sleep(2 * time.Second)
	if err := syscall.Kill(r.ushers[0].Usher.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := untilServing(ctx, r.gate, 1); err != nil {
		t.Fatal(err)
	}
	stop()
	<-done
	t.Logf("%d of %d requests failed", total.bad, total.sent)
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
		r, err := askAt(ctx, http.DefaultClient, g.EnvoyAdmin, "/stats?filter=cluster.usher.membership_healthy", "", nil)
		if err != nil {
			return err
		}
		var healthy int
		if _, err := fmt.Sscanf(r.body, "cluster.usher.membership_healthy: %d", &healthy); err != nil || healthy != n {
			return fmt.Errorf("%d healthy, %v: %s", healthy, err, r.body)
		}
		return nil
	})
}
