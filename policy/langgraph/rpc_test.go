package langgraph_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/usher-authz/usher/policy"
)

// What MCP and A2A messages ask for, by what they do.
func TestA_message_is_decided_by_what_it_does(t *testing.T) {
	const thread = `"contextId":"` + hers + `"`
	for _, c := range []struct {
		name, request, body string
		want                []string // operations; nil: refused
	}{
		{"initialize", "POST /mcp", `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}`, []string{"unruled"}},
		{"ping", "POST /mcp", `{"jsonrpc":"2.0","id":"a","method":"ping"}`, []string{"unruled"}},
		{"a notification", "POST /mcp", `{"jsonrpc":"2.0","method":"notifications/initialized"}`, []string{"unruled"}},
		{"an answer", "POST /mcp", `{"jsonrpc":"2.0","id":1,"result":{}}`, []string{"unruled"}},
		{"an answer with a method is a request", "POST /mcp", `{"jsonrpc":"2.0","id":1,"result":{},"method":"tools/list"}`, []string{"assistants:search", "assistants:read"}},
		{"tools/list", "POST /mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, []string{"assistants:search", "assistants:read"}},
		{"tools/call", "POST /mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"agent","arguments":{}}}`, []string{"assistants:search", "assistants:read", "threads:create_run", "threads:read"}},
		{"a notification that is tools/call", "POST /mcp", `{"jsonrpc":"2.0","method":"tools/call","params":{"name":"agent"}}`, []string{"assistants:search", "assistants:read", "threads:create_run", "threads:read"}},
		{"tools/call without a name", "POST /mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":["agent"]}}`, nil},
		{"a method in capitals", "POST /mcp", `{"jsonrpc":"2.0","id":1,"method":"TOOLS/CALL","params":{"name":"agent"}}`, nil},
		{"a method that is no text", "POST /mcp", `{"jsonrpc":"2.0","id":1,"method":["tools/list"]}`, nil},
		{"no method", "POST /mcp", `{"jsonrpc":"2.0","id":1}`, nil},
		{"an unknown notification", "POST /mcp", `{"jsonrpc":"2.0","method":"notifications/x"}`, nil},
		{"resources/list", "POST /mcp", `{"jsonrpc":"2.0","id":1,"method":"resources/list"}`, nil},
		{"a batch", "POST /mcp", `[{"jsonrpc":"2.0","id":1,"method":"ping"}]`, nil},
		{"an empty batch", "POST /mcp", `[]`, nil},
		{"a method twice", "POST /mcp", `{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}`, nil},
		{"no body", "POST /mcp", ``, nil},
		{"params that are a list", "POST /mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":[]}`, nil},
		{"a user in the context", "POST /mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"agent","context":{"langgraph_auth_user":{}}}}`, nil},

		{"a first message", "POST /a2a/" + hers, `{"jsonrpc":"2.0","id":1,"method":"message/send","params":{"message":{"role":"user"}}}`, []string{"assistants:read", "threads:search", "threads:create_run", "threads:read"}},
		{"the same by its new name", "POST /a2a/" + hers, `{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{"message":{"role":"user"}}}`, []string{"assistants:read", "threads:search", "threads:create_run", "threads:read"}},
		{"a second message", "POST /a2a/" + hers, `{"jsonrpc":"2.0","id":1,"method":"message/stream","params":{"message":{` + thread + `}}}`, []string{"assistants:read", "threads:create_run", "threads:read", "threads:search"}},
		{"a task", "POST /a2a/" + hers, `{"jsonrpc":"2.0","id":1,"method":"GetTask","params":{"id":"` + hers + ":" + run + `"}}`, []string{"threads:read", "threads:search", "assistants:read"}},
		{"a task that is cancelled", "POST /a2a/" + hers, `{"jsonrpc":"2.0","id":1,"method":"tasks/cancel","params":{"id":"` + run + `",` + thread + `}}`, []string{"threads:read", "threads:search", "assistants:read", "threads:create_run", "threads:update", "threads:delete"}},
		{"all tasks", "POST /a2a/" + hers, `{"jsonrpc":"2.0","id":1,"method":"ListTasks","params":{}}`, []string{"assistants:read", "threads:search", "threads:read"}},
		{"all tasks of a thread", "POST /a2a/" + hers, `{"jsonrpc":"2.0","id":1,"method":"ListTasks","params":{` + thread + `}}`, []string{"assistants:read", "threads:read", "threads:search"}},
		{"the longer card", "POST /a2a/" + hers + "/", `{"jsonrpc":"2.0","id":1,"method":"GetExtendedAgentCard"}`, []string{"assistants:read"}},
		{"the card", "GET /a2a/" + hers, ``, []string{"assistants:read"}},
		{"a task without a thread", "POST /a2a/" + hers, `{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"id":"` + run + `"}}`, nil},
		{"a task of another thread", "POST /a2a/" + hers, `{"jsonrpc":"2.0","id":1,"method":"tasks/cancel","params":{"id":"` + his + ":" + run + `",` + thread + `}}`, nil},
		{"push notifications", "POST /a2a/" + hers, `{"jsonrpc":"2.0","id":1,"method":"tasks/pushNotificationConfig/set","params":{}}`, nil},
		{"an answer", "POST /a2a/" + hers, `{"jsonrpc":"2.0","id":1,"result":{}}`, nil},
	} {
		ops, err := mapped(t, "{preset: langgraph}", c.request, c.body)
		var got []string
		for _, op := range ops {
			if op.Unruled {
				got = append(got, "unruled")
			} else {
				got = append(got, op.Resource+":"+op.Action)
			}
		}
		if (err == nil) != (c.want != nil) || !slices.Equal(got, c.want) {
			t.Errorf("%s: %q (%v), want %q", c.name, got, err, c.want)
		}
	}
}

// With the tutorial's policy a run on a thread that is there needs no stamp, and one on a new thread has no place for it.
func TestA_message_that_would_need_an_edit_is_refused(t *testing.T) {
	p := rules(t, "    - {on: \"*\", filter: {owner: user.identity}, stamp: {owner: user.identity}}\n")
	for body, want := range map[string]policy.Outcome{
		`{"jsonrpc":"2.0","id":1,"method":"message/send","params":{"message":{"contextId":"` + hers + `"}}}`:   policy.Allow,
		`{"jsonrpc":"2.0","id":1,"method":"message/send","params":{"message":{"contextId":"` + his + `"}}}`:    policy.NotFound,
		`{"jsonrpc":"2.0","id":1,"method":"message/send","params":{"message":{"contextId":"` + absent + `"}}}`: policy.NotFound,
		`{"jsonrpc":"2.0","id":1,"method":"message/send","params":{"message":{}}}`:                             policy.Forbidden,
		`{"jsonrpc":"2.0","id":1,"method":"ListTasks"}`:                                                        policy.Forbidden,
		`{"jsonrpc":"2.0","id":1,"method":"CancelTask","params":{"id":"` + his + ":" + run + `"}}`:             policy.NotFound,
	} {
		if r := ask(t, p, user("alice"), twoOwners(), "POST /a2a/"+hers, []byte(body)); r.decision.Outcome != want {
			t.Errorf("%s: %v, want %v (%s)", body, r.decision.Outcome, want, r.decision.Reason)
		}
	}
	for body, want := range map[string]policy.Outcome{
		`{"jsonrpc":"2.0","id":1,"method":"initialize"}`:                                 policy.Allow,
		`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`:                                 policy.Forbidden,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"agent"}}`:       policy.Forbidden,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + his + `"}}`: policy.Forbidden,
	} {
		if r := ask(t, p, user("alice"), twoOwners(), "POST /mcp", []byte(body)); r.decision.Outcome != want {
			t.Errorf("%s: %v, want %v (%s)", body, r.decision.Outcome, want, r.decision.Reason)
		}
	}
}

