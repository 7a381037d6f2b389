package langgraph_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/usher-authz/usher/policy"
	"github.com/usher-authz/usher/policy/langgraph"
)

// served is testdata/routes.json.
type served struct {
	Python, JS, OpenAPI []string
	LeftOut             map[string]string `json:"left_out"`
}

func readServed(t testing.TB) served {
	t.Helper()
	var s served
	readJSON(t, "testdata/routes.json", &s)
	return s
}

// Each route of both servers is in the table, or left out for a reason; and the table has no other.
func TestThe_table_has_every_route_of_both_servers_and_no_other(t *testing.T) {
	s := readServed(t)
	table := map[string]bool{}
	for _, r := range langgraph.Preset().Routes {
		name := r.Method + " " + r.Path
		if table[name] {
			t.Errorf("%s stands in the table twice", name)
		}
		table[name] = true
	}
	known := map[string]bool{}
	for server, routes := range map[string][]string{"Python": s.Python, "JS": s.JS, "OpenAPI": s.OpenAPI} {
		if len(routes) < 40 {
			t.Errorf("%s has only %d routes", server, len(routes))
		}
		for _, name := range routes {
			known[name] = true
			if table[name] == (s.LeftOut[name] != "") {
				t.Errorf("%s: %s: in the table is %v, left out because %q", server, name, table[name], s.LeftOut[name])
			}
		}
	}
	for name := range table {
		if !known[name] {
			t.Errorf("%s is in the table, and no server has it", name)
		}
	}
	for name, reason := range s.LeftOut {
		if !known[name] || reason == "" {
			t.Errorf("%s is left out, and no server has it, or there is no reason", name)
		}
	}
}

// What is left out is 404, with a token and without one it is 401 (extauthz asks for the token first).
func TestA_route_that_is_left_out_is_unknown(t *testing.T) {
	p := rules(t, "    - {on: \"*\"}\n")
	for name := range readServed(t).LeftOut {
		method, path, _ := strings.Cut(strings.NewReplacer("{run_id}", run, "{thread_id}", hers, "{assistant_id}", hers, "{operation_id}", "x").Replace(name), " ")
		if r, err := p.Route(method, path); err == nil {
			t.Errorf("%s is route %s", name, r.Pattern)
		}
	}
}

// Only these need no token.
func TestThree_routes_are_public(t *testing.T) {
	var public []string
	for _, r := range langgraph.Preset().Routes {
		if r.Public {
			public = append(public, r.Method+" "+r.Path)
		}
		if r.Public == (r.Map != nil) {
			t.Errorf("%s %s: public is %v, and it has a Map: %v", r.Method, r.Path, r.Public, r.Map != nil)
		}
	}
	if want := []string{"GET /", "GET /info", "GET /ok"}; !slices.Equal(public, want) {
		t.Errorf("public are %q, want %q", public, want)
	}
}

// mapped returns what a request asks for, under a policy for everybody.
func mapped(t *testing.T, api, request string, body string) ([]policy.Operation, error) {
	t.Helper()
	p := withAPI(t, api, "    - {on: \"*\"}\n")
	method, target, _ := strings.Cut(request, " ")
	path, query, _ := strings.Cut(target, "?")
	route, err := p.Route(method, path)
	if err != nil {
		return nil, err
	}
	if route.Public {
		return nil, nil
	}
	return route.Operations(query, []byte(body))
}

// The servers know a graph's own assistant by this id (seen at both), and Python's by no other.
func TestAn_assistant_that_is_named_by_its_graph_is_looked_up_by_its_id(t *testing.T) {
	ops, err := mapped(t, "{preset: langgraph}", "POST /runs", `{"assistant_id":"agent"}`)
	if err != nil {
		t.Fatal(err)
	}
	want := policy.Ref{Resource: "assistants", ID: agent, Path: "/assistants/" + agent, Member: "assistant_id"}
	if got := ops[1].Object; got != want {
		t.Errorf("looked up is %+v, want %+v", got, want)
	}
	if value, _ := ops[1].Value.(map[string]any); value["assistant_id"] != "agent" {
		t.Errorf("the rule sees %v", value)
	}
}
