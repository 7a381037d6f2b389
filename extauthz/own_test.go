package extauthz

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/usher-authz/usher/envoy/edit"
	"github.com/usher-authz/usher/extauthz/lookup"
)

// shop is a backend with order 1. The look-up whose number is held waits for release with the answer in its hand.
type shop struct {
	*httptest.Server
	owner   atomic.Pointer[string]
	asked   atomic.Int64
	held    int64
	reached chan struct{}
	release chan struct{}
}

func newShop(t *testing.T, held int64) *shop {
	b := &shop{held: held, reached: make(chan struct{}), release: make(chan struct{})}
	b.give("alice")
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		owner := *b.owner.Load()
		if b.asked.Add(1) == b.held {
			close(b.reached)
			<-b.release
		}
		_, _ = fmt.Fprintf(w, `{"id":"1","labels":{"owner":%q},"audit":{"owner":%q}}`, owner, owner)
	}))
	t.Cleanup(b.Close)
	return b
}

func (b *shop) give(owner string) { b.owner.Store(&owner) }

func ownServer(t *testing.T, m *minter, b *shop) *Server {
	s := conformanceServer(t, m, "testdata/own.yaml", objects{})
	client, err := lookup.New(lookup.Config{BackendURL: b.URL, Timeout: 1e11, TTL: 1e11})
	if err != nil {
		t.Fatal(err)
	}
	s.state.Load().Lookups["own"] = client
	return s
}

// unhurried is a caller whose deadline is far: the look-ups are real ones here, and the machine may be busy.
type unhurried struct{ context.Context }

func (unhurried) Deadline() (time.Time, bool) { return time.Now().Add(time.Hour), true }

