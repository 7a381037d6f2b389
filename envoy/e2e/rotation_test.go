package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/usher-authz/usher/envoy/e2e/stack"
)

// crowd asks without a pause, each asker with its own of the tokens that pick returns.
type crowd struct {
	stop  context.CancelFunc
	group sync.WaitGroup

	mu    sync.Mutex
	good  int
	wrong []string
}

const askers = 4

func (o *oauth) crowd(ctx context.Context, host string, pick func(asker int) string) *crowd {
	return newCrowd(ctx, func(ctx context.Context, asker int) (reply, error) { return o.me(ctx, host, pick(asker)) })
}

func newCrowd(ctx context.Context, ask func(ctx context.Context, asker int) (reply, error)) *crowd {
	c := &crowd{}
	ctx, c.stop = context.WithCancel(ctx)
	for i := range askers {
		c.group.Go(func() {
			for ctx.Err() == nil {
				r, err := ask(ctx, i)
				if ctx.Err() != nil {
					return
				}
				c.mu.Lock()
				if err == nil && r.status == http.StatusOK {
					c.good++
				} else {
					c.wrong = append(c.wrong, fmt.Sprintf("%v %d %s", err, r.status, r.header.Get("WWW-Authenticate")))
				}
				c.mu.Unlock()
				time.Sleep(2 * time.Millisecond) // the machine has others
			}
		})
	}
	return c
}

// passed waits for n more good answers.
func (c *crowd) passed(ctx context.Context, t *testing.T, n int) {
	t.Helper()
	c.mu.Lock()
	goal := c.good + n
	c.mu.Unlock()
	for {
		c.mu.Lock()
		good, wrong := c.good, len(c.wrong)
		c.mu.Unlock()
		if good >= goal || wrong > 0 {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal("too few answers")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (c *crowd) end(t *testing.T) {
	t.Helper()
	c.stop()
	c.group.Wait()
	t.Logf("%d good answers", c.good)
	for i, w := range c.wrong {
		if i == 5 {
			t.Errorf("and %d more", len(c.wrong)-i)
			break
		}
		t.Errorf("a good token got %s", w)
	}
}

func TestAProviderRotatesItsKeysUnderLoadAndNoGoodTokenIsRefused(t *testing.T) {
	ctx := begin(t)
	o := startOAuth(ctx, t, "rotation", oauthManifests)
	var mu sync.Mutex
	current := o.token(ctx, t, "jwt", "machine", nil)
	first := current
	pick := func(asker int) string {
		mu.Lock()
		defer mu.Unlock()
		if asker%2 == 0 {
			return first
		}
		return current
	}
	until(ctx, t, http.StatusOK, func() (reply, error) { return o.me(ctx, jwtHost, first) }, http.StatusServiceUnavailable)
	load := o.crowd(ctx, jwtHost, pick)
	load.passed(ctx, t, 50)

	o.command(ctx, t, "rotate")
	second := o.token(ctx, t, "jwt", "machine", nil)
	// The first use of a key is when Usher learns of it. On a busy machine that may take longer than a request waits.
	until(ctx, t, http.StatusOK, func() (reply, error) { return o.me(ctx, jwtHost, second) }, http.StatusServiceUnavailable)
	mu.Lock()
	current = second
	mu.Unlock()
	load.passed(ctx, t, 50)
	load.end(t)
	if n := o.fetches(ctx, t, "/jwks"); n > 3 {
		t.Errorf("the keys were fetched %d times", n)
	}

	// What is withdrawn is refused after the next fetch, though its tokens are cached: here a token of a third key makes
	// Usher fetch, which it does at most every 10 s.
	o.command(ctx, t, "rotate")
	third := o.token(ctx, t, "jwt", "machine", nil)
	o.command(ctx, t, "withdraw")
	until(ctx, t, http.StatusOK, func() (reply, error) { return o.me(ctx, jwtHost, third) }, http.StatusUnauthorized, http.StatusServiceUnavailable)
	for _, withdrawn := range []string{first, second} {
		// 503 for the second in which the keys that have just changed may change again.
		until(ctx, t, http.StatusUnauthorized, func() (reply, error) { return o.me(ctx, jwtHost, withdrawn) }, http.StatusServiceUnavailable)
	}
}

func TestAProviderThatHangsOrIsGoneUnderLoad(t *testing.T) {
	for name, sick := range map[string]struct {
		begin, end func(context.Context, *stack.OAuth) error
	}{
		"hangs": {
			func(_ context.Context, p *stack.OAuth) error { return p.Freeze() },
			func(_ context.Context, p *stack.OAuth) error { return p.Thaw() },
		},
		"is gone": {
			func(_ context.Context, p *stack.OAuth) error { p.Stop(); return nil },
			func(ctx context.Context, p *stack.OAuth) error { return p.Start(ctx) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := begin(t)
			o := startOAuth(ctx, t, "outage-"+strings.ReplaceAll(name, " ", "-"), oauthManifests)
			known := make([]string, 60)
			for i := range known {
				known[i] = o.token(ctx, t, "jwt", "machine", nil)
			}
			until(ctx, t, http.StatusOK, func() (reply, error) { return o.me(ctx, jwtHost, known[0]) }, http.StatusServiceUnavailable)
			o.command(ctx, t, "rotate")
			strange := map[string]string{
				jwtHost:    o.token(ctx, t, "jwt", "machine", nil), // of a key that Usher has not seen
				opaqueHost: o.token(ctx, t, "opaque", "machine", nil),
			}
			if err := sick.begin(ctx, o.provider); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = o.provider.Thaw() })

			var mu sync.Mutex
			next := 0
			load := o.crowd(ctx, jwtHost, func(int) string { // cached ones and fresh ones
				mu.Lock()
				defer mu.Unlock()
				next++
				return known[next%len(known)]
			})
			load.passed(ctx, t, 50)
			for range 3 {
				for host, token := range strange {
					r, err := o.me(ctx, host, token)
					if err != nil {
						t.Fatal(err)
					}
					// After its own timeout Envoy answers 503 too, but with neither of the two: Usher was earlier.
					if r.status != http.StatusServiceUnavailable || r.header.Get("Retry-After") == "" || !strings.Contains(string(r.body), `"detail"`) {
						t.Errorf("%s: got %d with Retry-After %q and %q, want Usher's 503", host, r.status, r.header.Get("Retry-After"), r.body)
					}
				}
				load.passed(ctx, t, 50)
			}
			load.end(t)
			if err := sick.end(ctx, o.provider); err != nil {
				t.Fatal(err)
			}
			// A provider that is started anew has forgotten its keys and its tokens.
			if name == "is gone" {
				strange[jwtHost], strange[opaqueHost] = o.token(ctx, t, "jwt", "machine", nil), o.token(ctx, t, "opaque", "machine", nil)
			}
			for host, token := range strange {
				until(ctx, t, http.StatusOK, func() (reply, error) { return o.me(ctx, host, token) }, http.StatusServiceUnavailable)
			}
		})
	}
}
