package token

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

const (
	refreshEvery = 5 * time.Minute        // between two fetches that succeed, and up to a tenth more, where the provider does not say
	refreshLeast = time.Minute            // whatever it says
	refreshMost  = 15 * time.Minute       // so that a withdrawal takes effect within that
	overdue      = 17 * time.Minute       // without an attempt: the clock has jumped, or the process slept
	retryFirst   = time.Second            // after a failure, doubled up to retryMost, and up to a quarter more
	retryMost    = time.Minute            //
	askEvery     = 10 * time.Second       // between two fetches that requests ask for
	askWait      = 100 * time.Millisecond // how long a request waits for such a fetch
	staleDefault = 24 * time.Hour         // how long keys are good without a fetch that succeeds
)

// maxTries bounds how many keys of one name a signature is checked against.
const maxTries = 4

// keySet is what an issuer has published. It never changes.
type keySet struct {
	keys    []*key
	fetched time.Time
	uri     string // where they were fetched
	etag    string // of the answer; empty: none
}

// has reports whether a key is still published. Keys that stay from one set to the next stay the same pointer.
func (s *keySet) has(k *key) bool { return slices.Contains(s.keys, k) }

// verify returns the key that verifies the token's signature, or nil; named says whether the set has a key that the token
// means at all. A token without kid means every key that fits its algorithm; a kid is compared exactly (RFC 7515, section
// 4.1.4), but for a set of one key without a name, which any kid means.
func (s *keySet) verify(t *compact) (signer *key, named bool) {
	tries := 0
	for _, k := range s.keys {
		if t.hasKid && k.kid != t.kid && (k.kid != "" || len(s.keys) > 1) {
			continue
		}
		named = true
		if !k.fits(t.alg) || tries == maxTries {
			continue
		}
		if tries++; k.verify(t.alg, t.input, t.signature) {
			return k, true
		}
	}
	return nil, named || !t.hasKid
}

// keySource keeps the keys of one issuer: given once, or fetched by run again and again. It is safe for concurrent use.
type keySource struct {
	set   atomic.Pointer[keySet] // nil: none yet
	fixed bool                   // given once

	name, issuer, uri string // uri is empty for discovery
	maxStale          time.Duration
	fetch             *fetcher
	now               func() time.Time
	log               *zap.Logger
	wake              chan struct{} // to run: somebody asks

	mu        sync.Mutex
	asked     time.Time // when a request asked for a fetch last
	flight    *flight   // asked for and not ended; nil: none
	attempted time.Time // when the last attempt ended
	problem   error     // of the last attempt
	stale     time.Time // when the first attempt failed since one succeeded; zero: the last one did

	attempts, failures, unchanged, wanted atomic.Uint64 // see FetchStatus
}

// flight is a fetch that requests wait for.
type flight struct {
	done chan struct{} // closed when it has ended
	err  error         // read after done
}

var errNoKeysYet = errors.New("keys are not fetched yet")

func newKeySource(c Config, algorithms []string, now func() time.Time, log *zap.Logger) (*keySource, error) {
	s := &keySource{name: c.Name, issuer: c.Issuer, uri: c.JWKSURI, maxStale: c.MaxStale, now: now, log: log, wake: make(chan struct{}, 1), problem: errNoKeysYet}
	if s.maxStale <= 0 {
		s.maxStale = staleDefault
	}
	switch {
	case len(c.SharedSecret) > 0:
		k, err := secretKey(c.SharedSecret, algorithms)
		if err != nil {
			return nil, fmt.Errorf("provider %q: %w", c.Name, err)
		}
		s.fixed, s.problem = true, nil
		s.set.Store(&keySet{keys: []*key{k}})
		return s, nil
	case len(c.JWKS) > 0:
		keys, err := parseKeys(c.JWKS)
		if err != nil {
			return nil, fmt.Errorf("provider %q: inline keys: %w", c.Name, err)
		}
		if !slices.ContainsFunc(keys, func(k *key) bool { return slices.ContainsFunc(algorithms, k.fits) }) {
			return nil, fmt.Errorf("provider %q: no inline key can verify a signature", c.Name)
		}
		s.fixed, s.problem = true, nil
		s.set.Store(&keySet{keys: keys})
		return s, nil
	}
	if c.JWKSURI == "" && len(c.Tenants) > 0 {
		return nil, fmt.Errorf("provider %q: keys of an issuer with tenants cannot be discovered; name their URL", c.Name)
	}
	address := c.JWKSURI
	if address == "" {
		address = c.Issuer
	}
	if _, err := checkURL(address, c.AllowHTTP); err != nil {
		return nil, fmt.Errorf("provider %q: keys at %q: %w", c.Name, address, err)
	}
	var err error
	s.fetch, err = newFetcher(c)
	return s, err
}

// current returns the keys in force, or an error where there are none that are fresh enough.
func (s *keySource) current(ctx context.Context, now time.Time) (*keySet, error) {
	set := s.set.Load()
	if !s.fixed && set != nil && now.Sub(set.fetched) > overdue && s.overdue(now) {
		_ = s.ask(ctx) // what was withdrawn meanwhile must not be good; if it fails, what is known is good until maxStale
		set = s.set.Load()
	}
	return set, s.usable(set, now)
}

func (s *keySource) usable(set *keySet, now time.Time) error {
	switch {
	case s.fixed:
		return nil
	case set == nil:
		return errNoKeysYet
	case now.Sub(set.fetched) > s.maxStale:
		return errors.New("the last fetch of keys that succeeded is too long ago")
	}
	return nil
}

