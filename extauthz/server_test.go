package extauthz

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/protobuf/proto"

	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/policy"
)

func statusOf(r *authv3.CheckResponse) int {
	if d := r.GetDeniedResponse(); d != nil {
		return int(d.GetStatus().GetCode())
	}
	if r.GetStatus().GetCode() == 0 && r.GetOkResponse() != nil {
		return 200
	}
	return 0
}

func headerOf(list []*corev3.HeaderValueOption, name string) string {
	for _, h := range list {
		if h.GetHeader().GetKey() == name {
			return h.GetHeader().GetValue()
		}
	}
	return ""
}

func newServer(t testing.TB) (*Server, *minter, *observer.ObservedLogs) {
	core, logs := observer.New(zapcore.DebugLevel)
	s, m := New(Options{Logger: zap.New(core)}), newMinter(t, "ES256")
	s.Swap(testState(t, m))
	return s, m, logs
}

func do(t testing.TB, s *Server, c *authv3.CheckRequest) *authv3.CheckResponse {
	t.Helper()
	sent := serve(s, wireText(c)).sent
	r := &authv3.CheckResponse{}
	if err := proto.Unmarshal(sent, r); err != nil {
		t.Fatalf("the generated code cannot read the answer: %v", err)
	}
	if again, err := proto.Marshal(r); err != nil || len(again) != len(sent) {
		t.Fatalf("the generated code writes the answer otherwise: %q (%v), and not %q", again, err, sent)
	}
	if r.GetDeniedResponse() == nil && r.GetOkResponse() == nil {
		t.Fatalf("neither allowed nor denied: %v", r)
	}
	return r
}

// serve has the server decide a check as it comes over the wire.
func serve(s *Server, text string) *call {
	c := &call{text: text}
	s.serve(context.Background(), c)
	return c
}

func TestA_server_without_policies_answers_503(t *testing.T) {
	r := do(t, New(Options{}), check("x"))
	if got := statusOf(r); got != 503 || headerOf(r.GetDeniedResponse().GetHeaders(), "retry-after") == "" {
		t.Errorf("got %d with headers %v, want 503 with retry-after", got, r.GetDeniedResponse().GetHeaders())
	}
}

func TestA_good_token_passes_with_its_identity_and_without_itself(t *testing.T) {
	s, m, _ := newServer(t)
	r := do(t, s, check(m.mint(t, nil)))
	if statusOf(r) != 200 {
		t.Fatalf("got %v, want an allow", r)
	}
	ok := r.GetOkResponse()
	if got := headerOf(ok.GetHeaders(), "x-user-id"); got != "alice" {
		t.Errorf("x-user-id is %q, want alice", got)
	}
	for _, h := range ok.GetHeaders() {
		if h.GetAppendAction() != corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD {
			t.Errorf("header %s has append action %v", h.GetHeader().GetKey(), h.GetAppendAction())
		}
	}
	if removed := strings.Join(ok.GetHeadersToRemove(), " "); !strings.Contains(removed, "authorization") || !strings.Contains(removed, "x-auth-scheme") {
		t.Errorf("removed are %q, want authorization and x-auth-scheme among them", removed)
	}
}

// panicking is a verifier with a bug.
type panicking struct{}

func (panicking) Verify(context.Context, token.Credential) (*policy.Identity, error) {
	panic("secret " + rand.Text())
}

// faulty is a verifier that fails in a way that is nobody's refusal.
type faulty struct{ id *policy.Identity }

func (f faulty) Verify(context.Context, token.Credential) (*policy.Identity, error) {
	if f.id != nil {
		return f.id, nil
	}
	return nil, errors.New("disk on fire")
}

func TestOur_own_faults_are_503_and_never_401_or_403(t *testing.T) {
	for name, v := range map[string]token.Verifier{
		"panic": panicking{}, "error": faulty{}, "identity without a name": faulty{&policy.Identity{}},
	} {
		t.Run(name, func(t *testing.T) {
			s, _, logs := newServer(t)
			state := s.state.Load()
			state.Verifiers["p"] = v
			if err := state.prepare(); err != nil {
				t.Fatal(err)
			}
			if got := statusOf(do(t, s, check("abc"))); got != 503 {
				t.Errorf("got %d, want 503", got)
			}
			if _, panics := s.Counts(); (panics == 1) != (name == "panic") {
				t.Errorf("%d panics counted", panics)
			}
			for _, e := range logs.All() {
				if text := e.Message + strings.Join(flatten(e.ContextMap()), " "); strings.Contains(text, "secret") {
					t.Errorf("log shows what the panic said: %s", text)
				}
			}
		})
	}
}

func flatten(m map[string]any) []string {
	var out []string
	for k, v := range m {
		out = append(out, k)
		if s, ok := v.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

func TestThe_decision_record_names_rule_and_reason_and_never_the_token(t *testing.T) {
	s, m, logs := newServer(t)
	good := m.mint(t, map[string]any{"scope": "other", "sub": "carol"})
	forged := newMinter(t, "ES256").mint(t, map[string]any{"sub": "mallory-claim"})
	do(t, s, check(good))
	do(t, s, check(forged))
	records := logs.FilterMessage("decision").All()
	if len(records) != 2 {
		t.Fatalf("%d decision records, want one for each request", len(records))
	}
	first := records[0].ContextMap()
	for field, want := range map[string]any{
		"outcome": "insufficient_scope", "policy": "api", "route": "GET /v1/items/{id}", "rule": "items:read", "user": "carol",
		"request_id": "5b2cbdb8-e340-424d-b700-45e56c9e5e54",
	} {
		if first[field] != want {
			t.Errorf("record's %s is %v, want %v", field, first[field], want)
		}
	}
	for _, e := range logs.All() {
		text := e.Message + strings.Join(flatten(e.ContextMap()), " ")
		if strings.Contains(text, good[:40]) || strings.Contains(text, forged[:40]) || strings.Contains(text, "mallory-claim") {
			t.Errorf("log shows a token or a claim of a refused one: %s", text)
		}
	}
}

func TestA_warm_check_allocates_little(t *testing.T) {
	s, m, _ := newServer(t)
	s.log = zap.NewNop()
	one := wireText(check(m.mint(t, nil)))
	serve(s, one)
	if got := testing.AllocsPerRun(200, func() { serve(s, one) }); got > 8 {
		t.Errorf("%v allocations for a warm check, want 8 at most", got)
	}
}

func TestA_body_longer_than_is_decided_on_is_413_whatever_Envoy_says_of_it(t *testing.T) {
	text := []byte(`{"a":1}`)
	r := request{message: message{rawBody: string(text)}}
	r.headers.partialBody = []string{"false"}
	if _, err := r.body(len(text)); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	var refusal *policy.Refusal
	if _, err := r.body(len(text) - 1); !errors.As(err, &refusal) || refusal.Outcome != policy.TooLarge {
		t.Errorf("one byte more: %v, want a refusal with 413", err)
	}
}

func TestA_body_is_read_from_either_of_its_two_fields_and_not_from_both(t *testing.T) {
	with := func(raw, text string) request { return request{message: message{rawBody: raw, bodyText: text}} }
	for name, r := range map[string]request{"raw_body": with(`{"a":1}`, ""), "body": with("", `{"a":1}`)} {
		if got, err := r.body(100); err != nil || got != `{"a":1}` {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	var refusal *policy.Refusal
	r := with(`{"a":1}`, `{"a":2}`)
	if _, err := r.body(100); !errors.As(err, &refusal) || refusal.Outcome != policy.BadRequest {
		t.Errorf("both: %v, want a refusal with 400", err)
	}
}
