package token

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/usher-authz/usher/extauthz/token/tokentest"
	"github.com/usher-authz/usher/policy"
)

func introspector(t testing.TB, p *tokentest.Provider) *Asker {
	t.Helper()
	c := config(t, p)
	c.Introspection = &Introspection{Endpoint: p.Issuer + tokentest.Introspection, ClientID: tokentest.ClientID, ClientSecret: tokentest.ClientSecret}
	i, err := NewIntrospector(c)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestAnswersOfIntrospection(t *testing.T) {
	body := func(text string) *tokentest.Answer { return &tokentest.Answer{Body: text} }
	active := func(change claims) func(p *tokentest.Provider) claims {
		return func(p *tokentest.Provider) claims { return p.Good(change) }
	}
	sum := sha256.Sum256([]byte("certificate"))
	cases := []struct {
		name   string
		claims func(p *tokentest.Provider) claims
		answer *tokentest.Answer
		want   policy.Outcome
	}{
		{"active", active(nil), nil, policy.Allow},
		{"active_without_iss_and_exp", active(claims{"iss": nil, "exp": nil}), nil, policy.Allow},
		{"inactive", nil, nil, policy.Unauthenticated},
		{"inactive_with_claims", nil, body(`{"active":false,"iss":"` + issuer + `","aud":"api","sub":"alice"}`), policy.Unauthenticated},
		{"active_text", nil, body(`{"active":"true","aud":"api","sub":"alice"}`), policy.Unauthenticated},
		{"active_number", nil, body(`{"active":1,"aud":"api","sub":"alice"}`), policy.Unauthenticated},
		{"active_null", nil, body(`{"active":null,"aud":"api","sub":"alice"}`), policy.Unauthenticated},
		{"active_missing", nil, body(`{"aud":"api","sub":"alice"}`), policy.Unauthenticated},
		{"active_in_capitals", nil, body(`{"ACTIVE":true,"aud":"api","sub":"alice"}`), policy.Unauthenticated},
		{"active_twice", nil, body(`{"active":false,"active":true,"aud":"api","sub":"alice"}`), policy.Unavailable},
		{"exp_past", active(claims{"exp": 1}), nil, policy.Unauthenticated},
		{"exp_text", active(claims{"exp": "9999999999"}), nil, policy.Unauthenticated},
		{"nbf_ahead", active(claims{"nbf": time.Now().Unix() + 3600}), nil, policy.Unauthenticated},
		{"iss_of_another", active(claims{"iss": "https://other.test"}), nil, policy.Unauthenticated},
		{"aud_of_another", active(claims{"aud": "other"}), nil, policy.Unauthenticated},
		{"aud_missing", active(claims{"aud": nil}), nil, policy.Unauthenticated},
		{"sub_missing", active(claims{"sub": nil}), nil, policy.Unauthenticated},
		{"bound_to_a_certificate_that_is_not_shown", active(claims{"cnf": claims{"x5t#S256": tokentest.Base64(sum[:])}}), nil, policy.Unauthenticated},
		{"bound_to_a_key_that_proves_nothing", active(claims{"cnf": claims{"jkt": tokentest.Base64(sum[:])}}), nil, policy.Unauthenticated},
		{"of_type_DPoP_without_a_key", active(claims{"token_type": "DPoP"}), nil, policy.Unauthenticated},
		{"html", nil, body("<html>ok</html>"), policy.Unavailable},
		{"empty", nil, body(""), policy.Unavailable},
		{"list", nil, body("[true]"), policy.Unavailable},
		{"status_500", nil, &tokentest.Answer{Status: 500}, policy.Unavailable},
		{"status_401", nil, &tokentest.Answer{Status: 401}, policy.Unavailable},
		{"status_429", nil, &tokentest.Answer{Status: 429}, policy.Unavailable},
		{"redirect", nil, &tokentest.Answer{Status: 307, Header: http.Header{"Location": {"https://canary.test/introspect"}}}, policy.Unavailable},
		{"huge", nil, body(`{"active":true,"x":"` + strings.Repeat("x", 2<<20) + `"}`), policy.Unavailable},
		{"stalled", nil, &tokentest.Answer{Stall: true}, policy.Unavailable},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := tokentest.New(issuer)
			if c.claims != nil {
				p.Opaque("opaque", c.claims(p))
			}
			if c.answer != nil {
				p.Say(tokentest.Introspection, *c.answer)
			}
			canary := tokentest.New("https://canary.test")
			spec := config(t, p)
			spec.Introspection = &Introspection{Endpoint: p.Issuer + tokentest.Introspection, ClientID: tokentest.ClientID, ClientSecret: tokentest.ClientSecret}
			spec.Transport = tokentest.Transport(p, canary)
			i, err := New(spec)
			if err != nil {
				t.Fatal(err)
			}
			expect(t, i, bearer("opaque"), c.want)
			if n := canary.Hits("/introspect"); n != 0 {
				t.Errorf("canary asked %d times", n)
			}
		})
	}
}

