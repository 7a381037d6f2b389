package token

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/usher-authz/usher/extauthz/token/tokentest"
	"github.com/usher-authz/usher/policy"
)

// running starts a verifier by discovery inside a bubble; it stops with the test.
func running(t *testing.T, p *tokentest.Provider, change ...func(*Config)) *JWT {
	t.Helper()
	c := config(t, p)
	for _, f := range change {
		f(&c)
	}
	j, err := NewJWT(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		j.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	synctest.Wait()
	return j
}

func TestKeysAreFetchedInTheBackgroundOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := tokentest.New(issuer, keyOf("ES256", 1))
		j, err := NewJWT(config(t, p))
		if err != nil {
			t.Fatal(err)
		}
		expect(t, j, bearer(p.Mint()), policy.Unavailable)
		expect(t, j, bearer("not-a-token"), policy.Unauthenticated) // whatever the keys are
		if st := j.Status(); st.Ready || st.Problem == "" || p.Hits(tokentest.Discovery) != 0 {
			t.Errorf("%+v, %d hits", st, p.Hits(tokentest.Discovery))
		}
		j = running(t, p)
		expect(t, j, bearer(p.Mint()), policy.Allow)
		if st := j.Status(); !st.Ready || st.Keys != 1 || st.Problem != "" || !st.Fetched.Equal(time.Now()) {
			t.Errorf("%+v", st)
		}
	})
}

func TestKeysCanComeFromAURI(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := tokentest.New(issuer, keyOf("ES256", 1))
		j := running(t, p, func(c *Config) { c.JWKSURI = issuer + tokentest.JWKS })
		expect(t, j, bearer(p.Mint()), policy.Allow)
		if p.Hits(tokentest.Discovery) != 0 {
			t.Error("discovery was asked")
		}
	})
}

func TestAProviderThatLiesIsNotTrustedAndNeverA401(t *testing.T) {
	redirect := func(to string) tokentest.Answer {
		return tokentest.Answer{Status: 302, Header: http.Header{"Location": {to}}}
	}
	document := func(issuer, uri string) tokentest.Answer {
		return tokentest.Answer{Body: fmt.Sprintf(`{"issuer":%q,"jwks_uri":%q}`, issuer, uri)}
	}
	for _, c := range []struct {
		name, endpoint string
		answer         tokentest.Answer
	}{
		{"the_issuer_of_another", tokentest.Discovery, document("https://other.test", issuer+tokentest.JWKS)},
		{"the_issuer_with_a_slash", tokentest.Discovery, document(issuer+"/", issuer+tokentest.JWKS)},
		{"no_issuer", tokentest.Discovery, tokentest.Answer{Body: `{"jwks_uri":"` + issuer + tokentest.JWKS + `"}`}},
		{"two_issuers", tokentest.Discovery, tokentest.Answer{Body: `{"issuer":"https://evil.test","issuer":"` + issuer + `","jwks_uri":"` + issuer + tokentest.JWKS + `"}`}},
		{"no_jwks_uri", tokentest.Discovery, tokentest.Answer{Body: `{"issuer":"` + issuer + `"}`}},
		{"jwks_uri_over_http", tokentest.Discovery, document(issuer, "http://canary.test/jwks")},
		{"jwks_uri_of_link_local", tokentest.Discovery, document(issuer, "http://169.254.169.254/latest/meta-data")},
		{"jwks_uri_of_a_file", tokentest.Discovery, document(issuer, "file:///jwks.json")},
		{"discovery_redirects", tokentest.Discovery, redirect("https://canary.test/jwks")},
		{"discovery_is_html", tokentest.Discovery, tokentest.Answer{Body: "<html>"}},
		{"discovery_is_refused", tokentest.Discovery, tokentest.Answer{Status: 403}},
		{"discovery_stalls", tokentest.Discovery, tokentest.Answer{Stall: true}},
		{"keys_redirect", tokentest.JWKS, redirect("https://canary.test/jwks")},
		{"keys_redirect_to_http", tokentest.JWKS, redirect("http://idp.test/jwks2")},
		{"keys_redirect_for_ever", tokentest.JWKS, redirect(issuer + tokentest.JWKS)},
		{"keys_are_refused", tokentest.JWKS, tokentest.Answer{Status: 500}},
		{"keys_are_html", tokentest.JWKS, tokentest.Answer{Body: "<html>"}},
		{"keys_are_a_list", tokentest.JWKS, tokentest.Answer{Body: "[]"}},
		{"keys_are_null", tokentest.JWKS, tokentest.Answer{Body: `{"keys":null}`}},
		{"no_keys", tokentest.JWKS, tokentest.Answer{Body: `{"keys":[]}`}},
		{"keys_twice", tokentest.JWKS, tokentest.Answer{Body: `{"keys":[],"keys":[]}`}},
		{"keys_of_two_megabytes", tokentest.JWKS, tokentest.Answer{Body: `{"keys":[],"x":"` + strings.Repeat("x", 2<<20) + `"}`}},
		{"keys_stall", tokentest.JWKS, tokentest.Answer{Stall: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, canary := tokentest.New(issuer, keyOf("ES256", 1)), tokentest.New("https://canary.test", keyOf("ES256", 1))
				p.Say(c.endpoint, c.answer)
				j := running(t, p, func(c *Config) { c.Transport = tokentest.Transport(p, canary) })
				start := time.Now()
				expect(t, j, bearer(p.Mint()), policy.Unavailable)
				if time.Since(start) > 150*time.Millisecond {
					t.Errorf("took %v", time.Since(start))
				}
				if canary.Hits("/jwks") != 0 || j.Status().Ready {
					t.Errorf("canary asked %d times; %+v", canary.Hits("/jwks"), j.Status())
				}
				p.Truth(c.endpoint)
				time.Sleep(15 * time.Second)
				expect(t, j, bearer(p.Mint()), policy.Allow)
			})
		})
	}
}