func (s *keySource) overdue(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return now.Sub(s.attempted) > overdue
}

// run fetches until ctx ends.
func (s *keySource) run(ctx context.Context) {
	if s.fixed {
		<-ctx.Done()
		return
	}
	uri, retry := "", retryFirst
	var discovered time.Time
	for onDemand := false; ; {
		taken := s.take()
		// Discover again: the issuer may have moved its keys. By the clock, as strangers can ask for fetches without end.
		if now := s.now(); !onDemand || now.Sub(discovered) >= refreshEvery {
			uri, discovered = "", now
		}
		next, fresh, err := s.attempt(ctx, uri)
		uri = next
		if ctx.Err() != nil {
			s.end(taken, ctx.Err())
			return
		}
		s.note(err)
		s.end(taken, err)
		wait := retry + rand.N(retry/4)
		if err != nil {
			retry = min(2*retry, retryMost)
		} else {
			wait, retry = fresh+rand.N(fresh/10), retryFirst
		}
		onDemand = s.sleep(ctx, wait)
		if ctx.Err() != nil {
			return
		}
	}
}

// sleep waits, and reports whether it was woken.
func (s *keySource) sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-s.wake:
		return true
	}
	return false
}

// attempt fetches the keys and puts them in force, and returns where they are, empty to look for them again, and when to
// fetch them next. What a JWK set lacks is withdrawn; but one without any key is what a sick provider publishes, and is no
// answer: nobody's tokens could be verified then.
func (s *keySource) attempt(ctx context.Context, uri string) (string, time.Duration, error) {
	if uri == "" {
		if uri = s.uri; uri == "" {
			var err error
			if uri, err = s.fetch.discover(ctx, s.issuer); err != nil {
				return "", 0, err
			}
		}
	}
	old, etag := s.set.Load(), ""
	if old != nil && old.uri == uri {
		etag = old.etag
	}
	keys, d, err := s.fetch.keys(ctx, uri, etag)
	if err != nil {
		return "", 0, err
	}
	fresh := refreshEvery
	if d.fresh > 0 {
		fresh = min(max(d.fresh, refreshLeast), refreshMost)
	}
	if d.text == nil { // as before
		s.unchanged.Add(1)
		s.set.Store(&keySet{keys: old.keys, fetched: s.now(), uri: uri, etag: d.etag})
		return uri, fresh, nil
	}
	if len(keys) == 0 {
		return uri, 0, fmt.Errorf("fetch keys of %q: the JWK set has no key that can verify a signature; it is empty, or its keys are for encryption, private or too small", excerpt(uri))
	}
	if old != nil {
		for i, k := range keys {
			if j := slices.IndexFunc(old.keys, func(o *key) bool { return o.identity == k.identity }); j >= 0 {
				keys[i] = old.keys[j]
			}
		}
	}
	s.set.Store(&keySet{keys: keys, fetched: s.now(), uri: uri, etag: d.etag})
	return uri, fresh, nil
}

// take returns the flight that the attempt which begins now is for, or nil. One that is asked for later waits for the next.
func (s *keySource) take() *flight {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.wake:
	default:
	}
	return s.flight
}

func (s *keySource) end(f *flight, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f != nil {
		f.err = err
		close(f.done)
		s.flight = nil
	}
}

// note keeps the result of an attempt, and logs a change once.
func (s *keySource) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attempted = s.now()
	s.attempts.Add(1)
	before := s.problem
	s.problem = err
	if err == nil {
		s.stale = time.Time{}
	} else {
		s.failures.Add(1)
		if s.stale.IsZero() {
			s.stale = s.attempted
		}
	}
	switch {
	case err == nil && before == nil, err != nil && before != nil && err.Error() == before.Error():
	case err == nil:
		s.log.Info("keys fetched", zap.String("provider", s.name))
	default:
		s.log.Warn("keys cannot be fetched; trying again", zap.String("provider", s.name), zap.Error(err))
	}
}

// ask makes run fetch, at most once in askEvery however many ask, and waits a moment for it. A nil error says that the keys
// now in force are new enough to say what is published; otherwise nobody knows.
func (s *keySource) ask(ctx context.Context) error {
	if s.fixed {
		return nil
	}
	s.wanted.Add(1)
	s.mu.Lock()
	f := s.flight
	if f == nil {
		if now := s.now(); !s.asked.IsZero() && now.Sub(s.asked) < askEvery {
			defer s.mu.Unlock()
			return s.problem
		}
		s.asked = s.now()
		f = &flight{done: make(chan struct{})}
		s.flight = f
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	s.mu.Unlock()
	timer := time.NewTimer(askWait)
	defer timer.Stop()
	select {
	case <-f.done:
		return f.err
	case <-timer.C:
		return errors.New("the fetch of keys takes too long")
	case <-ctx.Done():
		return fmt.Errorf("wait for keys: %w", ctx.Err())
	}
}

func (s *keySource) status() Status {
	set := s.set.Load()
	err := s.usable(set, s.now())
	st := Status{Ready: err == nil}
	if set != nil {
		st.Keys, st.Fetched = len(set.keys), set.fetched
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.fixed {
		st.Fetches = &FetchStatus{
			Attempts: s.attempts.Load(), Failures: s.failures.Load(), Unchanged: s.unchanged.Load(), Wanted: s.wanted.Load(), StaleSince: s.stale,
		}
	}
	switch {
	case s.problem != nil:
		st.Problem = s.problem.Error()
	case err != nil:
		st.Problem = err.Error()
	}
	return st
}
