package extauthz

import (
	"context"
	"maps"
	"reflect"
	"sync/atomic"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/usher-authz/usher/policy"
)

// asks makes a check as Envoy does.
func asks(token, method, path, body string) *authv3.CheckRequest {
	list := &corev3.HeaderMap{}
	if token != "" {
		list.Headers = append(list.Headers, &corev3.HeaderValue{Key: "authorization", RawValue: []byte("Bearer " + token)})
	}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{
		Http: &authv3.AttributeContext_HttpRequest{Method: method, Path: path, Host: "agents.test", Scheme: "https", HeaderMap: list, RawBody: []byte(body)},
	}}}
}

const aliceThread = "11111111-1111-4111-8111-111111111111"

// oneThread is a backend with a thread of alice's. Gone, it has none.
type oneThread struct {
	gone  atomic.Bool
	asked atomic.Int64
}

func (o *oneThread) Get(_ context.Context, ref policy.Ref) (policy.Object, error) {
	o.asked.Add(1)
	if o.gone.Load() || ref.ID != aliceThread {
		return policy.Object{}, nil
	}
	return policy.Object{Found: true, Metadata: map[string]any{"owner": "alice"}}, nil
}

func (o *oneThread) Forget(policy.Ref) {}

func TestShadow(t *testing.T) {
	m := newMinter(t, "ES256")
	writer := m.mint(t, map[string]any{"scope": "threads:write"})
	reader := m.mint(t, map[string]any{"scope": "threads:read"})
	bob := m.mint(t, map[string]any{"sub": "bob", "scope": "threads:write"})
	for _, c := range []struct {
		name                      string
		token, method, path, body string
		status                    int
		want                      map[string]Difference
	}{
		{"a_create", writer, "POST", "/threads", `{}`, 200,
			map[string]Difference{"equal": Same, "stricter": Same, "looser": DifferentEdit, "other-stamp": DifferentEdit}},
		{"a_create_without_the_scope_that_the_new_rule_asks_for", reader, "POST", "/threads", `{}`, 200,
			map[string]Difference{"equal": Same, "stricter": WouldDeny, "looser": DifferentEdit, "other-stamp": DifferentEdit}},
		{"a_read", writer, "GET", "/threads/" + aliceThread, "", 200,
			map[string]Difference{"equal": Same, "stricter": Same, "looser": Same, "other-stamp": DifferentHeaders}},
		{"anothers_thread", bob, "GET", "/threads/" + aliceThread, "", 404,
			map[string]Difference{"equal": Same, "stricter": Same, "looser": WouldAllow, "other-stamp": Same}},
		{"without_a_rule", writer, "POST", "/assistants/search", `{}`, 403,
			map[string]Difference{"equal": Same, "stricter": Same, "looser": WouldAllow, "other-stamp": Same}},
		{"without_a_token", "", "GET", "/threads/" + aliceThread, "", 401,
			map[string]Difference{"equal": Same, "stricter": Same, "looser": Same, "other-stamp": Same}},
		{"a_public_route", "", "GET", "/ok", "", 200,
			map[string]Difference{"equal": Same, "stricter": Same, "looser": Same, "other-stamp": Same}},
		{"no_route", writer, "GET", "/none", "", 404,
			map[string]Difference{"equal": Same, "stricter": Same, "looser": Same, "other-stamp": Same}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := conformanceServer(t, m, "testdata/shadow.yaml", objects{})
			backend := &oneThread{}
			for name := range s.state.Load().Lookups {
				s.state.Load().Lookups[name] = backend
			}
			core, logs := observer.New(zapcore.DebugLevel)
			s.log = zap.New(core)
			r := do(t, s, asks(c.token, c.method, c.path, c.body))
			s.WaitShadows()
			if got := statusOf(r); got != c.status {
				t.Errorf("status %d, want %d", got, c.status)
			}
			got := map[string]Difference{}
			for count, n := range s.ShadowCounts() {
				if n != 1 {
					t.Errorf("%v counted %d times", count, n)
				}
				got[count.Policy] = count.Difference
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
			recorded := map[string]Difference{}
			for _, e := range logs.FilterMessage("shadow decision").All() {
				f := e.ContextMap()
				recorded[f["policy"].(string)] = Difference(f["difference"].(string))
				if f["enforced_policy"] != "live" {
					t.Errorf("record %v", f)
				}
			}
			maps.DeleteFunc(got, func(_ string, d Difference) bool { return d == Same })
			if !reflect.DeepEqual(recorded, got) {
				t.Errorf("recorded %v, want those that differ: %v", recorded, got)
			}
			if n := len(logs.FilterMessage("decision").All()); n != 1 {
				t.Errorf("%d decision records, want 1", n)
			}
			// No effect: the answer is that of the policy in force, without a header of a Shadow's, but for its removal.
			for _, h := range r.GetOkResponse().GetHeaders() {
				if h.GetHeader().GetKey() == "x-tenant" {
					t.Error("a Shadow policy's identity header was set")
				}
			}
		})
	}
	t.Run("what_the_request_deletes_is_compared_as_it_was", func(t *testing.T) {
		s := conformanceServer(t, m, "testdata/shadow.yaml", objects{})
		backend := &oneThread{}
		state := s.state.Load()
		for name := range state.Lookups {
			state.Lookups[name] = deleting{backend}
		}
		if got := statusOf(do(t, s, asks(writer, "DELETE", "/threads/"+aliceThread, ""))); got != 200 {
			t.Fatalf("status %d", got)
		}
		s.WaitShadows()
		if n := s.ShadowCounts()[ShadowCount{"equal", Same}]; n != 1 || backend.asked.Load() != 1 {
			t.Errorf("counts %v, asked %d times, want 1", s.ShadowCounts(), backend.asked.Load())
		}
	})
	t.Run("too_much_under_way_is_dropped_and_counted", func(t *testing.T) {
		s := conformanceServer(t, m, "testdata/shadow.yaml", objects{})
		do(t, s, asks("", "GET", "/ok", "")) // makes the semaphores
		s.WaitShadows()
		if !s.shadows.waiting.TryAcquire(shadowBytes) {
			t.Fatal("something waits")
		}
		if got := statusOf(do(t, s, asks("", "GET", "/ok", ""))); got != 200 {
			t.Errorf("status %d", got)
		}
		s.shadows.waiting.Release(shadowBytes)
		if n := s.ShadowCounts()[ShadowCount{"equal", Dropped}]; n != 1 {
			t.Errorf("counts %v", s.ShadowCounts())
		}
	})
	t.Run("a_panic_in_a_Shadow_policy_ends_there", func(t *testing.T) {
		s := conformanceServer(t, m, "testdata/shadow.yaml", objects{})
		state := s.state.Load()
		for _, p := range state.Policies.Shadows("agents.test", nil) {
			state.Lookups[p.Name] = panickingLookup{}
			if p.Name != "equal" {
				continue
			}
			v := s.try(state, p, wireText(asks(writer, "GET", "/threads/"+aliceThread, "")), &trial{})
			if v.outcome != policy.Undecided || s.ShadowCounts()[ShadowCount{"equal", Unknown}] != 1 {
				t.Errorf("got %v, counts %v", v.outcome, s.ShadowCounts())
			}
		}
		if _, panics := s.Counts(); panics != 1 {
			t.Errorf("%d panics", panics)
		}
	})
}

type panickingLookup struct{ Lookup }

func (panickingLookup) Get(context.Context, policy.Ref) (policy.Object, error) { panic("bug") }

// deleting forgets the object by losing it.
type deleting struct{ *oneThread }

func (d deleting) Forget(policy.Ref) { d.gone.Store(true) }
