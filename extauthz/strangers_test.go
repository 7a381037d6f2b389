package extauthz

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/extauthz/token/tokentest"
)

// TestFive_hundred_strange_tokens_exhaust_nothing: on real sockets, 500 requests at once, each with an opaque token that
// nobody has seen, at a provider that is well, slow or hangs. A token that was seen before passes as ever, the strange ones
// are all answered, and connections, goroutines and memory stay within bounds. How long they wait is asserted in virtual
// time (extauthz/token), as here the machine may be busy with something else.
func TestFive_hundred_strange_tokens_exhaust_nothing(t *testing.T) {
	const strangers = 500
	inactive := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"active":false}`))
	}
	for name, c := range map[string]struct {
		answer   http.HandlerFunc
		statuses []int // that strangers may get
	}{
		"well": {inactive, []int{401, 503}}, // 503 where its turn did not come in time
		"slow": {func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-time.After(60 * time.Millisecond):
				inactive(w, r)
			case <-r.Context().Done():
			}
		}, []int{401, 503}},
		"hanging": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, []int{503}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newSocketProvider(t, "http")
			client, state, logs := socketServer(t, p, func(c *token.Config) {
				c.AllowHTTP = true
				c.Introspection = &token.Introspection{Endpoint: p.Issuer + tokentest.Introspection, ClientID: tokentest.ClientID, ClientSecret: tokentest.ClientSecret, CacheFor: time.Minute}
			})
			p.Opaque("good", p.Good(tokentest.Claims{"scope": "items:read"}))
			ask := func(text string) (int, string, time.Duration) {
				start := time.Now()
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				defer cancel()
				r, err := client.Check(ctx, check(text))
				if err != nil {
					t.Errorf("check: %v", err)
				}
				return statusOf(r), headerOf(r.GetDeniedResponse().GetHeaders(), "retry-after"), time.Since(start)
			}
			until(t, "the first answer", func() bool { status, _, _ := ask("good"); return status == 200 })
			measure := func(n int) (median time.Duration) {
				took := make([]time.Duration, n)
				for i := range took {
					var status int
					if status, _, took[i] = ask("good"); status != 200 {
						t.Errorf("the good token got %d", status)
					}
				}
				slices.Sort(took)
				return took[n/2]
			}
			calm := measure(100)

			p.sick.Store(&c.answer)
			goroutines, before := runtime.NumGoroutine(), heapInUse()
			var crowd sync.WaitGroup
			var refused, unavailable, peak atomic.Int64
			waited := make([]time.Duration, strangers)
			release := make(chan struct{})
			for n := range strangers {
				crowd.Go(func() {
					<-release
					status, after, took := ask(fmt.Sprint("strange-", n))
					switch {
					case !slices.Contains(c.statuses, status) || (status == 503) != (after != ""):
						t.Errorf("a stranger got %d with retry-after %q", status, after)
					case status == 401:
						refused.Add(1)
					default:
						unavailable.Add(1)
					}
					waited[n] = took
				})
			}
			done := make(chan struct{})
			go func() { crowd.Wait(); close(done) }()
			close(release)
			var meanwhile []time.Duration
			for running := true; running; {
				status, _, took := ask("good")
				if status != 200 {
					t.Errorf("the good token got %d meanwhile", status)
				}
				meanwhile = append(meanwhile, took)
				time.Sleep(time.Millisecond)
				peak.Store(max(peak.Load(), int64(runtime.NumGoroutine())))
				select {
				case <-done:
					running = false
				default:
				}
			}
			slices.Sort(meanwhile)
			slices.Sort(waited)
			t.Logf("a good token: %v calm, %v of %d checks meanwhile; %d refused, %d unavailable, after %v, 95 %% within %v; %d connections, %d goroutines more",
				calm, meanwhile[len(meanwhile)/2], len(meanwhile), refused.Load(), unavailable.Load(), waited[strangers/2], waited[strangers*95/100],
				p.most.Load(), peak.Load()-int64(goroutines))

			// Usher has 32 at most; the provider may notice much later that one was closed.
			if n := p.most.Load(); n > strangers/2 {
				t.Errorf("%d connections to the provider", n)
			}
			// The client's goroutine and its stream, the server's, and the flight; and those of 32 connections.
			if n := peak.Load() - int64(goroutines); n > 6*strangers+300 {
				t.Errorf("%d goroutines", n)
			}
			if n := logs.FilterMessage("the provider does not answer about tokens").Len(); n > 1 {
				t.Errorf("%d lines in the log", n)
			}
			if a := state.Status()["p"].Asked; a == nil || a.Requests > strangers+200 {
				t.Errorf("asked %+v", a)
			}
			p.sick.Store(nil)
			until(t, "goroutines to end", func() bool { return runtime.NumGoroutine() < goroutines+150 })
			if grown := int64(heapInUse()) - int64(before); grown > 8<<20 {
				t.Errorf("%d bytes are left", grown)
			}
			p.Opaque("another", p.Good(tokentest.Claims{"scope": "items:read"}))
			until(t, "the recovery", func() bool { status, _, _ := ask("another"); return status == 200 })
		})
	}
}

func heapInUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
