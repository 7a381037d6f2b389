package e2e_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/usher-authz/usher/envoy/e2e/stack"
)

// everythingManifests let each user at their own threads, assistants, crons and items of the store.
const everythingManifests = `
apiVersion: usher.dev/v1alpha1
kind: IdentityProvider
metadata: {name: company}
spec:
  issuer: ISSUER
  allowHTTP: true
  audiences: [langgraph]
  identity: {permissions: 'claims.?scope.orValue("").split(" ")'}
---
apiVersion: usher.dev/v1alpha1
kind: AuthPolicy
metadata: {name: everything}
spec:
  hosts: ["127.0.0.1"]
  providers: [company]
  api: {preset: langgraph}
  backend: {url: BACKEND}
  rules:
    - {on: "*", filter: {owner: user.identity}, stamp: {owner: user.identity}}
    - {on: store, filter: {namespace: {$contains: user.identity}}}
  identityHeaders: {x-user-id: user.identity}
`

// newGate starts a gate before the LangGraph server, with manifests whose ISSUER and BACKEND are filled in.
func newGate(ctx context.Context, t *testing.T, name, manifests, backend string) *stack.Gate {
	t.Helper()
	g, err := parts.NewGateAs(ctx, name, stack.GateOptions{
		Manifests: strings.NewReplacer("ISSUER", parts.Issuer, "BACKEND", backend).Replace(manifests),
		EnvoyArgs: []string{"--check-timeout=5s"}, // a busy machine must not make a 503 of an answer
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Usher.Stop)
	t.Cleanup(g.Envoy.Stop)
	return g
}

// step is a call through the SDK, with placeholders for ids in its arguments, and what must come of it.
type step struct {
	name, token, call string
	args              []any
	want              int
	has, lacks        string // in the result
	keep              string // the name of a placeholder, for the result's member of that name
}

func take(ctx context.Context, t *testing.T, g *stack.Gate, ids map[string]string, s step) {
	t.Helper()
	fill := func(text string) string {
		for name, id := range ids {
			text = strings.ReplaceAll(text, "{"+name+"}", id)
		}
		return text
	}
	given, err := json.Marshal(s.args)
	if err != nil {
		t.Fatal(err)
	}
	var args []any
	if err := json.Unmarshal([]byte(fill(string(given))), &args); err != nil {
		t.Fatal(err)
	}
	var result json.RawMessage
	for {
		err := sdk.Call(ctx, g.URL, s.token, &result, s.call, args...)
		var refused *stack.SDKError
		if errors.As(err, &refused) && refused.Status == http.StatusServiceUnavailable && again(ctx, t) {
			continue
		}
		if got := status(t, err); got != s.want {
			t.Fatalf("%s: got %d, want %d: %v %.300s", s.name, got, s.want, err, result)
		}
		break
	}
	if has := fill(s.has); !strings.Contains(string(result), has) {
		t.Fatalf("%s: %.500s lacks %q", s.name, result, has)
	}
	if lacks := fill(s.lacks); lacks != "" && strings.Contains(string(result), lacks) {
		t.Fatalf("%s: %.500s has %q", s.name, result, lacks)
	}
	if s.keep != "" {
		var object map[string]any
		if err := json.Unmarshal(result, &object); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		ids[s.keep], _ = object[s.keep].(string)
	}
}

// elsewhere is the URL of a LangGraph server that runs already, the Python one say, for the stories of this file and of
// grudge_test.go. It must have a graph named agent, and nothing else yet.
func elsewhere() string { return os.Getenv("USHER_E2E_BACKEND") }

type object = map[string]any

func list(items ...any) []any { return items }

// What the SDK does with assistants, the store, crons and batches: Alice does, and Bob finds nothing and cannot.
func TestAssistantsAndItemsAreTheirOwnersAlone(t *testing.T) {
	ctx := begin(t)
	g := newGate(ctx, t, "everything", everythingManifests, cmp.Or(elsewhere(), parts.Backend))
	mark := object{"mark": "hers alone"}
	mine := list("alice", "notes")
	ids := map[string]string{}
	const (
		ok, denied, missing = http.StatusOK, http.StatusForbidden, http.StatusNotFound
	)
	crons := http.StatusBadRequest // the JavaScript server's are a stub that asks for a thread_id
	if elsewhere() != "" {
		crons = ok
	}
	for _, s := range []step{
		{name: "Alice makes an assistant", token: alice, call: "assistants.create", args: list(object{"graphId": "agent", "name": "hers", "metadata": mark}), want: ok, has: `"owner":"alice"`, keep: "assistant_id"},
		{name: "with Bob's name on it, it is hers all the same", token: alice, call: "assistants.create", args: list(object{"graphId": "agent", "metadata": object{"owner": "bob"}}), want: ok, has: `"owner":"alice"`},
		{name: "Bob makes one with her id", token: bob, call: "assistants.create", args: list(object{"graphId": "agent", "assistantId": "{assistant_id}"}), want: http.StatusConflict},
		{name: "Bob takes what is there", token: bob, call: "assistants.create", args: list(object{"graphId": "agent", "assistantId": "{assistant_id}", "ifExists": "do_nothing"}), want: http.StatusConflict},
		{name: "Bob reads it", token: bob, call: "assistants.get", args: list("{assistant_id}"), want: missing},
		{name: "Bob reads its graph", token: bob, call: "assistants.getGraph", args: list("{assistant_id}"), want: missing},
		{name: "Bob reads its schemas", token: bob, call: "assistants.getSchemas", args: list("{assistant_id}"), want: missing},
		{name: "Bob reads its subgraphs", token: bob, call: "assistants.getSubgraphs", args: list("{assistant_id}"), want: missing},
		{name: "Bob reads its versions", token: bob, call: "assistants.getVersions", args: list("{assistant_id}"), want: missing},
		{name: "Bob restores a version", token: bob, call: "assistants.setLatest", args: list("{assistant_id}", 1), want: missing},
		{name: "Bob changes it", token: bob, call: "assistants.update", args: list("{assistant_id}", object{"metadata": object{"owner": "bob"}}), want: missing},
		{name: "Bob deletes it", token: bob, call: "assistants.delete", args: list("{assistant_id}"), want: missing},
		{name: "Bob runs it", token: bob, call: "runs.wait", args: list(nil, "{assistant_id}", object{"input": question("x")}), want: missing},
		{name: "Bob searches", token: bob, call: "assistants.search", args: list(object{"limit": 1000}), want: ok, lacks: "{assistant_id}"},
		{name: "Bob searches for her mark", token: bob, call: "assistants.search", args: list(object{"metadata": mark}), want: ok, lacks: "hers alone"},
		{name: "Bob searches for what is hers", token: bob, call: "assistants.search", args: list(object{"metadata": object{"owner": "alice"}}), want: ok, has: "[]", lacks: "assistant_id"},
		{name: "Bob counts", token: bob, call: "assistants.count", args: list(object{"metadata": mark}), want: ok, has: "0"},
		{name: "Alice reads it", token: alice, call: "assistants.get", args: list("{assistant_id}"), want: ok, has: "{assistant_id}"},
		{name: "Alice reads its graph", token: alice, call: "assistants.getGraph", args: list("{assistant_id}"), want: ok},
		{name: "Alice changes it", token: alice, call: "assistants.update", args: list("{assistant_id}", object{"graphId": "agent", "metadata": object{"owner": "bob", "mark": "hers alone"}}), want: ok, has: `"owner":"alice"`},
		{name: "Alice reads its versions", token: alice, call: "assistants.getVersions", args: list("{assistant_id}"), want: ok, has: `"version":2`, lacks: `"owner":"bob"`},
		{name: "Alice restores the first", token: alice, call: "assistants.setLatest", args: list("{assistant_id}", 1), want: ok, has: `"owner":"alice"`},
		{name: "Alice searches", token: alice, call: "assistants.search", args: list(object{"metadata": mark}), want: ok, has: "{assistant_id}"},
		{name: "Alice counts", token: alice, call: "assistants.count", args: list(object{"metadata": mark}), want: ok, has: "1"},
		{name: "Alice runs it", token: alice, call: "runs.wait", args: list(nil, "{assistant_id}", object{"input": question("x")}), want: ok},

		{name: "Alice starts a batch", token: alice, call: "runs.createBatch", args: list(list(
			object{"assistantId": "agent", "input": question("one"), "on_completion": "keep"},
			object{"assistantId": "agent", "input": question("two"), "on_completion": "keep", "metadata": object{"owner": "bob"}},
		)), want: ok, has: "thread_id", lacks: `"owner":"bob"`},
		{name: "Bob starts one with her assistant in the second run", token: bob, call: "runs.createBatch", args: list(list(
			object{"assistantId": "agent", "input": question("one")}, object{"assistantId": "{assistant_id}", "input": question("two")},
		)), want: missing},

		{name: "Alice puts an item", token: alice, call: "store.putItem", args: list(mine, "k", object{"text": "hers alone"}), want: ok},
		{name: "Bob puts one", token: bob, call: "store.putItem", args: list(list("bob"), "k", object{"text": "his"}), want: ok},
		{name: "Bob overwrites hers", token: bob, call: "store.putItem", args: list(mine, "k", object{"text": "planted"}), want: denied},
		{name: "Bob reads hers", token: bob, call: "store.getItem", args: list(mine, "k"), want: denied},
		{name: "Bob deletes hers", token: bob, call: "store.deleteItem", args: list(mine, "k"), want: denied},
		{name: "Bob searches below hers", token: bob, call: "store.searchItems", args: list(mine), want: denied},
		{name: "Bob searches below no label", token: bob, call: "store.searchItems", args: list(list()), want: ok, has: "his", lacks: "hers alone"},
		{name: "Bob searches for her text", token: bob, call: "store.searchItems", args: list(list(), object{"filter": object{"text": "hers alone"}}), want: ok, lacks: "hers alone"},
		{name: "Bob lists her namespaces", token: bob, call: "store.listNamespaces", args: list(object{"prefix": list("alice")}), want: denied},
		{name: "Bob lists those of any first label", token: bob, call: "store.listNamespaces", args: list(object{"prefix": list("*")}), want: denied},
		{name: "Bob lists all", token: bob, call: "store.listNamespaces", args: list(object{}), want: ok, has: "bob", lacks: "alice"},
		{name: "Bob lists those that end as hers", token: bob, call: "store.listNamespaces", args: list(object{"suffix": list("notes")}), want: ok, lacks: "alice"},
		{name: "Alice reads it", token: alice, call: "store.getItem", args: list(mine, "k"), want: ok, has: "hers alone"},
		{name: "Alice searches", token: alice, call: "store.searchItems", args: list(list()), want: ok, has: "hers alone", lacks: `"his"`},
		{name: "Alice lists", token: alice, call: "store.listNamespaces", args: list(object{}), want: ok, has: "alice", lacks: "bob"},
		{name: "Alice deletes it", token: alice, call: "store.deleteItem", args: list(mine, "k"), want: ok},
		{name: "it is gone", token: alice, call: "store.searchItems", args: list(list("alice")), want: ok, lacks: "hers alone"},

		// The JavaScript server has no crons: what it says shows that the request came through.
		{name: "Alice makes a thread", token: alice, call: "threads.create", args: list(object{}), want: ok, keep: "thread_id"},
		{name: "Alice makes a cron", token: alice, call: "crons.create", args: list("agent", object{"schedule": "0 0 1 1 *", "input": question("x")}), want: crons},
		{name: "Alice makes one on her thread", token: alice, call: "crons.createForThread", args: list("{thread_id}", "agent", object{"schedule": "0 0 1 1 *"}), want: crons},
		{name: "Bob makes one on her thread", token: bob, call: "crons.createForThread", args: list("{thread_id}", "agent", object{"schedule": "0 0 1 1 *"}), want: missing},
		{name: "Bob makes one with her assistant", token: bob, call: "crons.create", args: list("{assistant_id}", object{"schedule": "0 0 1 1 *"}), want: missing},
		{name: "Bob makes one with a webhook", token: bob, call: "crons.create", args: list("agent", object{"schedule": "0 0 1 1 *", "webhook": "/threads/{thread_id}/runs"}), want: denied},
		{name: "Bob searches crons", token: bob, call: "crons.search", args: list(object{}), want: denied},
		{name: "Bob deletes one that is not there", token: bob, call: "crons.delete", args: list("{thread_id}"), want: missing},

		{name: "Alice deletes her assistant", token: alice, call: "assistants.delete", args: list("{assistant_id}"), want: ok},
		{name: "it is gone", token: alice, call: "assistants.get", args: list("{assistant_id}"), want: missing},
	} {
		take(ctx, t, g, ids, s)
	}
}

// Each user's tools run for that user, and a tool that no rule allows does not run.
func TestToolsRunForWhoCallsThem(t *testing.T) {
	ctx := begin(t)
	server, base, err := parts.NewMCP(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	g := newGate(ctx, t, "tools", `
apiVersion: usher.dev/v1alpha1
kind: IdentityProvider
metadata: {name: company}
spec: {issuer: ISSUER, allowHTTP: true, audiences: [langgraph], identity: {permissions: 'claims.?scope.orValue("").split(" ")'}}
---
apiVersion: usher.dev/v1alpha1
kind: AuthPolicy
metadata: {name: tools}
spec:
  hosts: ["127.0.0.1"]
  providers: [company]
  api: {preset: langgraph}
  backend: {url: BACKEND}
  rules:
    - {on: assistants:search}
    - {on: assistants:read, allow: 'value.?name.orValue("") in ["", "agent"]'}
    - {on: threads:create_run, allow: "'threads:write' in user.permissions"}
    - {on: threads:read}
  identityHeaders: {x-user-id: user.identity}
`, base)
	client, err := parts.NewScript(ctx, "mcp-tools", "mcp/tools.mjs", g.URL+"/mcp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Stop)
	hello := object{"messages": list(object{"role": "user", "content": "Hello"})}
	for _, c := range []struct {
		name, token, tool string
		status            int
		want              string // in the tools, the result's text, or the refusal's body
	}{
		{"nobody lists", "", "", 401, `{"detail":`},
		{"Alice lists", alice, "", 200, "agent"},
		{"Alice calls", alice, "agent", 200, `"user":"alice"`},
		{"Bob calls", bob, "agent", 200, `"user":"bob"`},
		{"Alice calls a tool that no rule allows", alice, "gated", 403, `"error":{"code":-32000,"message":"Forbidden"}`},
		{"Alice calls with a token that lacks the permission", aliceReadOnly, "agent", 403, `"jsonrpc":"2.0"`},
	} {
		var said struct {
			Tools  []string
			Result struct{ Content []struct{ Text string } }
			Error  string
			Status int
			Body   string
		}
		if err := client.Send(object{"token": c.token, "tool": c.tool, "arguments": hello}); err != nil {
			t.Fatal(err)
		}
		if err := client.Next(ctx, &said); err != nil {
			t.Fatal(err)
		}
		got, text := 200, strings.Join(said.Tools, " ")
		for _, content := range said.Result.Content {
			text += content.Text
		}
		if said.Error != "" {
			got, text = said.Status, said.Body
		}
		if got != c.status || !strings.Contains(text, c.want) {
			t.Errorf("%s: %d %.300s (%s), want %d %s", c.name, got, text, said.Error, c.status, c.want)
		}
	}
}
