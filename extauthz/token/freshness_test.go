package token

import (
	"context"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/usher-authz/usher/extauthz/token/tokentest"
	"github.com/usher-authz/usher/policy"
)

func TestFreshnessIsWhatTheAnswerSays(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"":                                     0,
		"public":                               0,
		"max-age=600":                          600 * time.Second,
		"Public , Max-Age = 600":               0, // no white space around the sign (RFC 9111, section 5.2)
		`max-age="600"`:                        600 * time.Second,
		"max-age=-1":                           0,
		"max-age=99999999999":                  0,
		"max-age=0":                            time.Second,
		"no-store":                             time.Nanosecond,
		"max-age=600, no-cache":                time.Nanosecond,
		"public, max-age=600, must-revalidate": 600 * time.Second,
	} {
		if got := freshness(http.Header{"Cache-Control": {text}}); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
	if got := freshness(http.Header{"Cache-Control": {"max-age=600"}, "Age": {"100"}}); got != 500*time.Second {
		t.Errorf("with an age: %v", got)
	}
	if got := freshness(http.Header{"Cache-Control": {"max-age=600"}, "Age": {"700"}}); got != time.Nanosecond {
		t.Errorf("with an age past it: %v", got)
	}
}

// TestKeysAreFetchedAsOftenAsTheProviderSaysWithinBounds counts fetches of a virtual hour.
func TestKeysAreFetchedAsOftenAsTheProviderSaysWithinBounds(t *testing.T) {
	for name, c := range map[string]struct {
		control     string
		least, most int
	}{
		"it does not say":         {"", 10, 13},
		"every second":            {"max-age=1", 54, 61},
		"never":                   {"no-store", 54, 61},
		"every ten minutes":       {"max-age=600", 5, 7},
		"once in a thousand days": {"max-age=86400000", 3, 5},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := tokentest.New(issuer, keyOf("ES256", 1))
				p.Say(tokentest.JWKS, tokentest.Answer{Header: http.Header{"Cache-Control": {c.control}}, Body: string(p.Set())})
				j := running(t, p)
				time.Sleep(time.Hour)
				if hits := p.Hits(tokentest.JWKS); hits < c.least || hits > c.most {
					t.Errorf("%d fetches, want %d to %d", hits, c.least, c.most)
				}
				expect(t, j, bearer(p.Mint()), policy.Allow)
			})
		})
	}
}

// TestAnAnswerWithoutChangeKeepsTheKeysFresh: 304 keeps the keys and counts as a success.
func TestAnAnswerWithoutChangeKeepsTheKeysFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := tokentest.New(issuer, keyOf("ES256", 1))
		full, unchanged := 0, 0
		counted := roundTrip(func(r *http.Request) (*http.Response, error) {
			w := httptest.NewRecorder()
			if !strings.HasSuffix(r.URL.Path, tokentest.JWKS) {
				p.ServeHTTP(w, r)
				return w.Result(), nil
			}
			w.Header().Set("ETag", `"1"`)
			if r.Header.Get("If-None-Match") == `"1"` {
				unchanged++
				w.WriteHeader(http.StatusNotModified)
				return w.Result(), nil
			}
			full++
			p.ServeHTTP(w, r)
			return w.Result(), nil
		})
		j := running(t, p, func(c *Config) { c.Transport, c.MaxStale = counted, time.Hour })
		time.Sleep(6 * time.Hour)
		expect(t, j, bearer(p.Mint()), policy.Allow)
		if full != 1 || unchanged < 60 {
			t.Errorf("fetched whole %d times, unchanged %d times", full, unchanged)
		}
	})
}

// TestAnUnaskedNotModifiedIsAFault: 304 to a request that named no etag is a fault of the provider.
func TestAnUnaskedNotModifiedIsAFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := tokentest.New(issuer, keyOf("ES256", 1))
		p.Say(tokentest.JWKS, tokentest.Answer{Status: http.StatusNotModified})
		expect(t, running(t, p), bearer(p.Mint()), policy.Unavailable)
	})
}

func TestAnEmptySetIsAFaultAndKeepsTheKeysUntilTheyAreStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := tokentest.New(issuer, keyOf("ES256", 1))
		j := running(t, p, func(c *Config) { c.MaxStale = time.Hour })
		day := claims{"exp": time.Now().Add(24 * time.Hour).Unix()}
		expect(t, j, bearer(p.Mint(day)), policy.Allow)
		p.Say(tokentest.JWKS, tokentest.Answer{Body: `{"keys":[]}`})
		time.Sleep(50 * time.Minute)
		expect(t, j, bearer(p.Mint(day)), policy.Allow)
		if st := j.Status(); !st.Ready || !strings.Contains(st.Problem, "no key that can verify") {
			t.Errorf("%+v", st)
		}
		time.Sleep(20 * time.Minute)
		expect(t, j, bearer(p.Mint(day)), policy.Unavailable)
		p.Truth(tokentest.JWKS)
		time.Sleep(2 * time.Minute)
		expect(t, j, bearer(p.Mint(day)), policy.Allow)
	})
}

// TestOnlyTheNamedAuthorityIsTrusted fetches keys over real TLS.
func TestOnlyTheNamedAuthorityIsTrusted(t *testing.T) {
	p := tokentest.New("", keyOf("ES256", 1))
	server := httptest.NewTLSServer(p)
	defer server.Close()
	p.Issuer = server.URL
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	fetched := func(ca []byte) error {
		f, err := newFetcher(Config{Name: "idp", CA: ca})
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		uri, err := f.discover(ctx, p.Issuer)
		if err != nil {
			return err
		}
		_, _, err = f.keys(ctx, uri, "")
		return err
	}
	if err := fetched(ca); err != nil {
		t.Errorf("with its authority: %v", err)
	}
	if err := fetched(nil); err == nil || !strings.Contains(err.Error(), "caRef") {
		t.Errorf("without: %v, want a hint at caRef", err)
	}
	if err := fetched([]byte("no PEM")); err == nil {
		t.Error("an authority without a certificate is accepted")
	}
}

// roundTrip is a transport.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
