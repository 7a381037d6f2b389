package extauthz

import (
	"context"
	"runtime"
	"testing"
	"time"
	"unsafe"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/usher-authz/usher/extauthz/token/tokentest"
	"github.com/usher-authz/usher/policy"
)

// freed reports whether the bytes of a check are let go of once it is answered.
func freed(t *testing.T, s *Server, check *authv3.CheckRequest) bool {
	t.Helper()
	gone := make(chan struct{})
	func() {
		text := wireText(check)
		runtime.AddCleanup(unsafe.StringData(text), func(gone chan struct{}) { close(gone) }, gone)
		c := &call{text: text}
		if s.serve(unhurried{context.Background()}, c); c.record.outcome != policy.Allow {
			t.Errorf("outcome %v: %s", c.record.outcome, c.record.reason)
		}
	}()
	for range 100 {
		runtime.GC()
		select {
		case <-gone:
			return true
		case <-time.After(10 * time.Millisecond):
		}
	}
	return false
}

// What is kept of a check (a token's identity and header, objects that were looked up, proofs) keeps none of its bytes: a path
// of a few characters would hold on to a body of megabytes.
func TestNothing_that_is_kept_of_a_check_keeps_its_bytes(t *testing.T) {
	m := newMinter(t, "ES256")
	b := newShop(t, 0)
	s := ownServer(t, m, b)
	order := check(m.mint(t, map[string]any{"scope": ""}))
	http := order.Attributes.Request.Http
	http.Method, http.Path, http.Host = "GET", "/orders/1", "agents.test"
	if !freed(t, s, order) {
		t.Error("an object that was looked up keeps the check")
	}
	if b.asked.Load() != 1 {
		t.Errorf("the backend was asked %d times", b.asked.Load())
	}

	key := tokentest.NewKey("client", "ES256")
	bound := New(Options{})
	bound.Swap(testState(t, m))
	if !freed(t, bound, proved(m.mint(t, map[string]any{"cnf": map[string]any{"jkt": key.Thumbprint()}}), key)) {
		t.Error("a token or a proof keeps the check")
	}
	runtime.KeepAlive(s)
	runtime.KeepAlive(bound)
}
