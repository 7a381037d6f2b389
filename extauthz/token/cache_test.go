package token

import (
	"context"
	"encoding/base64"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/usher-authz/usher/extauthz/token/tokentest"
	"github.com/usher-authz/usher/policy"
)

// ordinary are claims as a common provider issues them.
func ordinary(p *tokentest.Provider) tokentest.Claims {
	return p.Good(claims{
		"sub": "7f3c2a0e-7a0d-4a39-9d0e-0f3b8c9a1f22", "azp": "chat", "name": "Alice Example", "email": "alice@example.com",
		"exp": time.Now().Add(time.Hour).Unix(), "scope": "openid threads:read threads:write", "sid": "5b0b8c0e-8f1c-4f0e-a4f2-8f3d7f8f8a10",
	})
}

// TestTheWarmPathDoesNotAllocate guards what a request with a token that was seen before costs.
func TestTheWarmPathDoesNotAllocate(t *testing.T) {
	p := tokentest.New(issuer, keyOf("ES256", 1))
	other := inline(t, tokentest.New("https://other.test", keyOf("ES256", 2)))
	j := inline(t, p)
	for name, v := range map[string]Verifier{"one provider": j, "two providers": Choose(other, j)} {
		c := bearer(p.Mint())
		ctx := context.Background()
		allocations := testing.AllocsPerRun(1000, func() {
			if _, err := v.Verify(ctx, c); err != nil {
				t.Fatal(err)
			}
		})
		if allocations > 0 {
			t.Errorf("%s: %v allocations", name, allocations)
		}
	}
}

// shared is a verifier of tokens that cost little to sign.
func shared(t testing.TB) *JWT {
	p := tokentest.New(issuer, keyOf("HS256", 1))
	return inline(t, p, func(c *Config) { c.JWKS, c.SharedSecret = nil, keyOf("HS256", 1).Secret })
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// crowd has the verifier see n different good tokens, and returns the first of them.
func crowd(t testing.TB, j *JWT, n int) (first string) {
	p := tokentest.New(issuer, keyOf("HS256", 1))
	token := p.Token(ordinary(p))
	for i := range n {
		token.Claims["jti"] = fmt.Sprint("5b0b8c0e-8f1c-4f0e-a4f2-8f3d7f8", i)
		text := token.String()
		if i == 0 {
			first = text
		}
		if _, err := j.Verify(context.Background(), bearer(text)); err != nil {
			t.Fatal(err)
		}
	}
	return first
}

// flood has it see n different tokens of which each has a bad signature.
func flood(t testing.TB, j *JWT, n int) {
	p := tokentest.New(issuer, keyOf("HS256", 2))
	token := p.Token(ordinary(p))
	head, _, _ := strings.Cut(token.String(), ".")
	payload := strings.Split(token.String(), ".")[1]
	for i := range n {
		signature := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%032d", i))
		if _, err := j.Verify(context.Background(), bearer(head+"."+payload+"."+signature)); err == nil {
			t.Fatal("a bad signature is accepted")
		}
	}
}

// TestTheMemoryOfTokensIsBounded: 100,000 tokens in 64 MB, whoever's they are, and bad ones leave nothing behind.
func TestTheMemoryOfTokensIsBounded(t *testing.T) {
	j := shared(t)
	before := heap()
	first := crowd(t, j, maxSigned)
	good := heap()
	used := float64(good-before) / (1 << 20)
	t.Logf("%d tokens: %.1f MiB, %.0f bytes each", maxSigned, used, float64(good-before)/maxSigned)
	if used > 48 { // the rest of 64 is for the process
		t.Errorf("%.1f MiB", used)
	}
	d := digestOf(first)
	if _, ok := j.cached(&d); ok {
		t.Error("the first token is still kept whole")
	}
	if j.cache.signedBy(&d) == nil {
		t.Error("the signature of the first token is forgotten")
	}
	flood(t, j, 50_000)
	if grown := (float64(heap()) - float64(good)) / (1 << 20); grown > 1 {
		t.Errorf("bad tokens left %.1f MiB behind", grown)
	}
	runtime.KeepAlive(j)
}

// TestARememberedSignatureSavesNothingElse: of a token that was seen before, all but the signature is checked again.
func TestARememberedSignatureSavesNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := tokentest.New(issuer, keyOf("ES256", 1))
		cache, err := NewCache()
		if err != nil {
			t.Fatal(err)
		}
		j := running(t, p, func(c *Config) { c.Cache = cache })
		token := p.Mint(claims{"exp": time.Now().Add(time.Hour).Unix()})
		expect(t, j, bearer(token), policy.Allow)
		d := digestOf(token)
		forget := func() { cache.tokens.drop(&d) }

		forget()
		expect(t, j, bearer(token), policy.Allow)
		// A provider with another audience shares the memory, and accepts nothing for it.
		other := inline(t, p, func(c *Config) { c.Cache, c.Audiences = cache, []string{"another"} })
		expect(t, other, bearer(token), policy.Unauthenticated)
		expect(t, j, bearer(token), policy.Allow)
		// One with other keys does not take them for its own.
		stranger := inline(t, tokentest.New(issuer, keyOf("ES256", 2)), func(c *Config) { c.Cache = cache })
		forget()
		expect(t, stranger, bearer(token), policy.Unauthenticated)

		forget()
		p.Publish(keyOf("ES256", 3))
		p.Withdraw(keyOf("ES256", 1).ID)
		time.Sleep(10 * time.Minute)
		expect(t, j, bearer(token), policy.Unauthenticated)
		forget()
		time.Sleep(2 * time.Hour)
		expect(t, j, bearer(token), policy.Unauthenticated)
	})
}
