package extauthz

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/policy"
)

// TestA_change_under_load_refuses_nobody_and_mixes_nothing swaps two versions of a policy while checks run. Each version says
// its name in a header from a variable, in one from a condition, and as the place of its rule.
func TestA_change_under_load_refuses_nobody_and_mixes_nothing(t *testing.T) {
	m := newMinter(t, "ES256")
	mapping, err := policy.NewMapping(policy.MappingSource{})
	if err != nil {
		t.Fatal(err)
	}
	providers := map[string]token.Config{
		"p": {Name: "p", Issuer: testIssuer, Audiences: []string{"langgraph"}, JWKS: m.jwks(t), Identity: mapping, Fingerprint: "same"},
	}
	text := func(s string) policy.Text { return policy.Text{Text: s} }
	var prev *State
	version := func(name string) *State {
		allow := text(fmt.Sprintf("conditions.is%s && variables.version == '%s'", name, name))
		next, err := policySnapshot(prev).Next(policy.Set{Policies: []policy.Source{{
			Name: "api", Hosts: []policy.Text{text("api.test")}, Providers: []string{"p"},
			API:        policy.APISource{Routes: []policy.RouteSource{{Method: text("GET"), Path: text("/v1/items/{id}"), On: text("items:read")}}},
			Variables:  []policy.Member{{Name: text("version"), Value: policy.Tree{Scalar: name}}},
			Conditions: []policy.Condition{{Name: text("is" + name), Value: text("variables.version == '" + name + "'")}},
			Rules:      []policy.RuleSource{{On: text("items:read"), Pos: policy.Position{File: name}, Allow: &allow}},
			IdentityHeaders: []policy.HeaderSource{
				{Name: text("x-one"), Value: text("variables.version")}, {Name: text("x-two"), Value: text("conditions.is" + name + " ? '" + name + "' : 'none'")},
			},
		}}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		state, err := Build(prev, next, providers, nil)
		if err != nil {
			t.Fatal(err)
		}
		return state
	}
	core, logs := observer.New(zapcore.InfoLevel)
	s := New(Options{Logger: zap.New(core)})
	prev = version("A")
	s.Swap(prev)
	verifier := prev.Verifiers["p"]

	const clients, each = 4, 300
	tokens := []string{m.mint(t, nil), m.mint(t, nil)}
	headers := make([]map[string]string, clients) // by request id: what the backend is told
	stop := make(chan struct{})
	var clientsDone, swapping sync.WaitGroup
	swapping.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			next := version([]string{"B", "A"}[i%2])
			s.Swap(next)
			if next.Verifiers["p"] != verifier {
				t.Error("a policy change took the provider's keys and cache")
				return
			}
			prev = next
		}
	})
	for client := range clients {
		headers[client] = map[string]string{}
		clientsDone.Go(func() {
			for i := range each {
				c, id := check(tokens[i%2]), fmt.Sprintf("%d-%d", client, i)
				for _, h := range c.GetAttributes().GetRequest().GetHttp().GetHeaderMap().GetHeaders() {
					if h.GetKey() == "x-request-id" {
						h.RawValue = []byte(id)
					}
				}
				r, err := s.Check(context.Background(), c)
				if err != nil || statusOf(r) != 200 {
					t.Errorf("status %d, %v: a good request was refused", statusOf(r), err)
					return
				}
				list := r.GetOkResponse().GetHeaders()
				headers[client][id] = headerOf(list, "x-one") + headerOf(list, "x-two")
			}
		})
	}
	clientsDone.Wait()
	close(stop)
	swapping.Wait()

	seen := map[string]int{}
	for _, e := range logs.FilterMessage("decision").All() {
		record := e.ContextMap()
		id := fmt.Sprint(record["request_id"])
		var client int
		if _, err := fmt.Sscanf(id, "%d-", &client); err != nil {
			t.Fatal(err)
		}
		rule := fmt.Sprint(record["rule_at"])
		seen[rule]++
		if got := headers[client][id]; got != strings.Repeat(rule, 2) {
			t.Errorf("request %s was decided by version %s, and the backend is told %q", id, rule, got)
		}
	}
	if seen["A"]+seen["B"] != clients*each {
		t.Errorf("decisions by version: %v, want %d in all", seen, clients*each)
	}
}

func policySnapshot(s *State) *policy.Snapshot {
	if s == nil {
		return nil
	}
	return s.Policies
}
