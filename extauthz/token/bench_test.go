//go:build unix

package token

import (
	"context"
	"encoding/binary"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/usher-authz/usher/extauthz/token/tokentest"
)

// cpu is what this process has used: wall time says little on a machine that others use too.
func cpu(b *testing.B) float64 {
	b.Helper()
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		b.Fatal(err)
	}
	return float64(use.Utime.Nano() + use.Stime.Nano())
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
			start := cpu(b)
			for b.Loop() {
				if _, err := v.Verify(ctx, c); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric((cpu(b)-start)/float64(b.N)/1000, "cpu-us/op")
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
		t, err := parseCompact(token, nil)
		if err != nil {
			b.Fatal(err)
		}
		k := j.keys.set.Load().keys[0]
		var bare float64
		b.Run(alg+"/signature", func(b *testing.B) {
			b.ReportAllocs()
			start := cpu(b)
			for b.Loop() {
				if !k.verify(alg, t.input, t.signature) {
					b.Fatal("not verified")
				}
			}
			bare = (cpu(b) - start) / float64(b.N)
			b.ReportMetric(bare/1000, "cpu-us/op")
		})
		b.Run(alg+"/token", func(b *testing.B) {
			b.ReportAllocs()
			start := cpu(b)
			var d digest // another one each time, or the signature would be remembered
			for b.Loop() {
				binary.LittleEndian.PutUint64(d[:], binary.LittleEndian.Uint64(d[:])+1)
				if _, err := j.cold(context.Background(), token, &d, nil); err != nil {
					b.Fatal(err)
				}
			}
			mine := (cpu(b) - start) / float64(b.N)
			b.ReportMetric(mine/1000, "cpu-us/op")
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

// BenchmarkMemory reports what a cached token costs, and what a million bad ones leave behind.
func BenchmarkMemory(b *testing.B) {
	j := shared(b)
	before := heap()
	crowd(b, j, maxSigned)
	good := heap()
	flood(b, j, 1_000_000)
	left := heap()
	for b.Loop() {
		runtime.KeepAlive(j)
	}
	b.ReportMetric(float64(good-before)/(1<<20), "MiB-100k-tokens")
	b.ReportMetric(float64(good-before)/maxSigned, "B/token")
	b.ReportMetric((float64(left)-float64(good))/(1<<20), "MiB-after-1M-bad")
}
