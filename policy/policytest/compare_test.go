package policytest_test

import (
	"testing"

	"github.com/usher-authz/usher/policy"
	"github.com/usher-authz/usher/policy/policytest"
)

// TestOnlyTheAnswerThatIsExpectedPasses: what would pass for another reason than the one that is meant fails.
func TestOnlyTheAnswerThatIsExpectedPasses(t *testing.T) {
	asked := []*policy.OperationTrace{{Resource: "orders", Action: "read"}}
	routed := func(o policy.Outcome, status int) policytest.Answer {
		return policytest.Answer{Outcome: o, Status: status, Policy: "p", Route: "GET /", Operations: asked, Asked: []string{"orders:read"}, Rule: policy.RuleRef{On: "orders"}}
	}
	allowed := routed(policy.Allow, 200)
	allowed.Backend = policytest.Request{Path: "/a?owner=alice&x=1&x=2", Headers: map[string]string{"x-user-id": "alice"}, Body: []byte(`{"n":1,"b":true,"l":[1.0]}`)}
	allowed.Removed = []string{"Authorization"}
	faulty := allowed
	faulty.Fault = "an edit without its parking"
	unbodied := allowed
	unbodied.Backend.Body = nil
	noRoute := policytest.Answer{Outcome: policy.NotFound, Status: 404, Policy: "p"}
	noPolicy := policytest.Answer{Outcome: policy.NotFound, Status: 404}
	message := func(s string) *string { return &s }
	body := func(v policy.Value) *policy.Value { return &v }
	somebody, nobody := policytest.Identity{Name: "alice"}, policytest.Identity{Name: "nobody", Anonymous: true}
	expect := func(outcome string) policytest.Expectation { return policytest.Expectation{Outcome: outcome} }
	for _, c := range []struct {
		name     string
		identity policytest.Identity
		expect   policytest.Expectation
		answer   policytest.Answer
		passes   bool
	}{
		{"an allow", somebody, expect("allow"), allowed, true},
		{"the zero expectation", somebody, policytest.Expectation{}, allowed, false},
		{"the zero expectation of the zero answer", somebody, policytest.Expectation{}, policytest.Answer{}, false},
		{"the zero answer is no allow", somebody, expect("allow"), policytest.Answer{}, false},
		{"nor a denial", somebody, expect("deny"), policytest.Answer{}, false},
		{"an allow that Envoy cannot carry out", somebody, expect("allow"), faulty, false},
		{"an allow is no denial", somebody, expect("deny"), allowed, false},
		{"403", somebody, expect("deny"), routed(policy.Forbidden, 403), true},
		{"404 of an object", somebody, expect("deny"), routed(policy.NotFound, 404), true},
		{"404 of an object by its name", somebody, expect("not_found"), routed(policy.NotFound, 404), true},
		{"404 of a route", somebody, expect("deny"), noRoute, false},
		{"404 of a route is no missing object", somebody, expect("not_found"), noRoute, false},
		{"404 of a route by its name", somebody, expect("no_route"), noRoute, true},
		{"404 of a host", somebody, expect("no_route"), noPolicy, false},
		{"404 of a host by its name", somebody, expect("no_policy"), noPolicy, true},
		{"409", somebody, expect("deny"), routed(policy.Conflict, 409), true},
		{"insufficient scope", somebody, expect("deny"), routed(policy.InsufficientScope, 403), true},
		{"another login", somebody, expect("deny"), routed(policy.StepUp, 401), true},
		{"401 of nobody", nobody, expect("deny"), policytest.Answer{Outcome: policy.Unauthenticated, Status: 401, Policy: "p", Route: "GET /"}, true},
		{"401 of a token that is refused", somebody, expect("deny"), policytest.Answer{Outcome: policy.Unauthenticated, Status: 401, Policy: "p", Route: "GET /"}, false},
		{"400", somebody, expect("deny"), routed(policy.BadRequest, 400), false},
		{"413", somebody, expect("deny"), routed(policy.TooLarge, 413), false},
		{"503", somebody, expect("deny"), routed(policy.Unavailable, 503), false},
		{"our own fault", somebody, expect("deny"), routed(policy.Undecided, 503), false},
		{"an empty search is no denial", somebody, expect("deny"), routed(policy.Answer, 200), false},
		{"an empty search is no allow", somebody, expect("allow"), routed(policy.Answer, 200), false},
		{"an empty search", somebody, expect("empty"), routed(policy.Answer, 200), true},
		{"another status", somebody, policytest.Expectation{Outcome: "deny", Status: 404}, routed(policy.Forbidden, 403), false},
		{"another rule", somebody, policytest.Expectation{Outcome: "deny", Rule: "*"}, routed(policy.Forbidden, 403), false},
		{"another message", somebody, policytest.Expectation{Outcome: "deny", Message: message("no")}, routed(policy.Forbidden, 403), false},
		{"no message", somebody, policytest.Expectation{Outcome: "deny", Message: message("")}, routed(policy.Forbidden, 403), true},
		{"fewer operations", somebody, policytest.Expectation{Outcome: "deny", Operations: []string{"orders:read", "orders:write"}}, routed(policy.Forbidden, 403), false},
		{"a header", somebody, policytest.Expectation{Outcome: "allow", Headers: map[string]string{"X-User-Id": "alice"}}, allowed, true},
		{"another value", somebody, policytest.Expectation{Outcome: "allow", Headers: map[string]string{"X-User-Id": "bob"}}, allowed, false},
		{"an empty value is no missing header", somebody, policytest.Expectation{Outcome: "allow", Headers: map[string]string{"x": ""}}, allowed, false},
		{"removed", somebody, policytest.Expectation{Outcome: "allow", Removed: []string{"authorization"}}, allowed, true},
		{"never there is not removed", somebody, policytest.Expectation{Outcome: "allow", Removed: []string{"x-other"}}, allowed, false},
		{"a body, numbers by value", somebody, policytest.Expectation{Outcome: "allow", Body: body(map[string]any{"n": 1.0, "b": true, "l": []any{int64(1)}})}, allowed, true},
		{"true is not 1", somebody, policytest.Expectation{Outcome: "allow", Body: body(map[string]any{"n": true, "b": true, "l": []any{int64(1)}})}, allowed, false},
		{"a part of a body", somebody, policytest.Expectation{Outcome: "allow", Body: body(map[string]any{"n": int64(1)})}, allowed, false},
		{"no body", somebody, policytest.Expectation{Outcome: "allow", Body: body(map[string]any{})}, unbodied, false},
		{"a parameter", somebody, policytest.Expectation{Outcome: "allow", Query: map[string]string{"owner": "alice", "none": ""}}, allowed, true},
		{"a parameter twice", somebody, policytest.Expectation{Outcome: "allow", Query: map[string]string{"x": "1"}}, allowed, false},
		{"a parameter that must not be there", somebody, policytest.Expectation{Outcome: "allow", Query: map[string]string{"owner": ""}}, allowed, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			one := policytest.Case{Identity: c.identity, Expect: c.expect}
			if got := policytest.Compare(&one, &c.answer); (len(got) == 0) != c.passes {
				t.Errorf("passes: %v, want %v: %v", len(got) == 0, c.passes, got)
			}
		})
	}
}