func TestFailuresAreRetriedWithBackoffAndSaidOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := tokentest.New(issuer, keyOf("ES256", 1))
		p.Say(tokentest.JWKS, tokentest.Answer{Status: 500})
		core, logs := observer.New(zapcore.InfoLevel)
		j := running(t, p, func(c *Config) { c.Logger = zap.New(core) })
		time.Sleep(time.Hour)
		if n := p.Hits(tokentest.JWKS); n < 40 || n > 75 {
			t.Errorf("%d attempts in an hour", n)
		}
		if logs.Len() != 1 {
			t.Errorf("%d lines: %v", logs.Len(), logs.All())
		}
		p.Truth(tokentest.JWKS)
		time.Sleep(2 * time.Minute)
		expect(t, j, bearer(p.Mint()), policy.Allow)
		if logs.Len() != 2 || logs.All()[1].Message != "keys fetched" {
			t.Errorf("%v", logs.All())
		}
	})
}

func TestKeysOutliveAnOutageUpToALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := tokentest.New(issuer, keyOf("ES256", 1))
		j := running(t, p)
		token := p.Mint(claims{"exp": time.Now().Unix() + 7*86400})
		expect(t, j, bearer(token), policy.Allow)
		p.Say(tokentest.JWKS, tokentest.Answer{Status: 500})
		p.Say(tokentest.Discovery, tokentest.Answer{Stall: true})
		for range 23 {
			time.Sleep(time.Hour)
			expect(t, j, bearer(token), policy.Allow)    // remembered
			expect(t, j, bearer(p.Mint()), policy.Allow) // new
		}
		time.Sleep(2 * time.Hour)
		expect(t, j, bearer(token), policy.Unavailable)
		expect(t, j, bearer(p.Mint()), policy.Unavailable)
		if j.Status().Ready {
			t.Error("still ready")
		}
	})
}

func TestAWithdrawnKeyIsDroppedForRememberedTokensToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, next := keyOf("ES256", 1), keyOf("ES256", 2)
		p := tokentest.New(issuer, old)
		j := running(t, p)
		token, other := p.Mint(claims{"exp": time.Now().Unix() + 86400}), p.Mint()
		expect(t, j, bearer(token), policy.Allow)
		p.Publish(next)
		p.Withdraw(old.ID)
		time.Sleep(6 * time.Minute)
		expect(t, j, bearer(token), policy.Unauthenticated)
		expect(t, j, bearer(other), policy.Unauthenticated)
		expect(t, j, bearer(p.Mint()), policy.Allow)
	})
}

func TestARefreshThatChangesNothingForgetsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := tokentest.New(issuer, keyOf("ES256", 1))
		j := running(t, p)
		token := p.Mint(claims{"exp": time.Now().Unix() + 86400})
		expect(t, j, bearer(token), policy.Allow)
		before := j.keys.set.Load()
		time.Sleep(time.Hour)
		after := j.keys.set.Load()
		d := digestOf(token)
		if v, ok := j.cached(&d); before == after || !ok || !after.has(v.key) {
			t.Error("the entry is not good any more")
		}
	})
}

func TestAKeyThatIsNewIsFoundWithinARequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := tokentest.New(issuer, keyOf("ES256", 1))
		j := running(t, p)
		p.Publish(keyOf("ES256", 2))
		expect(t, j, bearer(p.Mint()), policy.Allow)
		if d, k := p.Hits(tokentest.Discovery), p.Hits(tokentest.JWKS); d != 1 || k != 2 {
			t.Errorf("%d discoveries, %d fetches", d, k)
		}
	})
}

func TestAFloodOfUnknownKeysIsOneFetchPerInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := tokentest.New(issuer, keyOf("ES256", 1))
		j := running(t, p)
		flood := p.Token()
		flood.Key = keyOf("ES256", 2)
		n := 0
		send := func(times int) {
			var all sync.WaitGroup
			for range times {
				n++
				flood.Header = tokentest.With(flood.Header, claims{"kid": fmt.Sprint("unknown-", n)})
				token := flood.String()
				all.Go(func() { expect(t, j, bearer(token), policy.Unauthenticated) })
			}
			expect(t, j, bearer(p.Mint()), policy.Allow) // a good one meanwhile
			all.Wait()
		}
		send(300)
		if d, k := p.Hits(tokentest.Discovery), p.Hits(tokentest.JWKS); d != 1 || k != 2 {
			t.Errorf("%d discoveries, %d fetches", d, k)
		}
		for range 60 {
			time.Sleep(time.Second)
			send(5)
		}
		if k := p.Hits(tokentest.JWKS); k > 2+7 {
			t.Errorf("%d fetches in a minute", k)
		}
	})
}

func TestAnUnknownKeyIsNobodysFaultWhileTheProviderIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := tokentest.New(issuer, keyOf("ES256", 1))
		j := running(t, p)
		known := p.Mint()
		p.Publish(keyOf("ES256", 2))
		p.Say(tokentest.JWKS, tokentest.Answer{Stall: true})
		start := time.Now()
		expect(t, j, bearer(p.Mint()), policy.Unavailable) // waited for, in vain
		if d := time.Since(start); d != askWait {
			t.Errorf("waited %v", d)
		}
		time.Sleep(fetchTimeout + time.Second) // the fetch has failed
		start = time.Now()
		expect(t, j, bearer(p.Mint()), policy.Unavailable)
		expect(t, j, bearer(known), policy.Allow)
		if d := time.Since(start); d > askWait {
			t.Errorf("waited %v", d)
		}
		p.Say(tokentest.JWKS, tokentest.Answer{Status: 503})
		time.Sleep(2 * time.Minute)
		expect(t, j, bearer(p.Mint()), policy.Unavailable)
		p.Truth(tokentest.JWKS)
		time.Sleep(2 * time.Minute)
		expect(t, j, bearer(p.Mint()), policy.Allow)
	})
}

func TestAnUnknownKeyRightAfterAFetchThatFailedIsNobodysFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := tokentest.New(issuer, keyOf("ES256", 1))
		j := running(t, p)
		p.Publish(keyOf("ES256", 2))
		p.Say(tokentest.JWKS, tokentest.Answer{Status: 500})
		for range 3 {
			start := time.Now()
			expect(t, j, bearer(p.Mint()), policy.Unavailable)
			if d := time.Since(start); d > 0 {
				t.Errorf("waited %v", d)
			}
		}
	})
}

