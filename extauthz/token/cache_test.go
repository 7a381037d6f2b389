package token

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/usher-authz/usher/extauthz/token/tokentest"
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

// TestAFullCacheIsSmall keeps the memory of verified tokens within what DESIGN promises.
func TestAFullCacheIsSmall(t *testing.T) {
	p := tokentest.New(issuer, keyOf("EdDSA", 1))
	j := inline(t, p)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	unsigned := parts{Header: claims{"alg": "EdDSA"}, Claims: ordinary(p)}
	before := heap()
	for i := range maxCached {
		unsigned.Claims["jti"] = fmt.Sprint("5b0b8c0e-8f1c-4f0e-a4f2-8f3d7f8", i)
		text := unsigned.String()
		t0, err := parseCompact(text, nil)
		if err != nil {
			t.Fatal(err)
		}
		v, err := j.admit(t0.claims, time.Now().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		d := digestOf(text)
		j.cache.put(&d, v)
	}
	after := heap()
	used := float64(after-before) / (1 << 20)
	t.Logf("%d tokens: %.1f MiB, %.0f bytes each", maxCached, used, float64(after-before)/maxCached)
	if used > 40 {
		t.Errorf("%.1f MiB", used)
	}
	runtime.KeepAlive(j)
}
