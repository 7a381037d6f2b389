package policy_test

import (
	"testing"

	"github.com/usher-authz/usher/policy"
)

// checkTrace demands that a trace changes nothing, and that it ends as the decision does.
func checkTrace(t *testing.T, request string, trace *policy.Trace, d, traced policy.Decision) {
	t.Helper()
	if got, want := describe(traced), describe(d); got != want {
		t.Errorf("%s: with a trace\n%s\nwithout\n%s", request, got, want)
	}
	var denied []*policy.OperationTrace
	for _, o := range trace.Operations {
		applying := 0
		for i, c := range o.Considered {
			if c.Applies {
				applying++
				if i != 0 || c.Rule != o.Rule {
					t.Errorf("%s: rule %v applies, which is number %d", request, c.Rule, i)
				}
			}
		}
		if want := min(1, len(o.Considered)); applying != want {
			t.Errorf("%s: %d rules apply, want %d", request, applying, want)
		}
		if o.Outcome != policy.Allow && o.Outcome != policy.Undecided {
			denied = append(denied, o)
		}
	}
	switch d.Outcome {
	case policy.Allow, policy.Answer:
		if len(denied) > 0 || len(trace.Operations) == 0 {
			t.Errorf("%s: %v, and the trace has %d operations, %d of them denied", request, d.Outcome, len(trace.Operations), len(denied))
		}
	default:
		if len(denied) == 1 && (denied[0].Outcome != d.Outcome || denied[0].Reason != d.Reason || denied[0].Rule != d.Rule) {
			t.Errorf("%s: %v by %v: %s; the trace says %v by %v: %s", request, d.Outcome, d.Rule, d.Reason, denied[0].Outcome, denied[0].Rule, denied[0].Reason)
		}
		if len(denied) > 1 {
			t.Errorf("%s: %d operations are denied in the trace, of which one should have ended it", request, len(denied))
		}
	}
}

func TestAFilterAsPeopleReadIt(t *testing.T) {
	if got := (policy.Filter{}).String(); got != "anything" {
		t.Errorf("got %q", got)
	}
}
