package revocation

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/usher-authz/usher/extauthz/fair"
)

func listOf(t *testing.T, tenant string, b *Bounds) *List {
	t.Helper()
	l, err := New(Config{Provider: "idp", Issuer: "https://idp.test", URL: "redis://127.0.0.1:1", Tenant: tenant, Bounds: b})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// The lists of one tenant hold half of what all hold together, however many they are: one that has no room is full, which refuses
// its provider's tokens and nobody else's.
func TestListsOfOneTenantHoldHalf(t *testing.T) {
	b := &Bounds{entries: fair.NewRoom(20), scans: fair.NewRoom(allScans)}
	in := entry{before: always, expires: time.Now().Add(time.Hour).Unix()}
	first, second, other := listOf(t, "a", b), listOf(t, "a", b), listOf(t, "b", b)
	for i := range 8 {
		first.table.put(JTI, fmt.Sprint(i), in)
		first.table.put(JTI, fmt.Sprint(i), in) // is there
		second.table.put(JTI, fmt.Sprint(i), in)
		other.table.put(JTI, fmt.Sprint(i), in)
	}
	if n := first.table.size.Load() + second.table.size.Load(); n != 10 || !second.table.full.Load() || other.table.full.Load() || other.table.size.Load() != 8 {
		t.Errorf("the tenant's lists hold %d entries, the other's %d", n, other.table.size.Load())
	}
	// What expires and what is taken back is room again.
	first.table.drop(JTI, "0")
	first.table.drop(JTI, "none")
	second.table.sweep(time.Now().Add(2 * time.Hour))
	held := first.table.size.Load()
	for i := range 10 - held {
		second.table.put(JTI, fmt.Sprint(i), in)
	}
	if n := second.table.size.Load(); n != 10-held || b.entries.TryAcquire("a", 1) {
		t.Errorf("%d entries are held again, want %d", n, 10-held)
	}
	// And so is what a list held that is no more.
	runtime.KeepAlive(first)
	runtime.KeepAlive(second)
	first, second = nil, nil
	for !b.entries.TryAcquire("a", 10) {
		runtime.GC() // the test's own time limit ends it
	}
	runtime.KeepAlive(other)
}

// A list that never ends takes a third of the time of a turn, many such lists of one tenant no more than half of the turns, and
// whoever waits goes on following.
func TestReadingTakesTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBounds()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var now, most, hostile, tended atomic.Int64
		read := func() error {
			if n := now.Add(1); n > most.Load() {
				most.Store(n)
			}
			defer now.Add(-1)
			hostile.Add(1)
			time.Sleep(time.Millisecond) // its work
			return nil
		}
		tend := func() error { tended.Add(1); return nil }
		var group sync.WaitGroup
		for range 50 {
			l := listOf(t, "hostile", b)
			group.Go(func() {
				for l.round(ctx, tend, read) == nil {
				}
			})
		}
		synctest.Wait()
		victim := listOf(t, "victim", b)
		for i := range 100 {
			begin := time.Now()
			if err := victim.round(ctx, tend, func() error { return nil }); err != nil || time.Since(begin) > minRest {
				t.Fatalf("round %d of the other tenant: %v, after %v", i, err, time.Since(begin))
			}
		}
		group.Wait()
		if most.Load() > allScans/2 || hostile.Load() > 2*3334 {
			t.Errorf("%d rounds at once, %d in 10 s", most.Load(), hostile.Load())
		}
		if rounds := hostile.Load() + 100; tended.Load() < rounds-allScans { // the last ones were cut off
			t.Errorf("tended %d times in %d rounds", tended.Load(), rounds)
		}
		if !b.scans.TryAcquire("", allScans) {
			t.Error("not all turns were given back")
		}
	})
}

// Whoever waits for his turn and loses his server meanwhile gives up the turn.
func TestWhoWaitsForATurnGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBounds()
		for range allScans {
			if !b.scans.TryAcquire("", 1) {
				t.Fatal("no turn is free")
			}
		}
		l, n := listOf(t, "a", b), 0
		gone := fmt.Errorf("the server is gone")
		err := l.round(t.Context(), func() error {
			if n++; n == 3 {
				return gone
			}
			return nil
		}, func() error { t.Error("it had a turn"); return nil })
		if err != gone || n != 3 {
			t.Errorf("got %v after %d", err, n)
		}
		for range allScans {
			b.scans.Release("", 1)
		}
		if !b.scans.TryAcquire("", allScans) {
			t.Error("not all turns were given back")
		}
	})
}
