package extauthz

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/usher-authz/usher/extauthz/lookup"
	"github.com/usher-authz/usher/policy"
)

func TestPoliciesOfOneBackend(t *testing.T) {
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		fmt.Fprintf(w, `{"thread_id":"1","metadata":{"key":%q}}`, r.Header.Get("X-Api-Key"))
	}))
	defer server.Close()
	snapshot, err := policy.New(policy.Set{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	one := lookup.Config{BackendURL: server.URL, Timeout: 1e12, TTL: 1e12, Headers: map[string]string{"x-api-key": "1"}}
	two := one
	two.Headers = map[string]string{"x-api-key": "2"}
	build := func(prev *State, backends map[string]lookup.Config) *State {
		t.Helper()
		s, err := Build(prev, snapshot, nil, backends)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	ref := policy.Ref{Resource: "threads", ID: "1", Path: "/threads/1", Member: "thread_id"}
	key := func(s *State, name string) any {
		t.Helper()
		o, err := s.Lookups[name].Get(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		return o.Metadata["key"]
	}
	wantAsked := func(n int64, what string) {
		t.Helper()
		if got := asked.Load(); got != n {
			t.Errorf("%s: asked %d times, want %d", what, got, n)
		}
	}

	s := build(nil, map[string]lookup.Config{"a": one, "b": one, "c": two})
	if a, b, c := key(s, "a"), key(s, "b"), key(s, "c"); a != "1" || b != "1" || c != "2" {
		t.Errorf("got %v, %v, %v", a, b, c)
	}
	wantAsked(2, "the same credentials share a cache, others do not")

	s.Lookups["c"].Forget(ref)
	key(s, "a")
	wantAsked(3, "a write under one policy is known to the others, whatever their credentials")

	next := build(s, map[string]lookup.Config{"a": one, "d": one})
	if !slices.ContainsFunc(s.backends[server.URL], func(b backend) bool { return b.Client == next.backends[server.URL][0].Client }) {
		t.Error("an unchanged backend lost its cache")
	}
	three := one
	three.Headers = map[string]string{"x-api-key": "3"}
	if got := key(build(next, map[string]lookup.Config{"a": three}), "a"); got != "3" {
		t.Errorf("changed credentials: got %v", got)
	}
}
