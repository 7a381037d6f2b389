package e2e_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/usher-authz/usher/envoy/e2e/stack"
	"github.com/usher-authz/usher/extauthz/token/tokentest"
)

// watcher asks the same without a pause, and notes when the answer changes.
type watcher struct {
	mu      sync.Mutex
	changes []change
	asked   int
	slowest time.Duration
}

type change struct {
	status int
	at     time.Time
}

// watch asks until the context ends.
func (r *revoking) watch(ctx context.Context, t *testing.T, group *sync.WaitGroup, host, token string) *watcher {
	w := &watcher{}
	group.Go(func() {
		for ctx.Err() == nil {
			begin := time.Now()
			answer := r.ask(context.WithoutCancel(ctx), t, host, token)
			now, status := time.Now(), statusOf(answer)
			if status == http.StatusServiceUnavailable && headerOf(answer, "Retry-After") == "" {
				status = -status // never seen
			}
			w.mu.Lock()
			w.asked++
			w.slowest = max(w.slowest, now.Sub(begin))
			if n := len(w.changes); n == 0 || w.changes[n-1].status != status {
				w.changes = append(w.changes, change{status, now})
			}
			w.mu.Unlock()
			time.Sleep(3 * time.Millisecond) // the machine has others
		}
	})
	return w
}

// longest is how long an answer took at most.
func (w *watcher) longest() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.slowest
}

// statuses are what came, in order.
func (w *watcher) statuses() []int {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := []int{}
	for _, c := range w.changes {
		out = append(out, c.status)
	}
	return out
}

func (w *watcher) at(i int) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changes[i].at
}

// TestAnOutageOfTheList: for 10 s nobody notices, then each policy does what it says, and what was revoked stays so.
func TestAnOutageOfTheList(t *testing.T) {
	for _, c := range []struct {
		name       string
		begin, end func(context.Context, *stack.Redis) error
	}{
		{
			"that_is_killed_and_comes_back_empty",
			func(_ context.Context, s *stack.Redis) error { s.Stop(); return nil },
			func(ctx context.Context, s *stack.Redis) error { return s.Start(ctx) },
		},
		{
			"that_hangs",
			func(_ context.Context, s *stack.Redis) error { return s.Freeze() },
			func(_ context.Context, s *stack.Redis) error { return s.Thaw() },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx := beginRevoking(t)
			server := newRedis(ctx, t, stack.RedisOptions{})
			r := revoke(ctx, t, server, plainly(server))
			r.connected(ctx, t)
			good, revoked := r.idp.Mint(), r.idp.Mint(tokentest.Claims{"jti": "one"})
			r.put(ctx, t, "jti:one", "")
			r.become(ctx, t, atOnce, http.StatusUnauthorized, denyHost, revoked, http.StatusOK)

			var group sync.WaitGroup
			watching, stop := context.WithCancel(ctx)
			defer group.Wait()
			defer stop()
			denied := r.watch(watching, t, &group, denyHost, good)
			allowed := r.watch(watching, t, &group, allowHost, good)
			refused := r.watch(watching, t, &group, denyHost, revoked)
			refused2 := r.watch(watching, t, &group, allowHost, revoked)
			nobody := r.watch(watching, t, &group, denyHost, "") // of whom no list is asked: what is slow here is the machine
			within := func(limit time.Duration, what string, good func() bool) {
				t.Helper()
				for begin := time.Now(); !good(); time.Sleep(10 * time.Millisecond) {
					if time.Since(begin) > limit {
						t.Fatalf("%s: not within %v", what, limit)
					}
				}
			}
			within(time.Minute, "the first answers", func() bool {
				return len(denied.statuses()) > 0 && len(allowed.statuses()) > 0 && len(refused.statuses()) > 0 && len(refused2.statuses()) > 0 && len(nobody.statuses()) > 0
			})

			gone := time.Now()
			if err := c.begin(ctx, server); err != nil {
				t.Fatal(err)
			}
			within(time.Minute, "503", func() bool { return len(denied.statuses()) > 1 })
			// The last sign of life came up to a heartbeat, 2 s, before.
			if grace, late := denied.at(1).Sub(gone), nobody.longest(); grace < 7*time.Second-late || grace > 12*time.Second+late {
				t.Errorf("503 after %v", grace)
			} else {
				t.Logf("503 after %v", grace)
			}
			s, ready := r.status(ctx, t)
			// Usher stays ready, as with a provider that is gone: no other replica would do better.
			if !ready || s.Connected || !strings.Contains(s.Problem, server.Address) || s.Entries != 1 {
				t.Errorf("ready %v, and the list is %+v", ready, s)
			}

			back := time.Now()
			if err := c.end(ctx, server); err != nil {
				t.Fatal(err)
			}
			within(time.Minute, "good again", func() bool { return len(denied.statuses()) > 2 })
			t.Logf("good again after %v", denied.at(2).Sub(back))
			r.connected(ctx, t)
			second := r.idp.Mint(tokentest.Claims{"jti": "two"})
			r.put(ctx, t, "jti:two", "")
			r.become(ctx, t, atOnce, http.StatusUnauthorized, denyHost, second, http.StatusOK)
			stop()
			group.Wait()

			for _, w := range []struct {
				name string
				*watcher
				want []int
			}{
				{"a good token, Deny", denied, []int{200, 503, 200}},
				{"a good token, Allow", allowed, []int{200}},
				{"a revoked token, Deny", refused, []int{401}},
				{"a revoked token, Allow", refused2, []int{401}},
				{"no token", nobody, []int{401}},
			} {
				if got := w.statuses(); !slices.Equal(got, w.want) {
					t.Errorf("%s: got %v, want %v", w.name, got, w.want)
				}
				// Nothing on the way of a request waits for the server, whose deadlines are 3 s.
				if t.Logf("%s: %d answers, the slowest took %v", w.name, w.asked, w.slowest); w.slowest > 2*time.Second+nobody.slowest {
					t.Errorf("%s: an answer took %v", w.name, w.slowest)
				}
			}
			if n := strings.Count(r.usher.Usher.Log(), "the revocation list cannot be followed"); n < 1 || n > 3 {
				t.Errorf("the log says %d times that the list cannot be followed, not once for each reason", n)
			}
		})
	}
}