func TestAnActiveAnswerIsGoodForAWhileAndNeverPastExp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := tokentest.New(issuer)
		i := introspector(t, p)
		p.Opaque("long", p.Good())
		expect(t, i, bearer("long"), policy.Allow)
		time.Sleep(askKeep - time.Second)
		p.Opaque("long", nil)
		expect(t, i, bearer("long"), policy.Allow)
		if n := p.Hits(tokentest.Introspection); n != 1 {
			t.Errorf("asked %d times", n)
		}
		time.Sleep(2 * time.Second)
		expect(t, i, bearer("long"), policy.Unauthenticated)

		p.Opaque("short", p.Good(claims{"exp": time.Now().Unix() + 5}))
		expect(t, i, bearer("short"), policy.Allow)
		p.Opaque("short", nil)
		time.Sleep(4 * time.Second)
		expect(t, i, bearer("short"), policy.Allow)
		time.Sleep(time.Second)
		expect(t, i, bearer("short"), policy.Unauthenticated)

		p.Opaque("skewed", p.Good(claims{"exp": time.Now().Unix() - 20})) // within the skew for ten seconds more, and never kept
		for range 5 {
			n := p.Hits(tokentest.Introspection)
			expect(t, i, bearer("skewed"), policy.Allow)
			if p.Hits(tokentest.Introspection) != n+1 {
				t.Error("an expired token was kept")
			}
			time.Sleep(2 * time.Second)
		}
		expect(t, i, bearer("skewed"), policy.Unauthenticated)
	})
}

// TestCacheForSaysHowLongAnAnswerIsGood: as the manifest says, for introspection and for userinfo, with and without exp.
func TestCacheForSaysHowLongAnAnswerIsGood(t *testing.T) {
	for name, c := range map[string]struct {
		keep time.Duration
		exp  time.Duration // 0: the answer has none
		want time.Duration
	}{
		"by_default":             {0, 0, askKeep},
		"longer":                 {5 * time.Minute, time.Hour, 5 * time.Minute},
		"longer_without_exp":     {5 * time.Minute, 0, 5 * time.Minute},
		"shorter":                {time.Second, time.Hour, time.Second},
		"shorter_without_exp":    {time.Second, 0, time.Second},
		"never_past_exp":         {5 * time.Minute, time.Minute, time.Minute},
		"never_past_a_brief_exp": {0, 2 * time.Second, 2 * time.Second},
	} {
		for _, userinfo := range []bool{false, true} {
			t.Run(fmt.Sprint(name, "/userinfo=", userinfo), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p := tokentest.New(issuer)
					spec := config(t, p)
					if userinfo {
						spec.Userinfo = &Userinfo{Endpoint: issuer + "/userinfo", CacheFor: c.keep}
					} else {
						spec.Introspection = &Introspection{Endpoint: issuer + tokentest.Introspection, ClientID: tokentest.ClientID, ClientSecret: tokentest.ClientSecret, CacheFor: c.keep}
					}
					v, err := New(spec)
					if err != nil {
						t.Fatal(err)
					}
					exp := ""
					if c.exp > 0 {
						exp = fmt.Sprintf(`,"exp":%d`, time.Now().Add(c.exp).Unix())
					}
					for _, endpoint := range []string{"/userinfo", tokentest.Introspection} {
						p.Say(endpoint, tokentest.Answer{Body: `{"active":true,"sub":"alice","aud":"api"` + exp + `}`})
					}
					expect(t, v, bearer("opaque"), policy.Allow)
					for _, endpoint := range []string{"/userinfo", tokentest.Introspection} {
						p.Say(endpoint, tokentest.Answer{Status: 500})
					}
					time.Sleep(c.want - time.Millisecond)
					expect(t, v, bearer("opaque"), policy.Allow)
					time.Sleep(time.Millisecond)
					expect(t, v, bearer("opaque"), policy.Unavailable)
				})
			})
		}
	}
}

