package lookup

import (
	"strings"
	"testing"

	"github.com/usher-authz/usher/policy"
)

func TestAKnownObjectCostsNoAllocation(t *testing.T) {
	c := start(t, &backend{answer: owned("alice")}, withoutDeadline)
	ctx := t.Context()
	ownerOf(t, c, thread)
	if n := testing.AllocsPerRun(100, func() {
		if o, err := c.Get(ctx, thread); err != nil || !o.Found {
			t.Error(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkGet(b *testing.B) {
	b.Run("known", func(b *testing.B) {
		c := start(b, &backend{answer: owned("alice")}, withoutDeadline, func(c *Config) { c.TTL = 1e15 })
		if _, err := c.Get(b.Context(), thread); err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := c.Get(b.Context(), thread); err != nil {
					b.Error(err)
				}
			}
		})
	})
	b.Run("unknown", func(b *testing.B) {
		c := start(b, &backend{answer: owned("alice")}, withoutDeadline, func(c *Config) { c.TTL = 1 })
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.Get(b.Context(), thread); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkRead reads a thread whose state is 4 MiB: only its head.
func BenchmarkRead(b *testing.B) {
	body := `{"thread_id":"` + id + `","metadata":{"owner":"alice"},"values":{"messages":[` + strings.Repeat(`{"a":"b"},`, 4<<20/10) + `{}]}}`
	b.ReportAllocs()
	for b.Loop() {
		if o, _, err := read(&reader{from: strings.NewReader(body), left: 4 << 20}, policy.Ref{ID: id, Member: "thread_id"}); err != nil || !o.Found {
			b.Fatal(err)
		}
	}
}
