package langgraph_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/usher-authz/usher/policy"
)

// one request of each group that langgraph.json can turn off.
var groups = map[string][]string{
	"disable_assistants":      {"GET /assistants/" + hers, "POST /assistants/search", "POST /assistants"},
	"disable_threads":         {"GET /threads/" + hers, "POST /threads/search", "GET /threads/" + hers + "/stream", "POST /threads/" + hers + "/copy"},
	"disable_runs":            {"POST /runs", "POST /threads/" + hers + "/runs/stream", "GET /threads/" + hers + "/runs", "POST /runs/crons", "GET /runs/crons/" + hers},
	"disable_event_streaming": {"POST /threads/" + hers + "/commands", "POST /threads/" + hers + "/stream/events", "GET /threads/" + hers + "/stream/events"},
	"disable_store":           {"GET /store/items", "PUT /store/items", "POST /store/namespaces"},
	"disable_meta":            {"GET /", "GET /info"},
	"disable_mcp":             {"POST /mcp", "POST /mcp/"},
	"disable_a2a":             {"POST /a2a/" + hers, "GET /.well-known/agent-card.json"},
	"disable_ui":              {"GET /ui/agent/x.js", "POST /ui/agent"},
}

func status404(t *testing.T, p *policy.Policy, request string) bool {
	t.Helper()
	method, path, _ := strings.Cut(request, " ")
	_, err := p.Route(method, path)
	var r *policy.Refusal
	if err != nil && (!errors.As(err, &r) || r.Outcome != policy.NotFound) {
		t.Errorf("%s: %v", request, err)
	}
	return err != nil
}

func TestA_disabled_group_is_an_unknown_route_and_no_other(t *testing.T) {
	for disabled := range groups {
		p := withAPI(t, "{preset: langgraph, langgraph: {http: {"+disabled+": true}}}", "    - {on: \"*\"}\n")
		for group, requests := range groups {
			for _, request := range requests {
				// Protocol v2 starts runs, so it goes with them, as in both servers.
				want := group == disabled || group == "disable_event_streaming" && disabled == "disable_runs"
				if got := status404(t, p, request); got != want {
					t.Errorf("%s: %s is unknown: %v, want %v", disabled, request, got, want)
				}
			}
		}
		if status404(t, p, "GET /ok") {
			t.Errorf("%s: GET /ok is unknown; it stays, as in the Python server", disabled)
		}
	}
	p := withAPI(t, "{preset: langgraph, langgraph: {http: {disable_store: false}}}", "    - {on: \"*\"}\n")
	if status404(t, p, "PUT /store/items") {
		t.Error("disable_store: false disables the store")
	}
}

func TestMount_prefix_stands_before_every_route_and_every_look_up(t *testing.T) {
	const api = "{preset: langgraph, langgraph: {http: {mount_prefix: /agents/v1}}}"
	p := withAPI(t, api, "    - {on: \"*\", filter: {owner: user.identity}, stamp: {owner: user.identity}}\n")
	for request, want := range map[string]policy.Outcome{
		"GET /agents/v1/threads/" + hers:                     policy.Allow,
		"GET /agents/v1/threads/" + his:                      policy.NotFound,
		"GET /agents/v1/threads/" + hers + "/runs/" + run:    policy.Allow,
		"GET /agents/v1/threads/" + his + "/runs/" + run:     policy.NotFound,
		"GET /agents/v1/assistants/" + his:                   policy.NotFound,
		"GET /threads/" + hers:                               policy.NotFound, // no such route
		"GET /agents/v1/agents/v1/threads/" + hers:           policy.NotFound,
		"GET /agents/v1x/threads/" + hers:                    policy.NotFound,
		"POST /agents/v1/threads/" + his + "/runs/crons":     policy.NotFound,
		"DELETE /agents/v1/runs/crons/" + hers:               policy.Allow,
		"POST /agents/v1/threads/" + hers + "/stream/events": policy.Allow,
	} {
		objects := store{}
		for path, metadata := range twoOwners() {
			objects["/agents/v1"+path] = metadata
		}
		body := ""
		if strings.HasSuffix(request, "/crons") {
			body = `{"assistant_id":"agent","schedule":"* * * * *"}`
		}
		if r := ask(t, p, user("alice"), objects, request, []byte(body)); r.decision.Outcome != want {
			t.Errorf("%s: %v, want %v (%s)", request, r.decision.Outcome, want, r.decision.Reason)
		}
	}
	for _, path := range []string{"/ok", "/", "/agents/v1/ok", "/agents/v1/info"} {
		if r, err := p.Route("GET", path); err != nil || !r.Public {
			t.Errorf("GET %s is not public: the health checks stay at the root too", path)
		}
	}
	if _, err := p.Route("GET", "/info"); err == nil {
		t.Error("GET /info is known without the prefix")
	}
}

func TestThe_UI_needs_a_token_unless_the_policy_says_that_it_is_public(t *testing.T) {
	p := rules(t, "    - {on: threads}\n")
	if r := ask(t, p, user("alice"), nil, "GET /ui/agent/x.js", nil); r.public || r.decision.Outcome != policy.Allow {
		t.Errorf("with a token: public %v, %v", r.public, r.decision.Outcome)
	}
	p = withAPI(t, "{preset: langgraph, public: [{method: GET, path: '/ui/{rest=**}'}]}", "    - {on: threads}\n")
	if r := ask(t, p, user("alice"), nil, "GET /ui/agent/x.js", nil); !r.public {
		t.Error("api.public does not make it public")
	}
	if r := ask(t, p, user("alice"), nil, "POST /ui/agent", nil); r.public {
		t.Error("what api.public does not name is public")
	}
}
