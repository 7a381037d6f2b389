package extauthz

import (
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/usher-authz/usher/policy"
)

// record is the one decision record of a request. It holds no token, no claim of a refused token and no body: the user is
// named only once the token is verified.
type record struct {
	policy     string
	route      string
	method     string
	host       string
	path       string // as the client sent it, without the query, where credentials can be
	operations []policy.Operation
	rule       policy.RuleRef
	outcome    policy.Outcome
	status     int
	reason     string
	user       string
	unfiltered []string
	edited     bool
	requestID  string
	start      time.Time
	latency    time.Duration

	explain *Explanation // nil: nobody asks why
	trial   *trial       // of a Shadow policy; nil: this is the decision

	decider *policy.Policy
	public  bool

	// What a Shadow policy is compared with.
	identity *policy.Identity
	refused  error // why there is no identity
	needs    []policy.Ref
	found    []policy.Object // of needs
	headers  []policy.Header
	edits    []policy.Edit
	query    *string // that narrows a list
}

// fail makes the answer to an error, and notes why.
func (r *record) fail(err error) answer {
	a, reason := refusal(err)
	r.reason = reason
	return a
}

// write logs the record: info for what a client did, error for our own faults and what we could not ask.
func (r *record) write(log *zap.Logger) {
	level := zapcore.InfoLevel
	if r.outcome == policy.Undecided || r.outcome == policy.Unavailable {
		level = zapcore.ErrorLevel
	}
	message := "decision"
	if r.trial != nil {
		level, message = zapcore.InfoLevel, "shadow decision"
	}
	entry := log.Check(level, message)
	if entry == nil {
		return
	}
	entry.Write(zap.Inline(r))
}

// MarshalLogObject writes the fields; it is what zap calls back.
func (r *record) MarshalLogObject(out zapcore.ObjectEncoder) error {
	out.AddString("outcome", r.outcome.String())
	out.AddInt("status", r.status)
	out.AddString("policy", r.policy)
	if r.trial != nil {
		out.AddString("difference", string(r.trial.difference))
		out.AddString("enforced_policy", r.trial.enforced.policy)
		out.AddString("enforced_outcome", r.trial.enforced.outcome.String())
		if rule := r.trial.enforced.rule.On; rule != "" {
			out.AddString("enforced_rule", rule)
		}
	}
	out.AddString("route", r.route)
	out.AddString("host", r.host)
	out.AddString("method", r.method)
	for _, f := range []struct{ name, value string }{
		{"path", r.path}, {"rule", r.rule.On}, {"rule_at", r.rule.Position}, {"reason", r.reason}, {"user", r.user}, {"request_id", r.requestID},
	} {
		if f.value != "" {
			out.AddString(f.name, f.value)
		}
	}
	if r.edited {
		out.AddBool("edited", true)
	}
	if len(r.unfiltered) > 0 {
		if err := out.AddArray("unfiltered", texts(r.unfiltered)); err != nil {
			return err
		}
	}
	out.AddDuration("latency", r.latency)
	if len(r.operations) == 0 {
		return nil
	}
	return out.AddArray("operations", operations(r.operations))
}

// texts logs a list.
type texts []string

func (list texts) MarshalLogArray(out zapcore.ArrayEncoder) error {
	for _, text := range list {
		out.AppendString(text)
	}
	return nil
}

// operations logs each operation as resource:action, repeats once.
type operations []policy.Operation

func (ops operations) MarshalLogArray(out zapcore.ArrayEncoder) error {
	for i, op := range ops {
		if ops.shown(i) {
			out.AppendString(op.Resource + ":" + op.Action)
		}
	}
	return nil
}

// shown reports whether the i-th operation has a name, which the one before it does not have too.
func (ops operations) shown(i int) bool {
	op := &ops[i]
	return op.Resource != "" && (i == 0 || ops[i-1].Resource != op.Resource || ops[i-1].Action != op.Action)
}
