package revocation

import (
	"context"
	"time"

	"github.com/usher-authz/usher/extauthz/fair"
)

// Bounds are of all lists of a process: a tenant may have any number of them, at servers of his own. They are safe for concurrent
// use. The zero Bounds must not be used: see NewBounds.
type Bounds struct {
	entries *fair.Room
	scans   *fair.Room // rounds under way
}

const (
	// allEntries bounds the entries of all lists, at some 60 MB.
	allEntries = 1_000_000
	// allScans is how many lists are read at once.
	allScans = 4
	// A round of reading is followed by a rest twice as long, and of maxRest at most: a list that never ends takes a third of a
	// core for a scan, while one at a slow server waits no longer than it must.
	restFor, minRest, maxRest = 2, time.Millisecond, 100 * time.Millisecond
)

// NewBounds returns those of a process.
func NewBounds() *Bounds {
	return &Bounds{entries: fair.NewRoom(allEntries), scans: fair.NewRoom(allScans)}
}

// round does one round of reading when it is the list's turn, and rests. Until then it calls tend now and then.
func (l *List) round(ctx context.Context, tend, do func() error) error {
	scans, tenant := l.config.Bounds.scans, l.config.Tenant
	if !scans.TryAcquire(tenant, 1) {
		if err := l.wait(ctx, tend); err != nil {
			return err
		}
	}
	defer scans.Release(tenant, 1)
	if err := ctx.Err(); err != nil { // the turn came as the list was ending
		return err
	}
	began := time.Now()
	if err := do(); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(min(max(restFor*time.Since(began), minRest), maxRest)):
		return tend()
	}
}

// wait waits for the list's turn.
func (l *List) wait(ctx context.Context, tend func() error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	turn := make(chan error, 1)
	go func() { turn <- l.config.Bounds.scans.Acquire(ctx, l.config.Tenant, 1) }()
	for {
		select {
		case err := <-turn:
			return err
		case <-time.After(heartbeat / 4):
			err := tend()
			if err == nil {
				continue
			}
			cancel()
			if <-turn == nil {
				l.config.Bounds.scans.Release(l.config.Tenant, 1)
			}
			return err
		}
	}
}
