package e2e_test

import (
	"net/http"
	"testing"

	"github.com/usher-authz/usher/envoy/e2e/stack"
)

// A sidecar: Envoy and Usher in one pod, with a Unix socket between them and no TLS, as who may open the socket is for its
// directory to say.
func TestASidecarAnswersAtAUnixSocket(t *testing.T) {
	ctx := begin(t)
	text, err := parts.Manifests(recorded.URL)
	if err != nil {
		t.Fatal(err)
	}
	g, err := parts.NewGateAs(ctx, "sidecar", stack.GateOptions{Manifests: text, Socket: true, EnvoyArgs: []string{"--check-timeout=5s"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Usher.Stop)
	t.Cleanup(g.Envoy.Stop)
	thread := newThread(ctx, t, alice, nil)
	for _, c := range []struct {
		status int
		call
	}{
		{http.StatusOK, call{method: "GET", path: "/threads/" + thread, token: alice}},
		{http.StatusNotFound, call{method: "GET", path: "/threads/" + thread, token: bob}},
		{http.StatusUnauthorized, call{method: "GET", path: "/threads/" + thread}},
		{http.StatusOK, call{method: "POST", path: "/threads", token: alice, body: `{"metadata":{"owner":"bob"}}`}},
	} {
		want(ctx, t, g, c.status, c.call)
	}
	g.Usher.Stop()
	want(ctx, t, g, http.StatusServiceUnavailable, call{method: "GET", path: "/threads/" + thread, token: alice, header: marking(t.Name())})
	if n := len(recorded.marked(t.Name())); n != 0 {
		t.Errorf("the backend got %d requests", n)
	}
}
