package fair

import (
	"context"
	"errors"
	"sync"
	"testing"
)

func TestRoom(t *testing.T) {
	r := NewRoom(8)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	// One tenant gets half, and what it waits for keeps nobody else waiting.
	for range 4 {
		if err := r.Acquire(t.Context(), "a", 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Acquire(over, "a", 1); !errors.Is(err, context.Canceled) {
		t.Errorf("a fifth of 8: %v", err)
	}
	waiting := make(chan error)
	go func() { waiting <- r.Acquire(t.Context(), "a", 4) }()
	// Another one gets the other half, though it asks for more, and then nothing is left for anybody.
	if !r.TryAcquire("b", 100) {
		t.Error("there is room for b")
	}
	for _, tenant := range []string{"", "b", "c"} {
		if r.TryAcquire(tenant, 1) {
			t.Errorf("%q gets what is not there", tenant)
		}
	}
	r.Release("b", 100)
	for range 4 {
		r.Release("a", 1)
	}
	if err := <-waiting; err != nil {
		t.Error(err)
	}
	r.Release("a", 4)
	// Whoever runs Usher may have it all.
	if !r.TryAcquire("", 8) || r.TryAcquire("a", 1) {
		t.Error("the operator's own is not the whole")
	}
	r.Release("", 8)
	if len(r.shares) > 0 {
		t.Errorf("%d tenants are remembered that have nothing", len(r.shares))
	}
}

func TestRoomIsWholeAfterwards(t *testing.T) {
	r := NewRoom(16)
	var group sync.WaitGroup
	for _, tenant := range []string{"", "a", "b", "c"} {
		for n := range int64(8) {
			group.Go(func() {
				for i := range 200 {
					ctx, cancel := context.WithCancel(t.Context())
					if i%3 == 0 {
						cancel()
					}
					if r.Acquire(ctx, tenant, n) == nil {
						r.Release(tenant, n)
					}
					cancel()
					if r.TryAcquire(tenant, n) {
						r.Release(tenant, n)
					}
				}
			})
		}
	}
	group.Wait()
	if !r.TryAcquire("", 16) || len(r.shares) > 0 {
		t.Errorf("something was not given back; %d shares", len(r.shares))
	}
}