func TestAServerThatWasFlushedTakesNothingBack(t *testing.T) {
	ctx := beginRevoking(t)
	server := newRedis(ctx, t, stack.RedisOptions{})
	r := revoke(ctx, t, server, plainly(server))
	r.connected(ctx, t)
	revoked := r.idp.Mint(tokentest.Claims{"jti": "one"})
	r.put(ctx, t, "jti:one", "")
	r.become(ctx, t, atOnce, http.StatusUnauthorized, denyHost, revoked, http.StatusOK)
	r.do(ctx, t, "FLUSHALL")
	// Another message is looked up meanwhile, and finds nothing: it was flushed with the rest.
	r.do(ctx, t, "PUBLISH", revocationBase(revocationIssuer), "jti:other")
	r.put(ctx, t, "jti:two", "")
	r.become(ctx, t, atOnce, http.StatusUnauthorized, denyHost, r.idp.Mint(tokentest.Claims{"jti": "two"}), http.StatusOK)
	r.want(ctx, t, http.StatusUnauthorized, denyHost, revoked)
	r.want(ctx, t, http.StatusUnauthorized, allowHost, revoked)
}

func TestAnUsherThatStartsWhileTheListsServerIsDown(t *testing.T) {
	ctx := beginRevoking(t)
	server, err := parts.NewRedisStopped(name(t), stack.RedisOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	r := revoke(ctx, t, server, plainly(server))
	good := r.idp.Mint()
	answer := r.ask(ctx, t, denyHost, good)
	if got := statusOf(answer); got != 503 || headerOf(answer, "Retry-After") == "" {
		t.Errorf("got %d with Retry-After %q, want 503 with one", got, headerOf(answer, "Retry-After"))
	}
	r.want(ctx, t, http.StatusOK, allowHost, good)
	s := r.until(ctx, t, func(s listStatus) bool { return s.Problem != "" })
	if _, ready := r.status(ctx, t); ready || s.Connected {
		t.Errorf("ready %v, and the list is %+v", ready, s)
	}

	if err := server.Start(ctx); err != nil {
		t.Fatal(err)
	}
	r.become(ctx, t, time.Minute, http.StatusOK, denyHost, good, http.StatusServiceUnavailable)
	if s, ready := r.status(ctx, t); !ready || !s.Connected || s.Problem != "" {
		t.Errorf("ready %v, and the list is %+v", ready, s)
	}
}

// TestWhatIsOnTheListBeforeUsherStarts is known before the first token passes.
func TestWhatIsOnTheListBeforeUsherStartsIsRefusedFromTheFirstRequestOn(t *testing.T) {
	ctx := beginRevoking(t)
	server := newRedis(ctx, t, stack.RedisOptions{})
	base := revocationBase(revocationIssuer)
	early := &revoking{redis: server}
	for i := range 2000 { // several answers to SCAN
		early.do(ctx, t, "SET", fmt.Sprint(base, ":jti:", i), "", "EX", "600")
	}
	early.do(ctx, t, "HSET", base+":jti:a-hash", "field", "value")
	early.do(ctx, t, "SET", base+":jti:endless", "")
	early.do(ctx, t, "SETRANGE", base+":sub:huge", strconv.Itoa(128<<20), "9")
	early.do(ctx, t, "SET", base+":nonsense", "", "EX", "600")
	early.do(ctx, t, "SET", "usher:revoked:"+strings.Repeat("0", 64)+":sub:alice", "", "EX", "600") // of another issuer
	r := revoke(ctx, t, server, plainly(server))
	for _, change := range []tokentest.Claims{{"jti": "0"}, {"jti": "1999"}, {"jti": "a-hash"}, {"jti": "endless"}, {"sub": "huge"}} {
		r.become(ctx, t, time.Minute, http.StatusUnauthorized, denyHost, r.idp.Mint(change), http.StatusServiceUnavailable)
	}
	r.become(ctx, t, time.Minute, http.StatusOK, denyHost, r.idp.Mint(), http.StatusServiceUnavailable)
	r.connected(ctx, t)
	if s, _ := r.status(ctx, t); s.Entries != 2003 {
		t.Errorf("the list is %+v", s)
	}
	// Of the huge value just the beginning was fetched.
	page, err := askAt(ctx, oauthClient, r.usher.UsherAdmin, "/metrics", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{`usher_revocation_connected{provider="idp"} 1`, `usher_revocation_entries{provider="idp"} 2003`} {
		if !strings.Contains(page.body, "\n"+line+"\n") {
			t.Errorf("/metrics lacks %s", line)
		}
	}
	_, line, _ := strings.Cut(page.body, "\ngo_memstats_heap_sys_bytes ")
	line, _, _ = strings.Cut(line, "\n")
	if heap, err := strconv.ParseFloat(line, 64); err != nil || heap > 100<<20 {
		t.Errorf("the heap is %v bytes: %v", heap, err)
	}
}

// TestALostMessageIsMadeUpFor: what was written without a message is found when the list is read again, each minute.
func TestALostMessageIsMadeUpFor(t *testing.T) {
	ctx := beginRevoking(t)
	server := newRedis(ctx, t, stack.RedisOptions{})
	r := revoke(ctx, t, server, plainly(server))
	r.connected(ctx, t)
	token := r.idp.Mint(tokentest.Claims{"jti": "one"})
	r.do(ctx, t, "SET", revocationBase(revocationIssuer)+":jti:one", "", "EX", "600")
	r.want(ctx, t, http.StatusOK, denyHost, token)
	t.Logf("found after %v", r.become(ctx, t, 2*time.Minute, http.StatusUnauthorized, denyHost, token, http.StatusOK))
}

// TestADatabaseWithManyOtherKeys is read to its end, however long it takes, and what is revoked meanwhile is so at once.
func TestADatabaseWithManyOtherKeysIsReadToItsEnd(t *testing.T) {
	ctx := beginRevoking(t)
	server := newRedis(ctx, t, stack.RedisOptions{})
	(&revoking{redis: server}).do(ctx, t, "EVAL", "for i = 1, 100000 do redis.call('SET', 'other:' .. i, '') end", "0")
	// Two hundred answers: the first ones take so long that not all is read before the test has looked.
	var delay atomic.Int64
	delay.Store(int64(300 * time.Millisecond))
	far := slowly(t, server.Address, &delay)
	r := revoke(ctx, t, server, fmt.Sprintf("{url: %q}", "redis://"+far))
	good, revoked := r.idp.Mint(), r.idp.Mint(tokentest.Claims{"jti": "one"})
	r.want(ctx, t, http.StatusOK, allowHost, revoked)
	// It has subscribed once somebody is told of a message.
	base := revocationBase(revocationIssuer)
	r.do(ctx, t, "SET", base+":jti:one", "", "EX", "600")
	for r.do(ctx, t, "PUBLISH", base, "jti:one") == "0" {
		time.Sleep(10 * time.Millisecond)
	}
	r.become(ctx, t, atOnce, http.StatusUnauthorized, allowHost, revoked, http.StatusOK)
	r.want(ctx, t, http.StatusServiceUnavailable, denyHost, good) // not before all is read
	delay.Store(int64(60 * time.Millisecond))
	t.Logf("read after %v", r.become(ctx, t, 3*time.Minute, http.StatusOK, denyHost, good, http.StatusServiceUnavailable))
	if log := r.usher.Usher.Log(); strings.Contains(log, "cannot be followed") {
		t.Error("the connection was given up meanwhile")
	}
}

// slowly is the address of a way to a server on which each answer takes a while longer.
func slowly(t *testing.T, to string, delay *atomic.Int64) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				_ = near.Close()
				continue
			}
			go func() {
				_, _ = io.Copy(far, near)
				_ = far.Close()
			}()
			go func() {
				defer near.Close()
				buffer := make([]byte, 64<<10)
				for {
					n, err := far.Read(buffer)
					if err != nil {
						return
					}
					time.Sleep(time.Duration(delay.Load()))
					if _, err := near.Write(buffer[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}
