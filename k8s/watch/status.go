package watch

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/k8s/api/v1alpha1"
	"github.com/usher-authz/usher/policy"
)

// maxMessage bounds a condition's message, in bytes; the API allows 32,768.
const maxMessage = 8 << 10

// verdict is what became of one object of the cluster.
type verdict struct {
	source                       *unstructured.Unstructured
	problems                     policy.Problems
	conflicted, lastGood, shadow bool
	notGranted                   bool
	idle                         bool // a Shadow policy that sees no request
}

// good reports whether the object is in force as it stands.
func (v *verdict) good() bool { return len(v.problems) == 0 && !v.lastGood }

// conditions says what became of the object. health is how the providers in force are; nil: nothing is said of it.
func (v *verdict) conditions(refused policy.Problems, health map[string]token.Status) []metav1.Condition {
	accepted := metav1.Condition{Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionTrue, Reason: reasonAccepted, Message: "Valid."}
	good := v.good()
	if !good {
		accepted.Status, accepted.Reason, accepted.Message = metav1.ConditionFalse, reasonInvalid, text(v.problems)
		if v.conflicted {
			accepted.Reason = reasonConflicted
		}
		if v.notGranted {
			accepted.Reason = reasonNotGranted
		}
	}
	out := []metav1.Condition{accepted}
	if v.source.GetKind() == v1alpha1.KindAuthPolicy {
		programmed := metav1.Condition{Type: v1alpha1.ConditionProgrammed, Status: metav1.ConditionTrue, Reason: reasonProgrammed, Message: "In force."}
		switch {
		case v.lastGood:
			programmed.Status, programmed.Reason, programmed.Message = metav1.ConditionFalse, reasonLastGood, "The last good version is in force."
		case !good && v.shadow:
			programmed.Status, programmed.Reason, programmed.Message = metav1.ConditionFalse, reasonNotInForce, "No version was ever good: nothing is decided beside what is in force."
		case !good && v.notGranted:
			programmed.Status, programmed.Reason, programmed.Message = metav1.ConditionFalse, reasonClosed, "No version was ever good: requests to those of its hosts that its namespace was granted, and no other policy guards, are answered 503."
		case !good:
			programmed.Status, programmed.Reason, programmed.Message = metav1.ConditionFalse, reasonClosed, "No version was ever good: requests to those of its hosts that no other policy guards are answered 503."
		case len(refused) > 0:
			programmed.Status, programmed.Reason, programmed.Message = metav1.ConditionFalse, reasonRefused, text(refused)
		case v.idle:
			programmed.Message = "In force, but it watches nothing: no Enforce policy of this namespace guards one of its hosts."
		}
		return append(out, programmed)
	}
	if health == nil {
		return out
	}
	is, known := health[v.source.GetNamespace()+"/"+v.source.GetName()]
	healthy := metav1.Condition{Type: v1alpha1.ConditionHealthy, Status: metav1.ConditionTrue, Reason: reasonHealthy, Message: "Tokens can be verified."}
	switch {
	case !known:
		healthy.Status, healthy.Reason, healthy.Message = metav1.ConditionUnknown, reasonNotInForce, "It is not in force."
	case !is.Ready:
		healthy.Status, healthy.Reason, healthy.Message = metav1.ConditionFalse, reasonUnhealthy, cut("Tokens cannot be verified: "+is.Problem, maxMessage)
	case is.Problem != "":
		healthy.Message = cut("Tokens can be verified, but: "+is.Problem, maxMessage)
	}
	return append(out, healthy)
}

// text writes problems as usher validate does, without what the object itself is called.
func text(ps policy.Problems) string {
	var b strings.Builder
	for i, p := range ps {
		if i > 0 {
			b.WriteByte('\n')
		}
		if b.Len() > maxMessage {
			fmt.Fprintf(&b, "and %d more", len(ps)-i)
			break
		}
		at := policy.Position{Path: p.Pos.Path}
		if _, document, inside := strings.Cut(p.Pos.File, "["); inside { // whose lines its author knows
			at.File, at.Line, at.Column, at.Stored = strings.TrimSuffix(document, "]")+" document", p.Pos.Line, p.Pos.Column, p.Pos.Stored
		}
		p.Pos = at
		line := p.Error()
		if p.Hint != "" {
			line += " (" + p.Hint + ")"
		}
		b.WriteString(line)
	}
	if b.Len() == 0 {
		return "Not valid."
	}
	return cut(b.String(), maxMessage)
}

func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most-3], "") + "..."
}
