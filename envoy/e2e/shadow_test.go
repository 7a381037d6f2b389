package e2e_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/usher-authz/usher/envoy/e2e/stack"
)

// A Shadow policy that would deny, allow, edit and name otherwise stands beside the example's: what the backend gets and what
// clients are answered is the same as without it, and the differences are counted and logged.
func TestAShadowPolicyChangesNothingAndSaysWhatItWould(t *testing.T) {
	ctx := begin(t)
	manifests, err := parts.Manifests(recorded.URL)
	if err != nil {
		t.Fatal(err)
	}
	g, err := parts.NewGateAs(ctx, "shadow", stack.GateOptions{Manifests: manifests + fmt.Sprintf(`
---
apiVersion: usher.dev/v1alpha1
kind: AuthPolicy
metadata: {name: next}
spec:
  mode: Shadow
  hosts: ["127.0.0.1"]
  providers: [company]
  api: {preset: langgraph}
  backend: {url: %q}
  rules:
    - {on: threads, filter: {owner: user.identity}, stamp: {owner: user.identity, team: "'one'"}}
    - {on: "threads:read", allow: "false"}
    - {on: store}
  identityHeaders: {x-user-id: user.identity, x-team: "'one'"}
`, recorded.URL)})
	if err != nil {
		t.Fatal(err)
	}
	thread := newThread(ctx, t, alice, nil)
	for _, c := range []struct {
		name       string
		call       call
		difference string
	}{
		{"a stamp", call{method: "POST", path: "/threads", token: alice, body: `{"metadata":{"topic":"weather"}}`}, "different_edit"},
		{"a read", call{method: "GET", path: "/threads/" + thread, token: alice}, "would_deny"},
		{"the store", call{method: "PUT", path: "/store/items", token: alice, body: `{"namespace":["alice"],"key":"k","value":{}}`}, "would_allow"},
		{"another's thread", call{method: "GET", path: "/threads/" + thread, token: bob}, "different_answer"},
		{"a public route", call{method: "GET", path: "/ok"}, "same"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var seen [2][]arrival
			var status [2]int
			for i, gate := range []*stack.Gate{watched, g} {
				mark := fmt.Sprintf("%s %d", t.Name(), i)
				c.call.header = marking(mark)
				c.call.header.Set("x-team", "planted")
				status[i] = ask(ctx, t, gate, c.call).status
				seen[i] = recorded.marked(mark)
			}
			if status[0] != status[1] || len(seen[0]) != len(seen[1]) {
				t.Fatalf("answered %v, and the backend saw %d and %d requests", status, len(seen[0]), len(seen[1]))
			}
			for i := range seen[0] {
				without, with := seen[0][i], seen[1][i]
				if without.method != with.method || without.path != with.path || !bytes.Equal(without.body, with.body) {
					t.Errorf("the backend got %s %s %s, and without the Shadow policy %s %s %s", with.method, with.path, with.body, without.method, without.path, without.body)
				}
				if got := with.header.Get("x-team"); got != "" {
					t.Errorf("x-team is %q: a client planted it", got)
				}
				if a, b := without.header.Get("x-user-id"), with.header.Get("x-user-id"); a != b {
					t.Errorf("x-user-id is %q, without the Shadow policy %q", b, a)
				}
			}
			line := fmt.Sprintf("usher_shadow_decisions_total{difference=%q,policy=\"next\"}", c.difference)
			err := stack.Poll(ctx, func() error {
				r, err := askAt(ctx, http.DefaultClient, g.UsherAdmin, "/metrics", "", nil)
				if err != nil {
					return err
				}
				if !strings.Contains(r.body, line) {
					return fmt.Errorf("/metrics lacks %s", line)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			if c.difference == "same" {
				return // counted, and not logged
			}
			err = stack.Poll(ctx, func() error { // the log is written in pieces
				if !strings.Contains(g.Usher.Log(), fmt.Sprintf(`"difference":%q`, c.difference)) {
					return errors.New("no record of it in the log")
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}
