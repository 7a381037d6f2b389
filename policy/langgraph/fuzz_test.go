package langgraph_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/usher-authz/usher/policy"
	"github.com/usher-authz/usher/policy/langgraph"
)

// The objects of the fuzzed requests: alice's and bob's.
const (
	hers   = "11111111-1111-4111-8111-111111111111"
	his    = "22222222-2222-4222-8222-222222222222"
	run    = "33333333-3333-4333-8333-333333333333"
	agent  = "fe096781-5601-53d2-b2f6-0d3403f7e9ca" // the assistant of the graph of that name
	absent = "99999999-9999-4999-8999-999999999999"
)

func twoOwners() store {
	s := store{"/assistants/" + agent: {"created_by": "system"}}
	for id, owner := range map[string]string{hers: "alice", his: "bob"} {
		for _, path := range []string{"/threads/", "/assistants/", "/runs/crons/"} {
			s[path+id] = map[string]any{"owner": owner}
		}
		s["/threads/"+id+"/runs/"+run] = map[string]any{}
	}
	return s
}

// writes says where a route's body carries the metadata of what it makes, changes or searches; "*" is every item.
var writes = map[string][]string{
	"POST /threads": {"metadata"}, "PATCH /threads/{thread_id}": {"metadata"}, "POST /threads/search": {"metadata"}, "POST /threads/count": {"metadata"},
	"POST /threads/{thread_id}/runs": {"metadata"}, "POST /threads/{thread_id}/runs/stream": {"metadata"}, "POST /threads/{thread_id}/runs/wait": {"metadata"},
	"POST /runs": {"metadata"}, "POST /runs/stream": {"metadata"}, "POST /runs/wait": {"metadata"}, "POST /runs/batch": {"*", "metadata"},
	"POST /assistants": {"metadata"}, "PATCH /assistants/{assistant_id}": {"metadata"}, "POST /assistants/search": {"metadata"}, "POST /assistants/count": {"metadata"},
	"POST /runs/crons": {"metadata"}, "POST /threads/{thread_id}/runs/crons": {"metadata"}, "PATCH /runs/crons/{cron_id}": {"metadata"},
}

// namespaces says where a route's body carries that of the items it is about.
var namespaces = map[string]string{
	"PUT /store/items": "namespace", "DELETE /store/items": "namespace", "POST /store/items/search": "namespace_prefix", "POST /store/namespaces": "prefix",
}

// FuzzBody sends any body and query to any route as alice, under the tutorial's policy. Whatever is let through is about
// her objects alone, and says so where the backend will read it.
func FuzzBody(f *testing.F) {
	preset := langgraph.Preset()
	index := map[string]int{}
	for i, r := range preset.Routes {
		index[r.Method+" "+r.Path] = i
	}
	p := rules(f, "    - {on: \"*\", filter: {owner: user.identity}, stamp: {owner: user.identity}}\n    - {on: store, filter: {namespace: {$contains: user.identity}}}\n")
	seed := func(request string, body []byte) {
		method, target, _ := strings.Cut(request, " ")
		path, query, _ := strings.Cut(target, "?")
		if route, err := p.Route(method, path); err == nil {
			f.Add(uint8(index[route.Pattern]), uint8(0), query, body)
			f.Add(uint8(index[route.Pattern]), uint8(1), query, body)
		}
	}
	var seen struct{ Requests []observation }
	readJSON(f, "testdata/observed.json", &seen)
	for _, o := range seen.Requests {
		seed(placeholders.Replace(o.Request), []byte(strings.NewReplacer("{t}", hers, "{a}", his, "{r}", run, "{new}", absent, "{c}", hers, "{ck}", run).Replace(string(o.Body))))
	}
	for _, c := range readConformance(f).Cases {
		seed(c.Request, c.Body)
	}
	seed("POST /runs/batch", []byte(`[{"assistant_id":"agent","metadata":null},{"assistant_id":"agent","thread_id":"`+his+`"}]`))
	seed("POST /runs", []byte(`{"assistant_id":"agent","multitask_strategy":"rollback","config":{"metadata":{"owner":"bob"}},"on_completion":"keep"}`))
	seed("PUT /store/items", []byte(`{"namespace":["notes","alice"],"key":"k","value":{}}`))
	seed("DELETE /store/items", []byte(`{"namespace":["alice"],"key":"k"}`))
	seed("POST /store/items/search", []byte(`{"namespace_prefix":[],"filter":{"a":{"$ne":1}}}`))
	seed("POST /store/namespaces", []byte(`{"prefix":["*","alice"],"suffix":["bob"]}`))
	seed("POST /a2a/"+hers, []byte(`{"jsonrpc":"2.0","id":1,"method":"CancelTask","params":{"id":"`+hers+`:`+run+`"}}`))
	seed("POST /mcp", []byte(`{"method":"initialize"}`))
	objects := twoOwners()
	alice := user("alice")
	f.Fuzz(func(t *testing.T, which, id uint8, query string, body []byte) {
		route := preset.Routes[int(which)%len(preset.Routes)]
		ids := []string{hers, his, absent, strings.ToUpper(hers), "{" + hers + "}", "agent", ""}
		chosen := ids[int(id)%len(ids)]
		path := strings.NewReplacer("{thread_id}", chosen, "{assistant_id}", chosen, "{cron_id}", chosen, "{run_id}", run, "{checkpoint_id}", run, "{namespace}", "x").Replace(route.Path)
		r := ask(t, p, alice, objects, route.Method+" "+path+"?"+query, body)
		if r.public {
			if !route.Public {
				t.Fatalf("%s is public", route.Path)
			}
			return
		}
		if r.decision.Outcome != policy.Allow {
			return
		}
		about := route.Method + " " + path + "?" + query + " " + string(body)
		if chosen != hers && chosen != absent && path != route.Path && chosen != "agent" {
			t.Fatalf("%s is allowed", about)
		}
		for _, op := range r.ops {
			for _, ref := range append([]policy.Ref{op.Object}, op.Requires...) {
				if owner := objects[ref.Path]["owner"]; owner == "bob" {
					t.Fatalf("%s: allowed on bob's %s", about, ref.Path)
				}
			}
		}
		if !route.NeedsBody {
			if len(r.decision.Edits) > 0 {
				t.Fatalf("%s: edits a body that is not read", about)
			}
			return
		}
		var v any = map[string]any{}
		if len(body) > 0 {
			if err := json.Unmarshal(body, &v); err != nil {
				t.Fatalf("%s: %v", about, err)
			}
		}
		v = edited(t, v, r.decision.Edits)
		if at := writes[route.Method+" "+route.Path]; at != nil {
			checkOwner(t, about, v, at)
		}
		if name := namespaces[route.Method+" "+route.Path]; name != "" {
			body, _ := v.(map[string]any)
			if labels, _ := body[name].([]any); !slices.Contains(labels, any("alice")) {
				t.Fatalf("%s: allowed with namespace %v", about, labels)
			}
		}
		// A search, a cancel and the store read no run's configuration.
		if !slices.ContainsFunc([]string{"/search", "/count", "/cancel", "/prune", "/store/"}, func(part string) bool { return strings.Contains(route.Path, part) }) {
			// Only these read a method and its params.
			if call, ok := v.(map[string]any); ok && (strings.HasSuffix(route.Path, "/commands") || strings.HasPrefix(route.Path, "/mcp") || strings.HasPrefix(route.Path, "/a2a")) {
				v = call["params"]
			}
			checkHoles(t, about, v, chosen, strings.Contains(route.Path, "{thread_id}"))
		}
	})
}

