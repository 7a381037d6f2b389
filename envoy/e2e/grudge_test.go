package e2e_test

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/usher-authz/usher/envoy/e2e/stack"
)

// Bob knows every id of Alice's, has a token of his own, and tries what he can think of. No answer may hold what is hers,
// and afterwards all of it must be as it was.
func TestBobWithAGrudgeReadsAndChangesNothing(t *testing.T) {
	ctx := begin(t)
	g := newGate(ctx, t, "grudge", everythingManifests, cmp.Or(elsewhere(), parts.Backend))
	const secret = "what Alice wrote"
	ids := map[string]string{}
	hers := map[string]any{"secret": secret}
	var run, state struct {
		Run        string `json:"run_id"`
		Checkpoint struct {
			ID string `json:"checkpoint_id"`
		} `json:"checkpoint"`
	}
	for _, s := range []step{
		{name: "thread", token: bob, call: "threads.create", args: list(object{}), want: 200, keep: "thread_id"},
	} {
		take(ctx, t, g, ids, s)
		ids["HIS"] = ids["thread_id"]
	}
	for _, s := range []step{
		{name: "thread", token: alice, call: "threads.create", args: list(object{"metadata": hers}), want: 200, keep: "thread_id"},
		{name: "run", token: alice, call: "runs.wait", args: list("{thread_id}", "agent", object{"input": question(secret)}), want: 200},
		{name: "assistant", token: alice, call: "assistants.create", args: list(object{"graphId": "agent", "metadata": hers}), want: 200, keep: "assistant_id"},
		{name: "item", token: alice, call: "store.putItem", args: list(list("alice"), "k", object{"text": secret}), want: 200},
	} {
		take(ctx, t, g, ids, s)
	}
	ids["HERS"] = ids["thread_id"]
	decode(t, want(ctx, t, g, 200, call{method: "GET", path: "/threads/" + ids["HERS"] + "/state", token: alice}).body, &state)
	ids["CHECKPOINT"] = state.Checkpoint.ID
	var runs []struct {
		Run string `json:"run_id"`
	}
	decode(t, want(ctx, t, g, 200, call{method: "GET", path: "/threads/" + ids["HERS"] + "/runs", token: alice}).body, &runs)
	if len(runs) == 0 || ids["CHECKPOINT"] == "" {
		t.Fatalf("runs %v, checkpoint %q", runs, ids["CHECKPOINT"])
	}
	run.Run = runs[0].Run
	ids["RUN"], ids["ASSISTANT"] = run.Run, ids["assistant_id"]
	ids["UPPER"] = strings.ToUpper(ids["HERS"])

	// A protocol v2 record of hers, which the JavaScript server keeps with her events.
	want(ctx, t, g, 200, call{method: "POST", path: "/threads/" + ids["HERS"] + "/commands", token: alice, body: `{"id":1,"method":"state.get"}`})

	statuses := map[int]int{}
	before := belongings(ctx, t, g, ids)
	fill := func(text string) string {
		for _, name := range []string{"HERS", "HIS", "RUN", "CHECKPOINT", "ASSISTANT", "UPPER"} {
			text = strings.ReplaceAll(text, "$"+name, ids[name])
		}
		return text
	}
	for _, c := range []struct {
		method, path, body string
		header             http.Header
	}{
		// Another reading of the path.
		{method: "GET", path: "/threads/$HIS/../$HERS"},
		{method: "GET", path: "/threads/$HIS/%2e%2e/$HERS/state"},
		{method: "GET", path: "/threads/$HIS/..%2f$HERS/state"},
		{method: "GET", path: "//threads/$HERS/state"},
		{method: "GET", path: "/threads//$HERS/state"},
		{method: "GET", path: "/threads/$HERS/state/"},
		{method: "GET", path: "/threads/$HERS;x=1/state"},
		{method: "GET", path: "/threads/$HERS%00/state"},
		{method: "GET", path: "/threads/$UPPER/state"},
		{method: "GET", path: "/threads/%7b$HERS%7d/state"},
		{method: "GET", path: "/THREADS/$HERS/state"},
		{method: "GET", path: "/threads/$HERS/state?x=/threads/$HIS"},
		// Another object below his own.
		{method: "GET", path: "/threads/$HIS/runs/$RUN"},
		{method: "GET", path: "/threads/$HIS/runs/$RUN/join"},
		{method: "GET", path: "/threads/$HIS/runs/$RUN/stream"},
		{method: "GET", path: "/runs/$RUN/stream"},
		{method: "DELETE", path: "/threads/$HIS/runs/$RUN"},
		{method: "POST", path: "/threads/$HIS/runs/$RUN/cancel?action=rollback"},
		{method: "GET", path: "/threads/$HIS/state/$CHECKPOINT"},
		{method: "POST", path: "/runs/cancel", body: `{"thread_id":"$HIS","run_ids":["$RUN"]}`},
		{method: "POST", path: "/threads/prune", body: `{"thread_ids":["$HIS","$HERS"]}`},
		// Another thread in the body.
		{method: "POST", path: "/threads/$HIS/history", body: `{"checkpoint":{"thread_id":"$HERS","checkpoint_id":"$CHECKPOINT"}}`},
		{method: "POST", path: "/threads/$HIS/history", body: `{"before":{"configurable":{"thread_id":"$HERS"}}}`},
		{method: "POST", path: "/threads/$HIS/state/checkpoint", body: `{"checkpoint":{"thread_id":"$HERS","checkpoint_id":"$CHECKPOINT"}}`},
		{method: "POST", path: "/threads/$HIS/state/checkpoint", body: `{"checkpoint":{"checkpoint_id":"$CHECKPOINT","checkpoint_ns":""}}`},
		{method: "POST", path: "/threads/$HIS/state", body: `{"values":{"messages":[]},"checkpoint":{"thread_id":"$HERS"}}`},
		{method: "POST", path: "/threads/$HIS/state", body: `{"values":{"messages":[]},"checkpoint_id":"$CHECKPOINT"}`},
		{method: "POST", path: "/threads/$HIS/runs/wait", body: `{"assistant_id":"agent","input":null,"config":{"configurable":{"thread_id":"$HERS"}}}`},
		{method: "POST", path: "/threads/$HIS/runs/wait", body: `{"assistant_id":"agent","input":null,"checkpoint":{"thread_id":"$HERS"}}`},
		{method: "POST", path: "/threads/$HIS/runs/wait", body: `{"assistant_id":"agent","input":{"messages":[]},"checkpoint_id":"$CHECKPOINT"}`},
		{method: "POST", path: "/threads/$HIS/runs/wait", body: `{"assistant_id":"agent","input":{"messages":[]},"thread_id":"$HERS"}`},
		{method: "POST", path: "/runs/wait", body: `{"assistant_id":"agent","input":{"messages":[]},"thread_id":"$HERS"}`},
		{method: "POST", path: "/runs/batch", body: `[{"assistant_id":"agent","input":{"messages":[]}},{"assistant_id":"agent","thread_id":"$HERS"}]`},
		{method: "POST", path: "/runs/wait", body: `{"assistant_id":"$ASSISTANT","input":{"messages":[]}}`},
		{method: "POST", path: "/runs/wait", body: `{"assistant_id":"agent","assistant_id":"$ASSISTANT","input":{"messages":[]}}`},
		{method: "POST", path: "/runs/wait", body: `{"assistant_id":"agent","input":{"messages":[]},"config":{"configurable":{"assistant_id":"$ASSISTANT","x-user-id":"alice"}}}`},
		{method: "POST", path: "/runs", body: `{"assistant_id":"agent","input":{"messages":[]},"webhook":"/threads/$HERS/runs"}`},
		{method: "POST", path: "/runs", body: `{"assistant_id":"agent","input":{"messages":[]},"webhook":"http://127.0.0.1:1/"}`},
		{method: "POST", path: "/threads", body: `{"thread_id":"$HERS","if_exists":"do_nothing"}`},
		{method: "POST", path: "/threads", body: `{"thread_id":"$HERS","if_exists":"do_nothing","metadata":{"owner":"alice"}}`},
		{method: "POST", path: "/threads/$HERS/copy"},
		{method: "POST", path: "/threads/$HERS/copy", body: `{"metadata":{"owner":"bob"}}`},
		// Protocol v2.
		{method: "POST", path: "/threads/$HERS/commands", body: `{"id":1,"method":"state.get"}`},
		{method: "POST", path: "/threads/$HERS/commands", body: `{"id":1,"method":"run.start","params":{"assistant_id":"agent","input":{"messages":[]}}}`},
		{method: "POST", path: "/threads/$HERS/stream/events", body: `{"channels":["values","messages","lifecycle"]}`},
		{method: "POST", path: "/threads/$HIS/commands", body: `{"id":1,"method":"run.start","params":{"assistant_id":"agent","config":{"configurable":{"thread_id":"$HERS"}}}}`},
		{method: "POST", path: "/threads/$HIS/commands", body: `{"id":1,"method":"run.start","params":{"assistant_id":"$ASSISTANT","input":{"messages":[]}}}`},
		{method: "POST", path: "/threads/$HIS/commands", body: `{"id":1,"method":"state.get","method":"state.get"}`},
		{method: "POST", path: "/threads/$HIS/commands", body: `{"id":1,"method":"subscription.reconnect","params":{"thread_id":"$HERS"}}`},
		// Searches.
		{method: "POST", path: "/threads/search", body: `{"metadata":{"secret":"` + secret + `"}}`},
		{method: "POST", path: "/threads/search", body: `{"metadata":{"owner":"alice"}}`},
		{method: "POST", path: "/threads/search", body: `{"metadata":{"\u006fwner":"alice"}}`},
		{method: "POST", path: "/threads/search", body: `{"metadata":{"owner":"bob"},"metadata":{"owner":"alice"}}`},
		{method: "POST", path: "/threads/search", body: `{"metadata":{"owner":{"$eq":"alice"}}}`},
		{method: "POST", path: "/threads/search", body: `{"ids":["$HERS"],"limit":1000}`},
		{method: "POST", path: "/threads/search", body: `{"values":{}}`, header: http.Header{"Content-Type": {"text/plain"}}},
		{method: "POST", path: "/threads/search", body: "\xef\xbb\xbf{}"},
		{method: "POST", path: "/assistants/search", body: `{"metadata":{"secret":"` + secret + `"},"limit":1000}`},
		{method: "POST", path: "/assistants/count", body: `{"metadata":{"owner":"alice"}}`},
		// The store.
		{method: "GET", path: "/store/items?namespace=alice&key=k"},
		{method: "GET", path: "/store/items?namespace=bob&namespace=alice&key=k"},
		{method: "GET", path: "/store/items?namespace=alice&%6eamespace=bob&key=k"},
		{method: "GET", path: "/store/items?namespace[]=alice&namespace=bob&key=k"},
		{method: "GET", path: "/store/items?namespace=alice;namespace=bob&key=k"},
		{method: "GET", path: "/store/items?key=k"},
		{method: "POST", path: "/store/items/search", body: `{"namespace_prefix":["alice"]}`},
		{method: "POST", path: "/store/items/search", body: `{"namespace_prefix":[]}`},
		{method: "POST", path: "/store/items/search", body: `{"namespace_prefix":null}`},
		{method: "POST", path: "/store/items/search", body: `{"namespace_prefix":["*"]}`},
		{method: "POST", path: "/store/items/search", body: `{"namespace_prefix":[""]}`},
		{method: "POST", path: "/store/items/search", body: `{"namespace_prefix":["bob"],"namespace_prefix":["alice"]}`},
		{method: "POST", path: "/store/namespaces", body: `{"prefix":["*"],"suffix":["alice"]}`},
		{method: "PUT", path: "/store/items", body: `{"namespace":["alice"],"key":"k","value":{"text":"planted"}}`},
		{method: "PUT", path: "/store/items", body: `{"namespace":"alice","key":"k","value":{}}`},
		{method: "PUT", path: "/store/items", body: `{"namespace":["bob"],"key":"k","value":{},"namespace":["alice"]}`},
		{method: "DELETE", path: "/store/items", body: `{"namespace":["alice"],"key":"k"}`},
		{method: "DELETE", path: "/store/items?namespace=bob&key=k", body: `{"namespace":["alice"],"key":"k"}`},
		// Assistants.
		{method: "GET", path: "/assistants/$ASSISTANT/schemas"},
		{method: "PATCH", path: "/assistants/$ASSISTANT", body: `{"graph_id":"agent","metadata":{"owner":"bob"}}`},
		{method: "POST", path: "/assistants/$ASSISTANT/latest", body: `{"version":1}`},
		{method: "POST", path: "/assistants", body: `{"graph_id":"agent","assistant_id":"$ASSISTANT","if_exists":"do_nothing"}`},
		{method: "POST", path: "/assistants", body: `{"graph_id":"agent","metadata":{"created_by":"system"}}`},
		{method: "DELETE", path: "/assistants/$ASSISTANT?delete_threads=true"},
		// Somebody else's name.
		{method: "GET", path: "/threads/$HERS/state", header: http.Header{"X-User-Id": {"alice"}}},
		{method: "GET", path: "/threads/$HERS/state", header: http.Header{"X-Auth-Scheme": {"langsmith"}}},
		{method: "POST", path: "/threads/$HERS", header: http.Header{"X-Http-Method-Override": {"PATCH"}}, body: `{"metadata":{"owner":"bob"}}`},
		{method: "GET", path: "/threads/$HIS", header: http.Header{"X-Original-Url": {"/threads/$HERS"}, "X-Rewrite-Url": {"/threads/$HERS"}, "X-Envoy-Original-Path": {"/threads/$HERS"}}},
		{method: "POST", path: "/internal/truncate", body: `{"threads":true,"store":true,"runs":true,"assistants":true}`},
	} {
		asked := call{method: c.method, path: fill(c.path), body: fill(c.body), header: c.header.Clone(), token: bob}
		if asked.header.Get("Content-Type") == "" && strings.HasSuffix(asked.path, "/stream/events") {
			asked.header = http.Header{"Content-Type": {"application/json"}}
		}
		r := ask(ctx, t, g, asked)
		if strings.Contains(r.body, secret) || strings.Contains(r.body, `"owner":"alice"`) {
			t.Errorf("%s %s %s: %d %.500s", c.method, c.path, c.body, r.status, r.body)
		}
		statuses[r.status/100]++
	}
	// Most is refused by Usher, and what came through found nothing of hers.
	if statuses[2] < 10 || statuses[4] < 50 {
		t.Errorf("the answers by class were %v: the attempts do not try what they should", statuses)
	}
	after := belongings(ctx, t, g, ids)
	for path, text := range before {
		if after[path] != text {
			t.Errorf("%s was\n%s\nand is\n%s", path, text, after[path])
		}
	}
}

// belongings is what Alice has, by the path that shows it.
func belongings(ctx context.Context, t *testing.T, g *stack.Gate, ids map[string]string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, path := range []string{
		"/threads/" + ids["HERS"], "/threads/" + ids["HERS"] + "/state", "/threads/" + ids["HERS"] + "/history", "/threads/" + ids["HERS"] + "/runs",
		"/assistants/" + ids["assistant_id"], "/store/items?namespace=alice&key=k",
	} {
		out[path] = want(ctx, t, g, http.StatusOK, call{method: "GET", path: path, token: alice}).body
	}
	return out
}

func decode(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatal(err)
	}
}
