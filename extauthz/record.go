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
	path       string // without query
	host       string
	operations []policy.Operation
	rule       policy.RuleRef
	outcome    policy.Outcome
	status     int
	reason     string
	user       string
	edited     bool
	requestID  string
	latency    time.Duration
}

// write logs the record: info for what a client did, error for our own faults and what we could not ask.
func (r *record) write(log *zap.Logger) {
	level := zapcore.InfoLevel
	if r.outcome == policy.Undecided || r.outcome == policy.Unavailable {
		level = zapcore.ErrorLevel
	}
	entry := log.Check(level, "decision")
	if entry == nil {
		return
	}
	fields := make([]zap.Field, 0, 16)
	fields = append(fields,
		zap.Stringer("outcome", r.outcome),
		zap.Int("status", r.status),
		zap.String("policy", r.policy),
		zap.String("route", r.route),
		zap.String("host", r.host),
		zap.String("method", r.method),
	)
	if len(r.operations) > 0 {
		fields = append(fields, zap.Array("operations", operations(r.operations)))
	}
	if r.rule.On != "" {
		fields = append(fields, zap.String("rule", r.rule.On), zap.String("rule_at", r.rule.Position))
	}
	if r.reason != "" {
		fields = append(fields, zap.String("reason", r.reason))
	}
	if r.user != "" {
		fields = append(fields, zap.String("user", r.user))
	}
	if r.edited {
		fields = append(fields, zap.Bool("edited", true))
	}
	if r.requestID != "" {
		fields = append(fields, zap.String("request_id", r.requestID))
	}
	fields = append(fields, zap.Duration("latency", r.latency))
	entry.Write(fields...)
}

// operations logs each operation as resource:action, repeats once.
type operations []policy.Operation

func (ops operations) MarshalLogArray(out zapcore.ArrayEncoder) error {
	for i, op := range ops {
		if op.Resource == "" || i > 0 && ops[i-1].Resource == op.Resource && ops[i-1].Action == op.Action {
			continue
		}
		out.AppendString(op.Resource + ":" + op.Action)
	}
	return nil
}