// endless answers with a body that has no end, and counts what is read of it.
type endless struct{ read int }

func (e *endless) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Request: r, Body: io.NopCloser(e), Header: http.Header{}}, nil
}

func (e *endless) Read(b []byte) (int, error) {
	if e.read += len(b); e.read > 16<<20 {
		return 0, io.EOF
	}
	return len(b), nil
}

func TestNoMoreThanAMegabyteIsReadOfAnAnswer(t *testing.T) {
	e := &endless{}
	f, err := newFetcher(Config{Transport: e})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.get(t.Context(), issuer, ""); err == nil || e.read > 2<<20 {
		t.Errorf("read %d bytes: %v", e.read, err)
	}
}

func TestACallerThatGivesUpWaitsForNoKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := tokentest.New(issuer, keyOf("ES256", 1))
		j := running(t, p)
		p.Publish(keyOf("ES256", 2))
		p.Say(tokentest.JWKS, tokentest.Answer{Stall: true})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		start := time.Now()
		id, err := j.Verify(ctx, bearer(p.Mint()))
		if got := outcome(id, err); got != policy.Unavailable || time.Since(start) != 20*time.Millisecond {
			t.Errorf("got %v after %v", got, time.Since(start))
		}
	})
}

func TestAClockThatJumpsAsksForKeysBeforeItTrustsThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := tokentest.New(issuer, keyOf("ES256", 1), keyOf("ES256", 2))
		var ahead time.Duration
		j := running(t, p, func(c *Config) { c.Now = func() time.Time { return time.Now().Add(ahead) } })
		token := p.Mint(claims{"exp": time.Now().Unix() + 86400})
		expect(t, j, bearer(token), policy.Allow)
		p.Withdraw(keyOf("ES256", 2).ID)
		ahead = time.Hour // the machine slept: no timer has run
		expect(t, j, bearer(token), policy.Unauthenticated)

		token = p.Mint(claims{"exp": time.Now().Unix() + 86400})
		expect(t, j, bearer(token), policy.Allow)
		p.Say(tokentest.JWKS, tokentest.Answer{Status: 500})
		ahead = 2 * time.Hour
		expect(t, j, bearer(token), policy.Allow) // cannot be asked: what is known is good
	})
}

func TestProvidersDoNotHoldEachOtherUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := tokentest.New("https://a.test", keyOf("ES256", 1)), tokentest.New("https://b.test", keyOf("ES256", 2))
		b.Say(tokentest.Discovery, tokentest.Answer{Stall: true})
		v := Choose(running(t, a), running(t, b))
		start := time.Now()
		expect(t, v, bearer(a.Mint()), policy.Allow)
		expect(t, v, bearer(b.Mint()), policy.Unavailable)
		if time.Since(start) > 0 {
			t.Errorf("took %v", time.Since(start))
		}
	})
}

func TestOneBadKeyDoesNotSpoilTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := tokentest.New(issuer, keyOf("ES256", 1))
		p.PublishRaw(claims{"kty": "oct", "kid": "o1", "k": "AA"})
		p.PublishRaw(claims{"kty": "RSA", "kid": "bad", "n": "!", "e": "AQAB"})
		p.PublishRaw(7)
		expect(t, running(t, p), bearer(p.Mint()), policy.Allow)
	})
}

// Strangers who name unknown keys, one in each interval, must not keep Usher from reading the discovery document again.
func TestUnknownKeysDoNotKeepDiscoveryFromBeingRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		withdrawn, fresh := keyOf("ES256", 1), keyOf("ES256", 2)
		p := tokentest.New(issuer, withdrawn)
		j := running(t, p)
		// The issuer moves its keys, and the old document is still served.
		p.Say(tokentest.Discovery, tokentest.Answer{Body: `{"issuer":"` + issuer + `","jwks_uri":"` + issuer + `/jwks2"}`})
		p.Say("/jwks2", tokentest.Answer{Body: string(tokentest.New(issuer, fresh).Set())})
		stranger := tokentest.New(issuer, keyOf("ES256", 3))
		for range 5 {
			time.Sleep(4 * time.Minute)
			_, _ = j.Verify(t.Context(), bearer(stranger.Mint()))
			synctest.Wait()
		}
		if got := verify(j, bearer(p.Mint())); got != policy.Unauthenticated {
			t.Errorf("a token of the withdrawn key: %v", got)
		}
		if got := verify(j, bearer(tokentest.New(issuer, fresh).Mint())); got != policy.Allow {
			t.Errorf("a token of the new key: %v", got)
		}
	})
}