// TestProvidersShareOneMemoryAndNoAnswer: one bound for all, and what one provider says of a token counts for no other.
func TestProvidersShareOneMemoryAndNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cache, err := NewCache()
		if err != nil {
			t.Fatal(err)
		}
		asker := func(p *tokentest.Provider) *Asker {
			c := config(t, p)
			c.Cache = cache
			c.Introspection = &Introspection{Endpoint: p.Issuer + tokentest.Introspection, ClientID: tokentest.ClientID, ClientSecret: tokentest.ClientSecret}
			i, err := NewIntrospector(c)
			if err != nil {
				t.Fatal(err)
			}
			return i
		}
		a, b := tokentest.New("https://a.test"), tokentest.New("https://b.test")
		first, second := asker(a), asker(b)
		a.Opaque("one", a.Good(claims{"iss": nil}))
		b.Opaque("two", b.Good(claims{"iss": nil}))
		for range 2 {
			expect(t, first, bearer("one"), policy.Allow)
			expect(t, second, bearer("one"), policy.Unauthenticated)
			expect(t, first, bearer("two"), policy.Unauthenticated)
			expect(t, second, bearer("two"), policy.Allow)
		}
		if x, y := a.Hits(tokentest.Introspection), b.Hits(tokentest.Introspection); x != 2 || y != 2 {
			t.Errorf("asked %d and %d times, want 2 and 2", x, y)
		}
		for n := range maxCached {
			p, i := a, first
			if n%2 == 1 {
				p, i = b, second
			}
			name := fmt.Sprint("token-", n)
			p.Say(tokentest.Introspection, tokentest.Answer{Body: fmt.Sprintf(`{"active":true,"sub":"user-%d","aud":"api"}`, n)})
			expect(t, i, bearer(name), policy.Allow)
		}
		kept := 0
		for n := range cache.tokens.shards {
			kept += cache.tokens.shards[n].entries.Len()
		}
		if kept > maxCached || kept < maxCached*9/10 {
			t.Errorf("%d tokens are kept", kept)
		}
	})
}

// TestBigAnswersAreBoundedByTheirWeight: a provider may put much into an answer.
func TestBigAnswersAreBoundedByTheirWeight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := tokentest.New(issuer)
		i := introspector(t, p)
		before := heap()
		for n := range 2000 {
			list := strings.Repeat(`{"a":1},`, 15_000)
			p.Say(tokentest.Introspection, tokentest.Answer{Body: fmt.Sprintf(`{"active":true,"sub":"user-%d","aud":"api","x":[%s1]}`, n, list[:8*(n%15_000)])})
			expect(t, i, bearer(fmt.Sprint("token-", n)), policy.Allow)
		}
		if used := float64(heap()-before) / (1 << 20); used > 40 {
			t.Errorf("%.1f MiB", used)
		} else {
			t.Logf("%.1f MiB", used)
		}
		weight, kept := 0, 0
		for n := range i.cache.tokens.shards {
			weight += i.cache.tokens.shards[n].weight
			kept += i.cache.tokens.shards[n].entries.Len()
		}
		if weight > maxWeight || kept == 0 {
			t.Errorf("%d tokens of weight %d", kept, weight)
		}
		runtime.KeepAlive(i)
	})
}

