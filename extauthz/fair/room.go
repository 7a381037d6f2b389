package fair

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

// Room is so much of something, in whatever unit its user counts. All tenants together have no more of it than there is, and one
// of them no more than half. The tenant "" is whoever runs Usher, and may have it all (see policy.Source). Acquire and TryAcquire
// take at least one of it, and Release gives back just what they took. It is safe for concurrent use. The zero Room must not be
// used: see NewRoom.
type Room struct {
	total int64
	all   *semaphore.Weighted

	mu     sync.Mutex
	shares map[string]*share // of the tenants that have or want some
}

// share is what one tenant has.
type share struct {
	of    *semaphore.Weighted
	users int64 // what is had of it, and waited for
}

// NewRoom returns a Room of which everything is free.
func NewRoom(total int64) *Room {
	return &Room{total: total, all: semaphore.NewWeighted(total), shares: map[string]*share{}}
}

// most is how much a tenant can have.
func (r *Room) most(tenant string) int64 {
	if tenant == "" {
		return r.total
	}
	return max(r.total/2, 1)
}

// part is what somebody gets who wants n: no more than he can ever have.
func (r *Room) part(tenant string, n int64) int64 { return max(min(n, r.most(tenant)), 1) }

// Acquire waits until so much is free for the tenant. The error is ctx's, and then nothing was taken. Who waits for his own
// tenant's share stands in nobody else's way.
func (r *Room) Acquire(ctx context.Context, tenant string, n int64) error {
	n = r.part(tenant, n)
	s := r.enter(tenant, n)
	if s != nil {
		if err := s.of.Acquire(ctx, n); err != nil {
			r.leave(tenant, n)
			return err
		}
	}
	if err := r.all.Acquire(ctx, n); err != nil {
		if s != nil {
			s.of.Release(n)
			r.leave(tenant, n)
		}
		return err
	}
	return nil
}

// TryAcquire takes so much if it is free now.
func (r *Room) TryAcquire(tenant string, n int64) bool {
	n = r.part(tenant, n)
	s := r.enter(tenant, n)
	if s != nil && !s.of.TryAcquire(n) {
		r.leave(tenant, n)
		return false
	}
	if r.all.TryAcquire(n) {
		return true
	}
	if s != nil {
		s.of.Release(n)
		r.leave(tenant, n)
	}
	return false
}

// Release gives back what calls of Acquire or TryAcquire took.
func (r *Room) Release(tenant string, n int64) {
	n = r.part(tenant, n)
	r.all.Release(n)
	if tenant == "" {
		return
	}
	r.mu.Lock()
	s := r.shares[tenant]
	r.mu.Unlock()
	s.of.Release(n)
	r.leave(tenant, n)
}

// enter returns the tenant's share, which stays until all that was wanted of it is left; nil: it needs none.
func (r *Room) enter(tenant string, n int64) *share {
	if tenant == "" {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.shares[tenant]
	if s == nil {
		s = &share{of: semaphore.NewWeighted(r.most(tenant))}
		r.shares[tenant] = s
	}
	s.users += n
	return s
}

func (r *Room) leave(tenant string, n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.shares[tenant]
	if s.users -= n; s.users == 0 {
		delete(r.shares, tenant)
	}
}
