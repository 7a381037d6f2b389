package langgraph_test

import (
	"encoding/json"
	"testing"

	"github.com/usher-authz/usher/policy"
)

// The list, and what is within it.
func TestA_webhook_is_allowed_only_where_the_list_covers_it(t *testing.T) {
	const list = `{preset: langgraph, langgraph: {webhooks: {allow: ["https://hooks.example.com/agents", "https://all.example.com", "http://10.0.0.7:8080/in/"]}}}`
	p := withAPI(t, list, "    - {on: \"*\"}\n")
	for webhook, want := range map[string]bool{
		"https://hooks.example.com/agents":              true,
		"https://hooks.example.com/agents/":             true,
		"https://hooks.example.com/agents/done":         true,
		"https://hooks.example.com/agents?run=1":        true,
		"https://hooks.example.com:443/agents":          true,
		"https://hooks.example.com/agents/a%20b":        true,
		"https://all.example.com":                       true,
		"https://all.example.com/any/thing?q=/../x":     true,
		"http://10.0.0.7:8080/in":                       true,
		"http://10.0.0.7:8080/in/x":                     true,
		"http://hooks.example.com/agents":               false, // the scheme
		"https://hooks.example.com:8443/agents":         false,
		"https://hooks.example.com:0443/agents":         false,
		"https://hooks.example.com:/agents":             false,
		"https://hooks.example.com/":                    false,
		"https://hooks.example.com/agentsx":             false, // not a segment
		"https://hooks.example.com/agents/../admin":     false,
		"https://hooks.example.com/agents/%2e%2e/admin": false,
		"https://hooks.example.com/agents/%2E./admin":   false,
		"https://hooks.example.com/agents/..%2fadmin":   false,
		"https://hooks.example.com/agents/..%5cadmin":   false,
		"https://hooks.example.com/agents\\..\\admin":   false,
		"https://hooks.example.com/agents//x":           false,
		"https://hooks.example.com/agents/%00":          false,
		"https://hooks.example.com/agents/%252e%252e/x": false,
		"https://hooks.example.com/agents/%zz":          false,
		"https://hooks.example.com/agents/;x":           false,
		"https://hooks.example.com/agents#x":            false,
		"https://HOOKS.example.com/agents":              false, // one spelling
		"HTTPS://hooks.example.com/agents":              false,
		"https://hooks.example.com./agents":             false,
		"https://hooks.example.com.evil.test/agents":    false,
		"https://user@hooks.example.com/agents":         false,
		"https://hooks.example.com@evil.test/agents":    false,
		"https://hooks.example.com:x@evil.test/agents":  false,
		"https://evil.test\\@hooks.example.com/agents":  false,
		"https://evil.test?@hooks.example.com/agents":   false,
		"https://evil.test#@hooks.example.com/agents":   false,
		" https://hooks.example.com/agents":             false,
		"https://hooks.example.com/agents\n":            false,
		"https://hooks.example.com/ag\tents":            false,
		"https:hooks.example.com/agents":                false,
		"https:/hooks.example.com/agents":               false,
		"https:///hooks.example.com/agents":             false,
		"//hooks.example.com/agents":                    false,
		"/threads/" + hers + "/runs":                    false,
		"":                                              false,
		"http://10.0.0.7/in":                            false, // the port
		"http://167772167:8080/in":                      false, // the same address
		"http://0xa.0.0.7:8080/in":                      false,
		"http://127.0.0.1:8123/threads":                 false,
		"http://localhost:8123/threads":                 false,
		"http://[::1]:8123/threads":                     false,
		"https://ｈooks.example.com/agents":              false,
		"file:///etc/passwd":                            false,
		"https://hooks.example.com\u2044agents":         false,
	} {
		quoted, err := json.Marshal(webhook)
		if err != nil {
			t.Fatal(err)
		}
		for request, body := range map[string]string{
			"POST /runs":                           `{"assistant_id":"agent","webhook":` + string(quoted) + `}`,
			"POST /threads/" + hers + "/runs/wait": `{"assistant_id":"agent","webhook":` + string(quoted) + `}`,
			"POST /runs/batch":                     `[{"assistant_id":"agent"},{"assistant_id":"agent","webhook":` + string(quoted) + `}]`,
			"POST /runs/crons":                     `{"assistant_id":"agent","schedule":"* * * * *","webhook":` + string(quoted) + `}`,
			"PATCH /runs/crons/" + hers:            `{"webhook":` + string(quoted) + `}`,
		} {
			r := ask(t, p, user("alice"), twoOwners(), request, []byte(body))
			if got := r.decision.Outcome == policy.Allow; got != want {
				t.Errorf("%s %q: %v %s, want allowed %v", request, webhook, r.decision.Outcome, r.decision.Detail, want)
			}
		}
	}
	for _, other := range []string{`5`, `["https://all.example.com"]`, `{"url":"https://all.example.com"}`, `true`} {
		r := ask(t, p, user("alice"), twoOwners(), "POST /runs", []byte(`{"assistant_id":"agent","webhook":`+other+`}`))
		if r.decision.Outcome != policy.Forbidden {
			t.Errorf("webhook %s: %v", other, r.decision.Outcome)
		}
	}
}

// The rules see the webhook, as a handler of LangGraph does.
func TestA_rule_can_look_at_the_webhook(t *testing.T) {
	const list = `{preset: langgraph, langgraph: {webhooks: {allow: ["https://hooks.example.com"]}}}`
	p := withAPI(t, list, "    - {on: \"*\"}\n    - {on: \"threads:create_run\", allow: 'value.kwargs.webhook == null || value.kwargs.webhook.endsWith(\"/\" + user.identity)'}\n")
	for webhook, want := range map[string]policy.Outcome{"https://hooks.example.com/alice": policy.Allow, "https://hooks.example.com/bob": policy.Forbidden} {
		r := ask(t, p, user("alice"), twoOwners(), "POST /runs", []byte(`{"assistant_id":"agent","webhook":"`+webhook+`"}`))
		if r.decision.Outcome != want {
			t.Errorf("%s: %v, want %v", webhook, r.decision.Outcome, want)
		}
	}
}

func TestWithout_a_list_there_is_no_webhook(t *testing.T) {
	for _, api := range []string{"{preset: langgraph}", "{preset: langgraph, langgraph: {webhooks: {allow: []}}}", "{preset: langgraph, langgraph: {http: {disable_webhooks: true}}}"} {
		_, err := mapped(t, api, "POST /runs", `{"assistant_id":"agent","webhook":"https://hooks.example.com"}`)
		if err == nil {
			t.Errorf("%s: a webhook passes", api)
		}
	}
}
