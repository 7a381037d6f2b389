package extauthz

import (
	"fmt"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/policy"
)

// rulesState guards api.test with a preset of one route, which has a filter.
func rulesState(t testing.TB, m *minter, rule policy.RuleSource) *State {
	t.Helper()
	text := func(s string) policy.Text { return policy.Text{Text: s} }
	preset := policy.Preset{
		Events: map[string]map[string]policy.Event{"items": {"read": {Filters: true}}},
		Routes: []policy.PresetRoute{{Method: "GET", Path: "/v1/items/{id}", Map: func(policy.Input) ([]policy.Operation, error) {
			return []policy.Operation{{Resource: "items", Action: "read", Object: policy.Ref{Resource: "items", ID: "1", Path: "/v1/items/1"}}}, nil
		}}},
	}
	rule.On = text("items:read")
	snapshot, err := policy.New(policy.Set{Policies: []policy.Source{{
		Name: "api", Hosts: []policy.Text{text("api.test")}, Providers: []string{"p"}, API: policy.APISource{Preset: text("items")}, Rules: []policy.RuleSource{rule},
	}}}, map[string]policy.Preset{"items": preset})
	if err != nil {
		t.Fatal(err)
	}
	mapping, err := policy.NewMapping(policy.MappingSource{})
	if err != nil {
		t.Fatal(err)
	}
	state, err := Build(nil, snapshot, map[string]token.Config{
		"p": {Name: "p", Issuer: testIssuer, Audiences: []string{"langgraph"}, JWKS: m.jwks(t), Identity: mapping},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

func TestAn_override_is_in_the_decision_record(t *testing.T) {
	core, logs := observer.New(zapcore.DebugLevel)
	s, m := New(Options{Logger: zap.New(core)}), newMinter(t, "ES256")
	unfiltered := policy.Text{Text: "user.claims.admin == true"}
	filter := policy.Tree{IsObject: true, Members: []policy.Member{{Name: policy.Text{Text: "owner"}, Value: policy.Tree{Scalar: "user.identity"}}}}
	s.Swap(rulesState(t, m, policy.RuleSource{Filter: &filter, Unfiltered: &unfiltered}))
	if got := statusOf(do(t, s, check(m.mint(t, map[string]any{"admin": true})))); got != 200 {
		t.Fatalf("status %d", got)
	}
	record := logs.FilterMessage("decision").All()[0].ContextMap()
	if got := fmt.Sprint(record["unfiltered"]); got != "[items:read]" {
		t.Errorf("the record's unfiltered is %s", got)
	}
	do(t, s, check(m.mint(t, map[string]any{"admin": "true"}))) // the filter asks for a backend that there is not
	if record := logs.FilterMessage("decision").All()[1].ContextMap(); record["unfiltered"] != nil || record["outcome"] == "allow" {
		t.Errorf("record %v", record)
	}
}

func TestA_denied_client_reads_the_message_and_no_more(t *testing.T) {
	core, logs := observer.New(zapcore.DebugLevel)
	s, m := New(Options{Logger: zap.New(core)}), newMinter(t, "ES256")
	allow := policy.Text{Text: "user.claims.secret.level > 3"}
	s.Swap(rulesState(t, m, policy.RuleSource{Allow: &allow, Message: policy.Text{Text: `Ask "ops" for level 4.`}}))
	for name, claims := range map[string]map[string]any{
		"missing": {}, "another_type": {"secret": map[string]any{"level": "hunter2"}}, "too_low": {"secret": map[string]any{"level": 3}}, "no_object": {"secret": 7},
	} {
		t.Run(name, func(t *testing.T) {
			logs.TakeAll()
			r := do(t, s, check(m.mint(t, claims)))
			if body := r.GetDeniedResponse().GetBody(); statusOf(r) != 403 || body != `{"detail":"Ask \"ops\" for level 4."}` {
				t.Errorf("status %d, body %s", statusOf(r), body)
			}
			for _, h := range r.GetDeniedResponse().GetHeaders() {
				if strings.Contains(h.GetHeader().GetValue(), "ops") {
					t.Errorf("header %v", h)
				}
			}
			record := logs.FilterMessage("decision").All()[0].ContextMap()
			if reason := fmt.Sprint(record["reason"]); !strings.Contains(reason, "items:read: allow") || strings.Contains(reason, "hunter2") {
				t.Errorf("reason %s", reason)
			}
		})
	}
}