// found asks as such a caller.
func found(t *testing.T, s *Server, c *authv3.CheckRequest) *authv3.CheckResponse {
	t.Helper()
	r, err := s.Check(unhurried{t.Context()}, c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestA_write_by_one_route_is_seen_by_all_that_read_the_object(t *testing.T) {
	m := newMinter(t, "ES256")
	alice, bob := m.mint(t, map[string]any{"scope": ""}), m.mint(t, map[string]any{"sub": "bob", "scope": ""})
	for _, write := range []struct{ method, path, body string }{
		{"PATCH", "/orders/1", `{"item":"milk"}`}, {"DELETE", "/orders/1", ""}, {"POST", "/refunds", `{"orderID":"1"}`}, {"", "", ""},
	} {
		t.Run(write.method+write.path, func(t *testing.T) {
			b := newShop(t, 0)
			s := ownServer(t, m, b)
			both := func(token string, want int) {
				t.Helper()
				for _, path := range []string{"/orders/1", "/orders/1/audit"} {
					if got := statusOf(found(t, s, asks(token, "GET", path, ""))); got != want {
						t.Errorf("GET %s: %d, want %d", path, got, want)
					}
				}
			}
			both(alice, 200)
			both(bob, 404)
			before, after := 404, 200
			if write.method == "" {
				before, after = after, before // nothing passes: what is known is good for as long as TTL
			} else if got := statusOf(found(t, s, asks(alice, write.method, write.path, write.body))); got != 200 {
				t.Fatalf("the write: %d", got)
			}
			b.give("bob")
			both(alice, before)
			both(bob, after)
		})
	}
}

func TestA_write_that_passes_while_a_look_up_is_under_way_is_not_answered_from_before(t *testing.T) {
	m := newMinter(t, "ES256")
	alice := m.mint(t, map[string]any{"scope": ""})
	b := newShop(t, 1)
	s := ownServer(t, m, b)
	first := make(chan int)
	go func() { first <- statusOf(found(t, s, asks(alice, "GET", "/orders/1/audit", ""))) }()
	<-b.reached // it holds the answer from before the write
	if got := statusOf(found(t, s, asks(alice, "PATCH", "/orders/1", `{}`))); got != 200 {
		t.Fatalf("the write: %d", got)
	}
	b.give("bob")
	if got := statusOf(found(t, s, asks(alice, "GET", "/orders/1/audit", ""))); got != 404 {
		t.Errorf("while the look-up is under way: %d, want 404", got)
	}
	close(b.release)
	if got := <-first; got != 200 {
		t.Errorf("what was asked before the write: %d, want 200", got)
	}
	for _, path := range []string{"/orders/1/audit", "/orders/1"} {
		if got := statusOf(found(t, s, asks(alice, "GET", path, ""))); got != 404 {
			t.Errorf("GET %s after it: %d, want 404", path, got)
		}
	}
}

func TestA_body_that_was_cut_off_is_413_where_it_is_needed(t *testing.T) {
	m := newMinter(t, "ES256")
	s := ownServer(t, m, newShop(t, 0))
	token := m.mint(t, map[string]any{"scope": ""})
	for path, want := range map[string]int{"/orders": 413, "/pointers": 413, "/roots": 413, "/refunds": 413, "/uploads": 200} {
		check := asks(token, "POST", path, `{"orderID":"1"}`)
		list := check.GetAttributes().GetRequest().GetHttp().GetHeaderMap()
		list.Headers = append(list.Headers, &corev3.HeaderValue{Key: "x-envoy-auth-partial-body", RawValue: []byte("true")})
		if got := statusOf(do(t, s, check)); got != want {
			t.Errorf("POST %s: %d, want %d", path, got, want)
		}
	}
}

// Envoy sends no bodies where its configuration says that no policy needs one, and takes content-length out of a request whose
// Connection names it.
func TestA_body_that_Envoy_does_not_send_is_not_taken_for_none(t *testing.T) {
	m := newMinter(t, "ES256")
	s := ownServer(t, m, newShop(t, 0))
	token := m.mint(t, map[string]any{"scope": ""})
	for _, c := range []struct {
		method, path string
		length       []string
		said         string
		want         int
	}{
		{"POST", "/orders", nil, "unsent", 503},
		{"POST", "/refunds", nil, "unsent", 503},
		{"POST", "/roots", nil, "Unsent", 503},
		{"POST", "/roots", nil, "", 503},
		{"POST", "/roots", nil, "sent", 200},
		{"POST", "/roots", []string{"16"}, "unsent", 503},
		{"POST", "/roots", []string{"0", "0"}, "unsent", 503},
		{"POST", "/roots", []string{"0"}, "unsent", 200},
		{"POST", "/uploads", nil, "unsent", 200},
		{"GET", "/orders/1", nil, "unsent", 200},
	} {
		check := asks(token, c.method, c.path, "")
		check.Attributes.ContextExtensions = map[string]string{"body": c.said}
		list := check.GetAttributes().GetRequest().GetHttp().GetHeaderMap()
		for _, value := range c.length {
			list.Headers = append(list.Headers, &corev3.HeaderValue{Key: "content-length", RawValue: []byte(value)})
		}
		if got := statusOf(do(t, s, check)); got != c.want {
			t.Errorf("%s %s with content-length %q, body %q: %d, want %d", c.method, c.path, c.length, c.said, got, c.want)
		}
	}
}

func TestStamps_stand_where_stampAt_says(t *testing.T) {
	m := newMinter(t, "ES256")
	s := ownServer(t, m, newShop(t, 0))
	token := m.mint(t, map[string]any{"scope": ""})
	for _, c := range []struct{ path, body, want string }{
		{"/orders", `{"n":1.0}`, `{"labels":{"owner":"alice"},"n":1.0}`},
		{"/pointers", `{"n":1.0}`, `{"x.labels":{"a/b":{"owner":"alice"}},"n":1.0}`},
		{"/pointers", `{"x.labels": {"a/b": {"owner": "bob", "k": 1.50e2}, "z":[]}}`, `{"x.labels": {"a/b": {"owner": "alice", "k": 1.50e2}, "z":[]}}`},
		{"/roots", `{"n":1.0}`, `{"owner":"alice","n":1.0}`},
		{"/roots", `{ "n":12345678901234567890, "owner":null }`, `{ "n":12345678901234567890, "owner":"alice" }`},
		{"/roots", ``, `{"owner":"alice"}`},
	} {
		r := do(t, s, asks(token, "POST", c.path, c.body))
		if got := statusOf(r); got != 200 {
			t.Errorf("POST %s %s: %d", c.path, c.body, got)
			continue
		}
		want := edit.Metadata(c.path, []byte(c.want))
		if got := r.GetDynamicMetadata(); got.String() != want.String() {
			t.Errorf("POST %s %s: got %s, want %s", c.path, c.body, got, want)
		}
	}
}
