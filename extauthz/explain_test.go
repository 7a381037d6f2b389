package extauthz

import (
	"context"
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"

	"github.com/usher-authz/usher/policy"
)

func TestAn_explanation_ends_where_the_request_does_and_changes_no_answer(t *testing.T) {
	s, m, logs := newServer(t)
	good := m.mint(t, nil)
	for _, c := range []struct {
		name    string
		check   *authv3.CheckRequest
		stage   Stage
		outcome policy.Outcome
	}{
		{"allowed", check(good), StagePass, policy.Allow},
		{"no token", ask("GET", "/v1/items/42", true), StageToken, policy.Unauthenticated},
		{"bad token", check("a.b.c"), StageToken, policy.Unauthenticated},
		{"no request", &authv3.CheckRequest{}, StageDecode, policy.BadRequest},
	} {
		t.Run(c.name, func(t *testing.T) {
			logs.TakeAll()
			explained, why := s.Explain(context.Background(), c.check)
			if len(logs.TakeAll()) > 0 {
				t.Error("an explanation was logged as a decision")
			}
			if real := do(t, s, c.check); !proto.Equal(real, explained) {
				t.Errorf("explained as\n%v\nchecked as\n%v", explained, real)
			}
			if why.Stage != c.stage || why.Outcome != c.outcome {
				t.Errorf("got %s at %s, want %s at %s", why.Outcome, why.Stage, c.outcome, c.stage)
			}
			if why.Identity != nil && why.Identity.Name != "alice" {
				t.Errorf("identity is %q", why.Identity.Name)
			}
		})
	}
	if outcomes, _ := s.Counts(); outcomes[policy.Allow] != 1 {
		t.Errorf("counted %v, want one allow: an explanation is no check", outcomes)
	}
}

func TestA_panic_is_explained_as_503(t *testing.T) {
	s, m, _ := newServer(t)
	state := testState(t, m)
	for _, p := range state.Policies.Policies() {
		state.guards[p] = &guard{Verifier: panicking{}}
	}
	s.Swap(state)
	r, why := s.Explain(context.Background(), check("x"))
	if statusOf(r) != 503 || !why.Panic || why.Outcome != policy.Undecided {
		t.Errorf("got %v, %+v", r, why)
	}
	if !strings.Contains(why.Reason, "panic") {
		t.Errorf("reason is %q", why.Reason)
	}
}

// TestNobody_asking_why_costs_nothing: the calls on the way of every check neither allocate nor do anything for a nil
// Explanation.
func TestNobody_asking_why_costs_nothing(t *testing.T) {
	var none *Explanation
	route, d, r, id := policy.Route{}, policy.Decision{}, request{}, &policy.Identity{Name: "alice"}
	if n := testing.AllocsPerRun(100, func() {
		none.at(StagePass)
		none.decoded(&r)
		none.routed(&route)
		none.identified(id)
		none.asked(nil)
		none.lookUp(nil)
		none.found(nil)
		none.decided(&d)
		if none.trace() != nil {
			t.Error("nobody asked")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
