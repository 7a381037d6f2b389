package langgraph_test

import (
	"strings"
	"testing"

	"github.com/usher-authz/usher/policy"
)

// withSocket is a policy that allows the WebSocket of protocol v2, so without identity headers.
func withSocket(t *testing.T, list string) *policy.Policy {
	t.Helper()
	return compile(t, `
apiVersion: usher.dev/v1alpha1
kind: AuthPolicy
metadata: {name: sockets}
spec:
  hosts: ["*"]
  providers: [idp]
  api: {preset: langgraph, langgraph: {webSocket: Allow}}
  backend: {url: "http://langgraph:8000"}
  rules:
`+list)
}

func TestA_WebSocket_is_open_to_who_may_do_anything_with_the_thread(t *testing.T) {
	const (
		owned      = "    - {on: threads, filter: {owner: user.identity}, stamp: {owner: user.identity}}\n"
		assistants = "    - {on: \"assistants:read\"}\n"
		socket     = "GET /threads/"
	)
	for _, c := range []struct {
		name, rules, request string
		want                 policy.Outcome
	}{
		{"the owner", owned + assistants, socket + hers, policy.Allow},
		{"somebody else", owned + assistants, socket + his, policy.NotFound},
		{"a thread that is not there, which a frame could make", owned + assistants, socket + absent, policy.NotFound},
		{"private assistants, of which a frame could name any", owned + "    - {on: assistants, filter: {owner: user.identity}}\n", socket + hers, policy.Forbidden},
		{"no rule for assistants", owned, socket + hers, policy.Forbidden},
		{"reading only", owned + assistants + "    - {on: \"threads:create_run\", allow: \"false\"}\n", socket + hers, policy.Forbidden},
		{"no leave to delete, as a rollback does", owned + assistants + "    - {on: \"threads:delete\", allow: \"false\"}\n", socket + hers, policy.Forbidden},
		{"no leave to update, as an interrupt does", owned + assistants + "    - {on: \"threads:update\", allow: \"false\"}\n", socket + hers, policy.Forbidden},
		{"no leave to read", owned + assistants + "    - {on: \"threads:read\", allow: \"false\"}\n", socket + hers, policy.Forbidden},
		{"an id in another spelling", owned + assistants, socket + "{" + hers + "}", policy.BadRequest},
		{"everything for everybody", "    - {on: \"*\"}\n", socket + hers, policy.Allow},
	} {
		r := ask(t, withSocket(t, c.rules), user("alice"), twoOwners(), c.request+"/stream/events", nil)
		if r.decision.Outcome != c.want {
			t.Errorf("%s: %v, want %v (%s)", c.name, r.decision.Outcome, c.want, r.decision.Reason)
		}
	}
}

func TestA_WebSocket_is_refused_unless_the_policy_allows_it(t *testing.T) {
	for _, api := range []string{"{preset: langgraph}", "{preset: langgraph, langgraph: {webSocket: Deny}}"} {
		p := withAPI(t, api, "    - {on: \"*\"}\n")
		r := ask(t, p, user("alice"), twoOwners(), "GET /threads/"+hers+"/stream/events", nil)
		if r.decision.Outcome != policy.Forbidden || !strings.Contains(r.decision.Detail, "POST to commands and stream/events") {
			t.Errorf("%s: %v %q", api, r.decision.Outcome, r.decision.Detail)
		}
	}
}
