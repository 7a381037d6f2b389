package extauthz

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/extauthz/token/tokentest"
	"github.com/usher-authz/usher/policy"
)

// line is the way to a provider, which may be cut.
type line struct {
	to  http.RoundTripper
	cut atomic.Bool
}

func (l *line) RoundTrip(r *http.Request) (*http.Response, error) {
	if l.cut.Load() {
		return nil, errors.New("connection refused")
	}
	return l.to.RoundTrip(r)
}

// TestA_sick_provider_refuses_nobody_whose_key_is_known: for a minute of load the provider is sick in one way or another.
// Tokens with known keys pass all the time, others get 503 with Retry-After within 200 ms, the provider is left in peace, and
// it recovers without a restart.
func TestA_sick_provider_refuses_nobody_whose_key_is_known(t *testing.T) {
	const minute = time.Minute
	both := func(p *tokentest.Provider, a tokentest.Answer) {
		p.Say(tokentest.Discovery, a)
		p.Say(tokentest.JWKS, a)
	}
	for name, sick := range map[string]func(*tokentest.Provider, *line){
		"stopped": func(_ *tokentest.Provider, l *line) { l.cut.Store(true) },
		"hanging": func(p *tokentest.Provider, _ *line) { both(p, tokentest.Answer{Stall: true}) },
		"500":     func(p *tokentest.Provider, _ *line) { both(p, tokentest.Answer{Status: 500, Body: "oops"}) },
		"HTML": func(p *tokentest.Provider, _ *line) {
			both(p, tokentest.Answer{Header: http.Header{"Content-Type": {"text/html"}}, Body: "<html>maintenance</html>"})
		},
		"redirects": func(p *tokentest.Provider, _ *line) {
			both(p, tokentest.Answer{Status: 302, Header: http.Header{"Location": {"https://elsewhere.test/"}}})
		},
		"50 MB": func(p *tokentest.Provider, _ *line) {
			both(p, tokentest.Answer{Body: `{"keys":[` + strings.Repeat(" ", 50<<20) + `]}`})
		},
		"an empty key set": func(p *tokentest.Provider, _ *line) { p.Say(tokentest.JWKS, tokentest.Answer{Body: `{"keys":[]}`}) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := tokentest.New("https://idp.test", tokentest.NewKey("one", "ES256"))
				way := &line{to: tokentest.Transport(p)}
				s, state := outageServer(t, p, way)
				defer state.Stop(nil)
				state.Start(t.Context())
				synctest.Wait()
				known := func() string {
					return p.Mint(tokentest.Claims{"scope": "items:read", "exp": time.Now().Add(time.Hour).Unix()})
				}
				cached := known()
				if got := statusOf(do(t, s, check(cached))); got != 200 {
					t.Fatalf("before: %d", got)
				}

				sick(p, way)
				minted := make([]string, 100) // with the known key, not seen before
				for i := range minted {
					minted[i] = known()
				}
				p.Publish(tokentest.NewKey("two", "ES256")) // signs from now on, and cannot be fetched
				strange := known()
				before := p.Hits(tokentest.Discovery) + p.Hits(tokentest.JWKS)

				var wg sync.WaitGroup
				load := func(every time.Duration, text func(i int) string, judge func(status int, retryAfter string, took time.Duration) bool) {
					wg.Go(func() {
						for i := 0; time.Duration(i)*every < minute; i++ {
							start := time.Now()
							r, err := s.Check(context.Background(), check(text(i)))
							if err != nil {
								t.Error(err)
								return
							}
							if took := time.Since(start); !judge(statusOf(r), headerOf(r.GetDeniedResponse().GetHeaders(), "retry-after"), took) {
								t.Errorf("after %v: %d, retry-after %q, took %v", time.Duration(i)*every, statusOf(r), headerOf(r.GetDeniedResponse().GetHeaders(), "retry-after"), took)
								return
							}
							time.Sleep(every)
						}
					})
				}
				passes := func(status int, _ string, took time.Duration) bool { return status == 200 && took == 0 }
				waits := func(status int, after string, took time.Duration) bool {
					return status == 503 && after != "" && took < 200*time.Millisecond
				}
				for range 4 {
					load(100*time.Millisecond, func(int) string { return cached }, passes)
					load(50*time.Millisecond, func(int) string { return strange }, waits)
				}
				load(time.Second, func(i int) string { return minted[i] }, passes)
				wg.Wait()
				// A fetch for requests every ten seconds at most, and the retries of the background, which double.
				if fetches := p.Hits(tokentest.Discovery) + p.Hits(tokentest.JWKS) - before; fetches > 2*14 {
					t.Errorf("%d fetches within a minute", fetches)
				}

				way.cut.Store(false)
				p.Truth(tokentest.Discovery)
				p.Truth(tokentest.JWKS)
				time.Sleep(90 * time.Second)
				for _, text := range []string{cached, strange, known()} {
					if got := statusOf(do(t, s, check(text))); got != 200 {
						t.Errorf("after the recovery: %d", got)
					}
				}
			})
		})
	}
}

// TestA_rotation_refuses_no_good_token: a new key signs at once when it is published, again and again under load, and the
// old one is withdrawn ten minutes later.
func TestA_rotation_refuses_no_good_token(t *testing.T) {
	keys := []*tokentest.Key{tokentest.NewKey("0", "ES256"), tokentest.NewKey("1", "ES256"), tokentest.NewKey("2", "ES256"), tokentest.NewKey("3", "ES256")}
	synctest.Test(t, func(t *testing.T) {
		p := tokentest.New("https://idp.test", keys[0])
		s, state := outageServer(t, p, tokentest.Transport(p))
		defer state.Stop(nil)
		state.Start(t.Context())
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		checked := 0
		wg.Go(func() {
			for ctx.Err() == nil {
				text := p.Mint(tokentest.Claims{"scope": "items:read"})
				for range 2 { // never seen before, and seen
					if got := statusOf(do(t, s, check(text))); got != 200 {
						t.Errorf("a good token got %d", got)
						return
					}
					checked++
				}
				time.Sleep(500 * time.Millisecond)
			}
		})
		for i := 1; i < len(keys); i++ {
			time.Sleep(time.Minute)
			old := p.Mint(tokentest.Claims{"scope": "items:read", "exp": time.Now().Add(time.Hour).Unix()})
			p.Publish(keys[i])
			time.Sleep(10 * time.Minute)
			if got := statusOf(do(t, s, check(old))); got != 200 {
				t.Errorf("a token of the older key, still published, got %d", got)
			}
			p.Withdraw(keys[i-1].ID)
			time.Sleep(6 * time.Minute)
			if got := statusOf(do(t, s, check(old))); got != 401 {
				t.Errorf("a token of a withdrawn key got %d", got)
			}
		}
		cancel()
		wg.Wait()
		if checked < 10_000 {
			t.Errorf("only %d checks", checked)
		}
	})
}

// outageServer is a server whose one provider is reached by the transport.
func outageServer(t *testing.T, p *tokentest.Provider, way http.RoundTripper) (*Server, *State) {
	t.Helper()
	s, m, _ := newServer(t)
	base := testStateFor(t, m.jwks(t))
	mapping, err := policy.NewMapping(policy.MappingSource{Permissions: policy.Text{Text: `claims.scope.split(" ")`}})
	if err != nil {
		t.Fatal(err)
	}
	state, err := Build(nil, base.Policies, map[string]token.Config{
		"p": {Name: "p", Issuer: p.Issuer, Audiences: []string{tokentest.Audience}, Identity: mapping, Transport: way, Fingerprint: rand.Text()},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Swap(state)
	return s, state
}
