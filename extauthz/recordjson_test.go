package extauthz

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/usher-authz/usher/policy"
)

// encoded is a record as an encoder writes it.
func encoded(t *testing.T, e zapcore.Encoder, r *record) string {
	t.Helper()
	out, err := e.EncodeEntry(zapcore.Entry{Level: zapcore.InfoLevel, Time: time.Unix(1700000000, 123456789).UTC(), Message: "decision"}, []zapcore.Field{zap.Inline(r)})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Free()
	return out.String()
}

func TestA_record_is_the_same_bytes_as_zap_makes_of_it(t *testing.T) {
	c := zap.NewProductionEncoderConfig()
	c.TimeKey, c.EncodeTime = "time", zapcore.RFC3339NanoTimeEncoder
	ours, zaps := NewRecordEncoder(c), zapcore.NewJSONEncoder(c)
	ops := []policy.Operation{{Resource: "threads", Action: "read"}, {Resource: "threads", Action: "read"}, {}, {Resource: "threads", Action: "update"}, {Resource: "runs", Action: "update"}}
	full := record{
		policy: "api", route: "GET /v1/items/{id}", method: "GET", host: "api.test", path: "/v1/items/42", operations: ops,
		rule: policy.RuleRef{On: "items:read", Position: "policy.yaml:3:7"}, outcome: policy.Forbidden, status: 403, reason: "items:read: allow is false",
		user: "alice", edited: true, requestID: "5b2c", latency: 1234567 * time.Nanosecond,
	}
	records := map[string]record{"empty": {}, "full": full, "no operation with a name": {operations: []policy.Operation{{}}}}
	for c := range 256 {
		r := full
		r.path = "/v1/" + string([]byte{byte(c)}) + "/x"
		records["path with byte "+r.path] = r
	}
	for _, latency := range []time.Duration{0, 1, 999, 1000, 123456789, time.Second, 3*time.Hour + 1} {
		r := full
		r.latency = latency
		records[latency.String()] = r
	}
	for o := range policy.Outcome(20) {
		r := full
		r.outcome = o
		records[o.String()] = r
	}
	// Whatever text a record gets, in whichever field.
	texts := []func(*record) *string{
		func(r *record) *string { return &r.policy }, func(r *record) *string { return &r.route }, func(r *record) *string { return &r.host },
		func(r *record) *string { return &r.method }, func(r *record) *string { return &r.path }, func(r *record) *string { return &r.rule.On },
		func(r *record) *string { return &r.rule.Position }, func(r *record) *string { return &r.reason }, func(r *record) *string { return &r.user },
		func(r *record) *string { return &r.requestID }, func(r *record) *string {
			r.operations = []policy.Operation{{Resource: "a", Action: "b"}}
			return &r.operations[0].Resource
		},
		func(r *record) *string {
			r.operations = []policy.Operation{{Resource: "a", Action: "b"}}
			return &r.operations[0].Action
		},
	}
	for i, field := range texts {
		for _, text := range []string{"", "plain", `a"b\c`, "x\",\"outcome\":\"allow", "line\nbreak", "é", "\xff", "\u2028<&>"} {
			r := full
			*field(&r) = text
			records[strings.Repeat("field ", i)+text] = r
		}
	}
	r := full
	r.unfiltered = []string{"items:read"}
	records["unfiltered"] = r
	r = full
	r.trial = &trial{difference: WouldDeny, enforced: verdict{policy: "p", rule: policy.RuleRef{On: "x"}}}
	records["shadow"] = r
	plain := 0
	for name, r := range records {
		got, want := encoded(t, ours, &r), encoded(t, zaps, &r)
		if got != want {
			t.Errorf("%q:\n%s, zap has\n%s", name, got, want)
		}
		if r.plain() {
			plain++
		}
	}
	if plain < 100 || plain == len(records) {
		t.Errorf("%d of %d records are plain", plain, len(records))
	}
	// A field that a record gets must be thought of here and in appendTo.
	if got := reflect.TypeFor[record]().NumField(); got != 27 {
		t.Errorf("a record has %d fields: does appendTo know them all?", got)
	}
}

func TestOther_lines_are_left_to_zap(t *testing.T) {
	c := zap.NewProductionEncoderConfig()
	for name, write := range map[string]func(*zap.Logger){
		"a message":       func(l *zap.Logger) { l.Info("hello", zap.String("a", "b")) },
		"without fields":  func(l *zap.Logger) { l.Warn("hello") },
		"a field of With": func(l *zap.Logger) { l.With(zap.Int("n", 1)).Info("decision", zap.Inline(&record{policy: "p"})) },
		"a namespace":     func(l *zap.Logger) { l.With(zap.Namespace("n")).Info("decision", zap.Inline(&record{policy: "p"})) },
	} {
		var ours, zaps strings.Builder
		clock := zap.WithClock(fixedClock{})
		write(zap.New(zapcore.NewCore(NewRecordEncoder(c), zapcore.AddSync(&ours), zapcore.InfoLevel), clock))
		write(zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(c), zapcore.AddSync(&zaps), zapcore.InfoLevel), clock))
		if ours.String() != zaps.String() || ours.Len() == 0 {
			t.Errorf("%s: %s, zap has %s", name, ours.String(), zaps.String())
		}
	}
}

type fixedClock struct{}

func (fixedClock) Now() time.Time                         { return time.Unix(1700000000, 0) }
func (fixedClock) NewTicker(d time.Duration) *time.Ticker { return time.NewTicker(d) }
