package token

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
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
	askEvery     = 10 * time.Second       // between two fetches that requests ask for, if the former found nothing new
	askAgain     = time.Second            // the same, if it found a new key: others may follow
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
		if !k.fits(t.alg) || !k.signsFor(t.claims) || tries == maxTries {
			continue
		}
		if tries++; k.verify(t.alg, t.input, t.signature) {
			return k, true
		}
	}
	return nil, named || !t.hasKid
}

// signsFor reports whether the key may sign tokens of the issuer that the claims name. Microsoft's keys for all tenants say
// whose each is, by a member `issuer`: the template for any tenant, or one tenant, whose key signs for no other
// (https://learn.microsoft.com/en-us/entra/identity-platform/access-tokens#validate-the-issuer). tid, where there is one,
// is the tenant that iss names.
func (k *key) signsFor(claims map[string]any) bool {
	if k.issuer == "" {
		return true
	}
	iss, _ := claims["iss"].(string)
	before, after, template := strings.Cut(k.issuer, tenantMark)
	if !template {
		return iss == k.issuer
	}
	tenant, ok := strings.CutPrefix(iss, before)
	if ok {
		tenant, ok = strings.CutSuffix(tenant, after)
	}
	tid, has := claims["tid"]
	return ok && tenant != "" && !strings.Contains(tenant, "/") && (!has || tid == tenant)
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
	next      time.Time // no request may ask for a fetch before then
	found     bool      // the last fetch that one asked for found a new key
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
		return nil, fmt.Errorf("provider %q: keys at %q: %w", c.Name, shown(address), err)
	}
	var err error
	s.fetch, err = newFetcher(c)
	return s, err
}

// current returns the keys in force, or an error where there are none that are fresh enough.
func (s *keySource) current(ctx context.Context, now time.Time) (*keySet, error) {
	set := s.set.Load()
	if s.late(now) {
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

// late reports whether keys were to be fetched long ago, and were not even tried to be.
func (s *keySource) late(now time.Time) bool {
	if set := s.set.Load(); s.fixed || set == nil || now.Sub(set.fetched) <= overdue {
		return false
	}
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
		got, err := s.attempt(ctx, uri)
		uri = got.uri
		if ctx.Err() != nil {
			s.end(taken, false, ctx.Err())
			return
		}
		s.note(err)
		s.end(taken, got.found, err)
		wait := retry + rand.N(retry/4)
		if err != nil {
			retry = min(2*retry, retryMost)
		} else {
			wait, retry = got.fresh+rand.N(got.fresh/10), retryFirst
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

// fetched is what an attempt has found.
type fetched struct {
	uri   string        // where the keys are; empty: look for them again
	fresh time.Duration // when to fetch them next
	found bool          // one that was not known
}

// attempt fetches the keys and puts them in force. What a JWK set lacks is withdrawn; but one without any key is what a sick
// provider publishes, and is no answer: nobody's tokens could be verified then.
func (s *keySource) attempt(ctx context.Context, uri string) (got fetched, err error) {
	defer func() {
		if p := recover(); p != nil { // what a provider answers must not end the process
			got, err = fetched{}, fmt.Errorf("fetch keys: panic of type %T", p)
		}
	}()
	if uri == "" {
		if uri = s.uri; uri == "" {
			var err error
			if uri, err = s.fetch.discover(ctx, s.issuer); err != nil {
				return fetched{}, err
			}
		}
	}
	old, etag := s.set.Load(), ""
	if old != nil && old.uri == uri {
		etag = old.etag
	}
	keys, d, err := s.fetch.keys(ctx, uri, etag)
	if err != nil {
		return fetched{}, err
	}
	fresh := refreshEvery
	if d.fresh > 0 {
		fresh = min(max(d.fresh, refreshLeast), refreshMost)
	}
	if d.text == nil { // as before
		s.unchanged.Add(1)
		s.set.Store(&keySet{keys: old.keys, fetched: s.now(), uri: uri, etag: d.etag})
		return fetched{uri: uri, fresh: fresh}, nil
	}
	if len(keys) == 0 {
		return fetched{uri: uri}, fmt.Errorf("fetch keys of %q: the JWK set has no key that can verify a signature; it is empty, or its keys are for encryption, private or too small", shown(uri))
	}
	found := old == nil
	for i, k := range keys {
		if old == nil {
			break
		}
		if j := slices.IndexFunc(old.keys, func(o *key) bool { return o.identity == k.identity }); j >= 0 {
			keys[i] = old.keys[j]
		} else {
			found = true
		}
	}
	s.set.Store(&keySet{keys: keys, fetched: s.now(), uri: uri, etag: d.etag})
	return fetched{uri: uri, fresh: fresh, found: found}, nil
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

// end tells those who wait. A fetch that found a new key does not count against the next one: only the issuer can publish
// keys, and one that has may go on to.
func (s *keySource) end(f *flight, found bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f != nil {
		if s.found = found; found {
			s.next = s.now().Add(askAgain)
		}
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
// now in force are new enough to say what is published; otherwise nobody knows. So strangers who name unknown keys keep a
// key that signs at once when it is published out for askEvery and a fetch, at most; without them there is no wait, as
// fetches that find a new key do not count.
func (s *keySource) ask(ctx context.Context) error {
	if s.fixed {
		return nil
	}
	s.wanted.Add(1)
	s.mu.Lock()
	f := s.flight
	if f == nil {
		now := s.now()
		if now.Before(s.next) {
			defer s.mu.Unlock()
			if s.problem == nil && s.found {
				return errors.New("the issuer's keys have just changed, and are fetched again in a moment")
			}
			return s.problem
		}
		s.next = now.Add(askEvery)
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
