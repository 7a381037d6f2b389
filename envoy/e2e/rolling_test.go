package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/usher-authz/usher/envoy/e2e/stack"
)

// Two replicas behind one Envoy are stopped and started again, one after the other, as a rolling update does: whoever asks
// meanwhile notices nothing. SIGTERM makes a replica say that it is not serving; Envoy asks for that every 5 seconds, and the
// drain delay is longer.
func TestARollingRestartFailsNotOneRequest(t *testing.T) {
	ctx := begin(t)
	options := stack.GateOptions{UsherArgs: []string{"--drain-delay", "7s"}}
	text, err := parts.Manifests(parts.Backend)
	if err != nil {
		t.Fatal(err)
	}
	options.Manifests = text
	first, err := parts.NewGateAs(ctx, "rolling-1", options)
	if err != nil {
		t.Fatal(err)
	}
	second, err := parts.NewUsher(ctx, "rolling-2", options)
	if err != nil {
		t.Fatal(err)
	}
	gate, err := first.WithEnvoy(ctx, "rolling", func(bootstrap map[string]any) error {
		return addReplica(bootstrap, second.GRPC())
	})
	if err != nil {
		t.Fatal(err)
	}
	thread := newThread(ctx, t, alice, nil)
	want(ctx, t, gate, http.StatusOK, call{method: "GET", path: "/threads/" + thread, token: alice})

	var good atomic.Int64
	var mu sync.Mutex
	var wrong []string
	asking, stop := context.WithCancel(ctx)
	defer stop()
	var group sync.WaitGroup
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}
	for range 4 {
		group.Go(func() {
			for asking.Err() == nil {
				r, err := askAt(asking, client, gate.URL, "/threads/"+thread, "", http.Header{"Authorization": {"Bearer " + alice}})
				switch {
				case asking.Err() != nil:
				case err == nil && r.status == http.StatusOK:
					good.Add(1)
				default:
					mu.Lock()
					wrong = append(wrong, fmt.Sprintf("%v %d %.200s", err, r.status, r.body))
					mu.Unlock()
				}
				time.Sleep(2 * time.Millisecond) // the machine has others
			}
		})
	}
	for _, g := range []*stack.Gate{first, second} {
		before := good.Load()
		g.Usher.Stop()
		if err := errors.Join(g.Usher.Start(ctx), untilServing(ctx, gate, 2)); err != nil {
			t.Fatal(err)
		}
		if good.Load() == before {
			t.Error("nobody was answered while a replica restarted")
		}
	}
	stop()
	group.Wait()
	t.Logf("%d good answers", good.Load())
	if len(wrong) > 0 {
		t.Errorf("%d of %d requests failed, the first: %s", len(wrong), int64(len(wrong))+good.Load(), wrong[0])
	}
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
