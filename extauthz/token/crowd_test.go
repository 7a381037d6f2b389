package token

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/usher-authz/usher/extauthz/token/tokentest"
	"github.com/usher-authz/usher/policy"
)

// TestStrangersTokensOpenNoBreaker: a provider that answers, but not about whatever a stranger calls a token, is asked about
// the users' tokens all the same.
func TestStrangersTokensOpenNoBreaker(t *testing.T) {
	for _, status := range []int{400, 401, 403, 413, 414, 431, 500} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := tokentest.New(issuer)
				i := introspector(t, p)
				p.Opaque("first", p.Good())
				p.Opaque("second", p.Good())
				expect(t, i, bearer("first"), policy.Allow)
				p.Say(tokentest.Introspection, tokentest.Answer{Status: status, Body: "Request Header Fields Too Large"})
				for n := range 2 * breakAfter {
					expect(t, i, bearer(fmt.Sprint("../../etc/passwd", n)), policy.Unavailable)
				}
				p.Truth(tokentest.Introspection)
				expect(t, i, bearer("second"), policy.Allow)
			})
		})
	}
	t.Run("a_sick_provider_is_left_alone", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := tokentest.New(issuer)
			i := introspector(t, p)
			p.Opaque("first", p.Good())
			expect(t, i, bearer("first"), policy.Allow)
			p.Say(tokentest.Introspection, tokentest.Answer{Status: 503})
			for n := range 10 * breakAfter {
				expect(t, i, bearer(fmt.Sprint("opaque", n)), policy.Unavailable)
			}
			if n := p.Hits(tokentest.Introspection); n > breakAfter+1 {
				t.Errorf("asked %d times", n)
			}
		})
	})
}

// TestSeveralProvidersThatHangAreAnsweredInTime: Envoy waits 200 ms for an answer, and takes none for its own.
func TestSeveralProvidersThatHangAreAnsweredInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two, three := tokentest.New("https://one.test"), tokentest.New("https://two.test"), tokentest.New("https://three.test")
		three.Opaque("known", three.Good())
		v := Choose(introspector(t, one), introspector(t, two), introspector(t, three))
		expect(t, v, bearer("known"), policy.Allow)
		one.Say(tokentest.Introspection, tokentest.Answer{Stall: true})
		two.Say(tokentest.Introspection, tokentest.Answer{Stall: true})
		start := time.Now()
		expect(t, v, bearer("strange"), policy.Unavailable)
		if took := time.Since(start); took > answerWait {
			t.Errorf("took %v", took)
		}
		time.Sleep(askRefuse) // the first two have forgotten that they do not know it
		start = time.Now()
		expect(t, v, bearer("known"), policy.Allow)
		if took := time.Since(start); took > 0 {
			t.Errorf("took %v", took)
		}
		time.Sleep(time.Second)
	})
}

// TestALateClockAndAnUnknownKeyAreOneWait: after the process slept, with a provider that hangs.
func TestALateClockAndAnUnknownKeyAreOneWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, other := tokentest.New(issuer, keyOf("ES256", 1)), tokentest.New(issuer, keyOf("ES256", 2))
		ctx, cancel := context.WithCancel(t.Context())
		var slept atomic.Int64
		c := config(t, p)
		c.Now = func() time.Time { return time.Now().Add(time.Duration(slept.Load())) }
		j, err := NewJWT(c)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() { j.Run(ctx); close(done) }()
		synctest.Wait()
		expect(t, j, bearer(p.Mint()), policy.Allow)
		slept.Store(int64(time.Hour))
		p.Say(tokentest.Discovery, tokentest.Answer{Stall: true})
		p.Say(tokentest.JWKS, tokentest.Answer{Stall: true})
		exp := claims{"exp": c.Now().Unix() + 600}
		start := time.Now()
		expect(t, j, bearer(other.Mint(exp)), policy.Unavailable)
		if took := time.Since(start); took > askWait {
			t.Errorf("took %v", took)
		}
		expect(t, j, bearer(p.Mint(exp)), policy.Allow)
		cancel()
		<-done
	})
}

// TestTheNonceOfOneOfSeveralProvidersIsTold: those that are asked after it know nothing of the token, and would say so.
func TestTheNonceOfOneOfSeveralProvidersIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := keyOf("ES256", 5)
		one, two := tokentest.New("https://one.test"), tokentest.New("https://two.test")
		one.Opaque("opaque", one.Good(claims{"cnf": claims{"jkt": key.Thumbprint()}}))
		c := config(t, one)
		c.Introspection = &Introspection{Endpoint: one.Issuer + tokentest.Introspection, ClientID: tokentest.ClientID, ClientSecret: tokentest.ClientSecret}
		c.Proof.Nonces = true
		first, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		v := Choose(first, introspector(t, two))
		proof := tokentest.Proof(key, "GET", target, "opaque", time.Now()).String()
		_, err = v.Verify(t.Context(), Credential{Scheme: "DPoP", Token: "opaque", Proofs: []string{proof}, Method: "GET", URL: target})
		var r *policy.Refusal
		if !errors.As(err, &r) || r.Outcome != policy.Unauthenticated || r.Nonce == "" {
			t.Errorf("got %v", err)
		}
		if n := two.Hits(tokentest.Introspection); n != 0 {
			t.Errorf("the token of the first was shown to the second %d times", n)
		}
	})
}

// TestNothingThatAProviderAnswersEndsTheProcess: keys are fetched where nobody else would catch a panic.
func TestNothingThatAProviderAnswersEndsTheProcess(t *testing.T) {
	j, err := NewJWT(config(t, tokentest.New(issuer)))
	if err != nil {
		t.Fatal(err)
	}
	j.keys.fetch.http = &http.Client{Transport: spoken(func(*http.Request) *http.Response { panic("a bug in a parser") })}
	if _, err := j.keys.attempt(t.Context(), ""); err == nil || err.Error() != "fetch keys: panic of type string" {
		t.Errorf("got %v", err)
	}
}