// edited applies edits to a body, in the plainest way.
func edited(t *testing.T, v any, edits []policy.Edit) any {
	t.Helper()
	for _, e := range edits {
		at := v
		for _, name := range e.At {
			switch parent := at.(type) {
			case []any:
				i := 0
				for _, c := range name {
					i = 10*i + int(c-'0')
				}
				at = parent[i]
			case map[string]any:
				if parent[name] == nil {
					parent[name] = map[string]any{}
				}
				at = parent[name]
			default:
				t.Fatalf("edit at %v of %v", e.At, v)
			}
		}
		object, ok := at.(map[string]any)
		if !ok {
			t.Fatalf("edit at %v of %v", e.At, v)
		}
		for _, m := range e.Set {
			object[m.Name] = m.Value
		}
	}
	return v
}

func checkOwner(t *testing.T, about string, v any, at []string) {
	t.Helper()
	if len(at) == 0 {
		object, _ := v.(map[string]any)
		if object["owner"] != "alice" {
			t.Fatalf("%s: allowed with owner %v", about, object["owner"])
		}
		return
	}
	if at[0] == "*" {
		list, ok := v.([]any)
		if !ok || len(list) == 0 {
			t.Fatalf("%s: allowed, and is no list", about)
		}
		for _, item := range list {
			checkOwner(t, about, item, at[1:])
		}
		return
	}
	object, ok := v.(map[string]any)
	if !ok {
		t.Fatalf("%s: allowed, and is no object", about)
	}
	checkOwner(t, about, object[at[0]], at[1:])
}

// checkHoles: nothing that was let through sets langgraph_auth_*, a webhook, or another thread.
func checkHoles(t *testing.T, about string, v any, thread string, ofThread bool) {
	t.Helper()
	if list, ok := v.([]any); ok {
		for _, item := range list {
			checkHoles(t, about, item, "", false)
		}
		return
	}
	body, _ := v.(map[string]any)
	if body["webhook"] != nil {
		t.Fatalf("%s: allowed with a webhook", about)
	}
	config, _ := body["config"].(map[string]any)
	for _, place := range []any{config["configurable"], body["context"], body["checkpoint"]} {
		object, _ := place.(map[string]any)
		for name := range object {
			if strings.HasPrefix(name, "langgraph_auth_") {
				t.Fatalf("%s: allowed with %s", about, name)
			}
		}
	}
	configurable, _ := config["configurable"].(map[string]any)
	checkpoint, _ := body["checkpoint"].(map[string]any)
	for _, id := range []any{configurable["thread_id"], checkpoint["thread_id"]} {
		if id != nil && (!ofThread || id != any(thread)) {
			t.Fatalf("%s: allowed on thread %v", about, id)
		}
	}
}
