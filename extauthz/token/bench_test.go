package token

import (
	"context"
	"fmt"
	"runtime"
	"strings"
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

func BenchmarkWarm(b *testing.B) {
	p := tokentest.New(issuer, keyOf("RS256", 1))
	j := inline(b, p)
	token := p.Token(ordinary(p)).String()
	other := inline(b, tokentest.New("https://other.test", keyOf("ES256", 1)))
	for name, v := range map[string]Verifier{"one_provider": j, "two_providers": Choose(other, j)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			c := bearer(token)
			ctx := context.Background()
			for b.Loop() {
				if _, err := v.Verify(ctx, c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkWarmParallel(b *testing.B) {
	p := tokentest.New(issuer, keyOf("ES256", 1))
	j := inline(b, p)
	c := bearer(p.Mint())
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := j.Verify(context.Background(), c); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkCold verifies a token that was not seen before, and beside it only its signature: the ratio is what the rest
// costs.
func BenchmarkCold(b *testing.B) {
	for _, alg := range tokentest.Algorithms() {
		if strings.HasPrefix(alg, "HS") {
			continue
		}
		p := tokentest.New(issuer, keyOf(alg, 1))
		j := inline(b, p)
		token := p.Token(ordinary(p)).String()
		t, err := parseCompact(token)
		if err != nil {
			b.Fatal(err)
		}
		k := j.keys.set.Load().keys[0]
		var bare float64
		b.Run(alg+"/signature", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !k.verify(alg, t.input, t.signature) {
					b.Fatal("not verified")
				}
			}
			bare = float64(b.Elapsed().Nanoseconds()) / float64(b.N)
		})
		b.Run(alg+"/token", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := j.cold(context.Background(), token, nil); err != nil {
					b.Fatal(err)
				}
			}
			mine := float64(b.Elapsed().Nanoseconds()) / float64(b.N)
			b.ReportMetric((mine-bare)/1000, "us-above-signature")
			b.ReportMetric(mine/bare, "x-signature")
		})
	}
}

func BenchmarkRefused(b *testing.B) {
	p := tokentest.New(issuer, keyOf("ES256", 1))
	j := inline(b, p)
	for name, token := range map[string]string{"not_a_token": "x", "expired": p.Mint(claims{"exp": 1}), "dots": strings.Repeat(".", maxToken)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			c := bearer(token)
			for b.Loop() {
				if _, err := j.Verify(context.Background(), c); err == nil {
					b.Fatal("accepted")
				}
			}
		})
	}
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
		t0, err := parseCompact(text)
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