func TestAnInactiveAnswerIsRememberedBriefly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := tokentest.New(issuer)
		i := introspector(t, p)
		for range 100 {
			expect(t, i, bearer("nobody"), policy.Unauthenticated)
		}
		if n := p.Hits(tokentest.Introspection); n != 1 {
			t.Errorf("asked %d times", n)
		}
		p.Opaque("nobody", p.Good())
		time.Sleep(askRefuse)
		expect(t, i, bearer("nobody"), policy.Allow)
	})
}

func TestAFailureIsNeverRememberedAsARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := tokentest.New(issuer)
		i := introspector(t, p)
		p.Opaque("good", p.Good())
		p.Say(tokentest.Introspection, tokentest.Answer{Status: 500})
		expect(t, i, bearer("good"), policy.Unavailable)
		if i.Status().Problem == "" {
			t.Error("the status says nothing")
		}
		p.Truth(tokentest.Introspection)
		expect(t, i, bearer("good"), policy.Allow)
		if st := i.Status(); !st.Ready || st.Problem != "" {
			t.Errorf("%+v", st)
		}
	})
}

func TestManyRequestsWithOneTokenAskOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := tokentest.New(issuer)
		i := introspector(t, p)
		p.Opaque("good", p.Good())
		release := make(chan struct{})
		p.Say(tokentest.Introspection, tokentest.Answer{Stall: true, Release: release, Body: `{"active":true,"aud":"api","sub":"alice"}`})
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if got := verify(i, bearer("good")); got != policy.Allow {
					t.Errorf("got %v", got)
				}
			})
		}
		gone, leave := context.WithCancel(t.Context())
		all.Go(func() { // one that gives up takes nobody with it
			if _, err := i.Verify(gone, bearer("good")); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		})
		synctest.Wait()
		leave()
		synctest.Wait()
		close(release)
		all.Wait()
		if n := p.Hits(tokentest.Introspection); n != 1 {
			t.Errorf("asked %d times", n)
		}
	})
}

func TestAFloodWhileTheEndpointHangsIsAnsweredInTimeAndBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := tokentest.New(issuer)
		i := introspector(t, p)
		p.Say(tokentest.Introspection, tokentest.Answer{Stall: true})
		var all sync.WaitGroup
		for n := range 500 {
			all.Go(func() {
				start := time.Now()
				if got := verify(i, bearer(fmt.Sprint("opaque-", n))); got != policy.Unavailable {
					t.Errorf("got %v", got)
				}
				if d := time.Since(start); d > 200*time.Millisecond {
					t.Errorf("took %v", d)
				}
			})
		}
		all.Wait()
		if n := p.Hits(tokentest.Introspection); n > askSlots {
			t.Errorf("asked %d times", n)
		}
		// It failed often: for a moment nobody waits for it.
		start := time.Now()
		expect(t, i, bearer("one-more"), policy.Unavailable)
		if d := time.Since(start); d > 0 {
			t.Errorf("waited %v", d)
		}
		p.Truth(tokentest.Introspection)
		p.Opaque("good", p.Good())
		time.Sleep(breakFor + time.Millisecond)
		expect(t, i, bearer("good"), policy.Allow)
	})
}

func TestATokenThatNamesAnotherIssuerIsNotShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := tokentest.New(issuer, keyOf("ES256", 1))
		i := introspector(t, p)
		expect(t, i, bearer(p.Mint(claims{"iss": "https://other.test"})), policy.Unauthenticated)
		if n := p.Hits(tokentest.Introspection); n != 0 {
			t.Errorf("asked %d times", n)
		}
		own := p.Mint()
		p.Opaque(own, p.Good())
		expect(t, i, bearer(own), policy.Allow)
	})
}