// TestKeysThatFollowOneAnotherAreAllFound: each signs at once when it is published, and no good token is refused: it is
// answered at once, or, within a second of the rotation before, told to come again.
func TestKeysThatFollowOneAnotherAreAllFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := tokentest.New(issuer, keyOf("ES256", 1))
		j := running(t, p)
		for n := 2; n <= 6; n++ {
			p.Publish(keyOf("ES256", n))
			expect(t, j, bearer(p.Mint()), policy.Allow)
			time.Sleep(askAgain)
		}
		// Faster than that: 503, which is not kept.
		p.Publish(keyOf("ES256", 7))
		expect(t, j, bearer(p.Mint()), policy.Allow)
		p.Publish(keyOf("ES256", 8))
		token := p.Mint()
		expect(t, j, bearer(token), policy.Unavailable)
		time.Sleep(askAgain)
		expect(t, j, bearer(token), policy.Allow)
		if k := p.Hits(tokentest.JWKS); k != 8 {
			t.Errorf("%d fetches for 8 keys", k)
		}
	})
}

// TestStrangersKeepANewKeyOutForAnIntervalAtMost: unknown keys without end, and beside them a key that signs at once when
// it is published.
func TestStrangersKeepANewKeyOutForAnIntervalAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := tokentest.New(issuer, keyOf("ES256", 1))
		j := running(t, p)
		stranger := p.Token()
		stranger.Key = keyOf("ES256", 9)
		stop := make(chan struct{})
		var all sync.WaitGroup
		all.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				case <-time.After(50 * time.Millisecond):
				}
				stranger.Header = tokentest.With(stranger.Header, claims{"kid": fmt.Sprint("unknown-", n)})
				if got := verify(j, bearer(stranger.String())); got == policy.Allow {
					t.Error("a stranger is let in")
				}
			}
		})
		for n := 2; n <= 12; n++ {
			time.Sleep(30*time.Second + time.Duration(n)*1370*time.Millisecond) // each time at another moment between two fetches
			p.Publish(keyOf("ES256", n))
			published, hits := time.Now(), p.Hits(tokentest.JWKS)
			for verify(j, bearer(p.Mint())) != policy.Allow {
				time.Sleep(100 * time.Millisecond)
			}
			t.Logf("key %d was found after %v", n, time.Since(published))
			if d := time.Since(published); d > askEvery+askWait {
				t.Errorf("key %d was found after %v", n, d)
			}
			if k := p.Hits(tokentest.JWKS) - hits; k > 2 {
				t.Errorf("%d fetches", k)
			}
		}
		close(stop)
		all.Wait()
	})
}

// TestAnIssuerWithAnotherKeyInEachAnswerIsNotAskedForEach: its replicas each have keys of their own, say.
func TestAnIssuerWithAnotherKeyInEachAnswerIsNotAskedForEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := tokentest.New(issuer, keyOf("ES256", 1))
		j := running(t, p)
		stranger := p.Token()
		stranger.Key = keyOf("ES256", 9)
		for n := range 600 {
			p.Withdraw(keyOf("ES256", 2+n%2).ID)
			p.Publish(keyOf("ES256", 3-n%2))
			stranger.Header = tokentest.With(stranger.Header, claims{"kid": fmt.Sprint("unknown-", n)})
			_ = verify(j, bearer(stranger.String()))
			time.Sleep(100 * time.Millisecond)
		}
		if k := p.Hits(tokentest.JWKS); k > 62 {
			t.Errorf("%d fetches in a minute", k)
		}
	})
}
