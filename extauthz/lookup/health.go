package lookup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

const (
	// breakAfter failures in a row the backend is left alone for breakFor, and then asked about one object: callers are
	// answered at once, and a sick backend is not asked harder than a well one.
	breakAfter, breakFor = 20, time.Second
	// provenFor is how long the backend counts as the right one after it has shown an object or answered the probe.
	provenFor = time.Minute
)

// errResting says that the breaker is open.
var errResting = errors.New("it failed often and is left alone for a moment")

// sick is an error that says something about the backend as a whole: no connection, no answer in time, or a gateway that
// has none. Another one may be about one object only, which anybody could have made.
type sick struct{ error }

func (s sick) Unwrap() error { return s.error }

func isTimeout(err error) bool {
	var n net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &n) && n.Timeout()
}

func newBreaker(counts *counts) *gobreaker.CircuitBreaker[answer] {
	return gobreaker.NewCircuitBreaker[answer](gobreaker.Settings{
		Timeout:     breakFor,
		ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= breakAfter },
		IsSuccessful: func(err error) bool {
			var s sick
			return !errors.As(err, &s)
		},
		OnStateChange: func(_ string, _, to gobreaker.State) {
			if to == gobreaker.StateOpen {
				counts.openings.Add(1)
			}
		},
	})
}

// probe knows when the backend was last seen to be the right one.
type probe struct {
	path string
	turn chan struct{} // one asks at a time
	seen atomic.Int64
}

func (p *probe) passed(now time.Time) { p.seen.Store(now.UnixNano()) }

func (p *probe) holds(now time.Time) bool {
	seen := p.seen.Load()
	return seen != 0 && now.Sub(time.Unix(0, seen)) < provenFor
}

// prove makes sure that whoever answered 404 is the backend, and not a proxy on the way that knows no such host: where an
// absent object may be created, its 404 would open one that exists.
func (c *Client) prove(ctx context.Context) error {
	if c.probe.holds(c.now()) {
		return nil
	}
	select {
	case c.probe.turn <- struct{}{}:
		defer func() { <-c.probe.turn }()
	case <-ctx.Done():
		return sick{fmt.Errorf("wait for %s: %w", c.probe.path, context.Cause(ctx))}
	}
	if c.probe.holds(c.now()) {
		return nil
	}
	response, err := c.get(ctx, c.probe.path)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, _ = io.CopyN(io.Discard, response.Body, 4<<10)
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%q has no such object, but answers %d to %s too: it may be a proxy that does not know the backend", c.base, response.StatusCode, c.probe.path)
	}
	c.probe.passed(c.now())
	return nil
}

// counts of a Client since it was made.
type counts struct {
	requests, hits, failures, openings atomic.Int64

	mu      sync.Mutex
	problem error // of the last look-up
}

func (c *counts) note(err error) {
	c.requests.Add(1)
	if err != nil {
		c.failures.Add(1)
	}
	c.mu.Lock()
	c.problem = err
	c.mu.Unlock()
}

// Status counts what a Client did since it was made, and says why the last look-up failed.
type Status struct {
	Requests int64  `json:"requests"` // to the backend
	Hits     int64  `json:"hits"`     // answered from memory
	Failures int64  `json:"failures"` // look-ups that gave no answer
	Openings int64  `json:"openings"` // of the circuit breaker
	Problem  string `json:"problem,omitempty"`
}

// Status says how the backend is.
func (c *Client) Status() Status {
	s := Status{
		Requests: c.counts.requests.Load(), Hits: c.counts.hits.Load(), Failures: c.counts.failures.Load(), Openings: c.counts.openings.Load(),
	}
	c.counts.mu.Lock()
	defer c.counts.mu.Unlock()
	if c.counts.problem != nil {
		s.Problem = c.counts.problem.Error()
	}
	return s
}