// Clients of MCP and A2A read refusals as JSON-RPC errors, with the id of what they asked.
func TestA_refusal_of_a_message_is_a_JSON_RPC_error(t *testing.T) {
	p := rules(t, "    - {on: \"*\"}\n")
	for _, c := range []struct {
		path, body string
		outcome    policy.Outcome
		detail     string
		want       string
	}{
		{"/mcp", `{"jsonrpc":"2.0","id":7,"method":"tools/list"}`, policy.Forbidden, "Forbidden", `{"jsonrpc":"2.0","id":7,"error":{"code":-32000,"message":"Forbidden"}}`},
		{"/mcp", `{"jsonrpc":"2.0","id":"a\"b","method":"x"}`, policy.Forbidden, "Unknown method.", `{"jsonrpc":"2.0","id":"a\"b","error":{"code":-32601,"message":"Unknown method."}}`},
		{"/mcp", `{"jsonrpc":"2.0","id":1,`, policy.BadRequest, "x", `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"x"}}`},
		{"/mcp", `{"id":1,"id":2}`, policy.BadRequest, "x", `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"x"}}`},
		{"/mcp", `[{"id":1}]`, policy.BadRequest, "x", `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"x"}}`},
		{"/mcp", `{"id":{"a":1},"method":"x"}`, policy.NotFound, "x", `{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"x"}}`},
		{"/a2a/" + hers, `{"id":18446744073709551615,"method":"x"}`, policy.NotFound, "Thread not found", `{"jsonrpc":"2.0","id":18446744073709551615,"error":{"code":-32000,"message":"Thread not found"}}`},
		{"/mcp", ``, policy.BadRequest, "x", ``},
		{"/threads", `{"id":1}`, policy.Forbidden, "x", ``},
	} {
		route, err := p.Route("POST", c.path)
		if err != nil {
			t.Fatal(err)
		}
		got := route.Refusal([]byte(c.body), c.outcome, c.detail)
		if got != c.want {
			t.Errorf("%s %s: %s, want %s", c.path, c.body, got, c.want)
		}
		if got != "" && !json.Valid([]byte(got)) {
			t.Errorf("%s is no JSON", got)
		}
	}
}
