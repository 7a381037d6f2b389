package token

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/usher-authz/usher/policy"
)

const (
	refreshEvery = 5 * time.Minute        // between two fetches that succeed
	retryFirst   = time.Second            // after a failure, doubled up to retryMost
	retryMost    = time.Minute            //
	askEvery     = 10 * time.Second       // between two fetches that unknown key ids ask for
	askWait      = 100 * time.Millisecond // how long a request waits for such a fetch
	maxStale     = 24 * time.Hour         // how long keys are good without a fetch that succeeds
	fetchTimeout = 10 * time.Second
	maxDocument  = 1 << 20 // bytes of a discovery document or a JWK set
)

// keySet is what an issuer has published. It never changes.
type keySet struct {
	keys        []key
	thumbprints map[string]struct{}
	fetched     time.Time
}

func newKeySet(keys []key, fetched time.Time) *keySet {
	s := &keySet{keys: keys, thumbprints: make(map[string]struct{}, len(keys)), fetched: fetched}
	for _, k := range keys {
		s.thumbprints[k.thumbprint] = struct{}{}
	}
	return s
}

// has reports whether a key is still published.
func (s *keySet) has(thumbprint string) bool {
	_, ok := s.thumbprints[thumbprint]
	return ok
}

// maxTries bounds how many keys of one name a token is checked against.
const maxTries = 4

// find returns the key that verifies the token's signature, or nil, and whether the token named keys that are known at
// all. A token without kid is checked against the keys that fit its algorithm.
func (s *keySet) find(t *compact) (*key, bool) {
	known, tries := false, 0
	for i := range s.keys {
		k := &s.keys[i]
		if t.hasKid && k.kid != t.kid && k.kid != "" {
			continue
		}
		if t.hasKid && k.kid == "" && len(s.keys) > 1 {
			continue
		}
		known = true
		if !k.fits(t.alg) || tries == maxTries {
			continue
		}
		tries++
		if k.check(t.alg, t.input, t.signature) == nil {
			return k, true
		}
	}
	return nil, known || !t.hasKid
}

// keySource keeps the keys of one issuer: given once, or fetched again and again by run.
type keySource struct {
	name     string
	set      atomic.Pointer[keySet]
	fixed    bool
	issuer   string
	jwksURI  string
	http     *http.Client
	insecure bool
	now      func() time.Time
	log      *zap.Logger

	mu      sync.Mutex
	asked   time.Time     // when an unknown kid asked for a fetch last
	flight  chan struct{} // closed when the fetch that was asked for has ended; nil: none
	ask     chan struct{}
	problem string // of the last attempt
}

func newKeySource(c Config, now func() time.Time, log *zap.Logger) (*keySource, error) {
	s := &keySource{name: c.Name, issuer: c.Issuer, jwksURI: c.JWKSURI, insecure: c.AllowHTTP, now: now, log: log, ask: make(chan struct{}, 1)}
	switch {
	case len(c.SharedSecret) > 0:
		s.fixed = true
		s.set.Store(newKeySet([]key{{thumbprint: "shared", material: c.SharedSecret}}, time.Time{}))
	case len(c.JWKS) > 0:
		keys, err := parseKeys(c.JWKS)
		if err != nil {
			return nil, fmt.Errorf("provider %q: inline keys: %w", c.Name, err)
		}
		if len(keys) == 0 {
			return nil, fmt.Errorf("provider %q: no inline key can verify a signature", c.Name)
		}
		s.fixed = true
		s.set.Store(newKeySet(keys, time.Time{}))
	}
	transport := c.Transport
	if transport == nil {
		transport = &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			TLSHandshakeTimeout: 5 * time.Second, ResponseHeaderTimeout: fetchTimeout, ForceAttemptHTTP2: true,
			MaxResponseHeaderBytes: 64 << 10, MaxIdleConns: 4, IdleConnTimeout: time.Minute,
		}
	}
	s.http = client(transport)
	return s, nil
}

// current returns the keys in force, or nil if there are none, or none that are fresh enough.
func (s *keySource) current(now time.Time) *keySet {
	set := s.set.Load()
	if set == nil || !s.fixed && now.Sub(set.fetched) > maxStale {
		return nil
	}
	return set
}

// run fetches until ctx ends.
func (s *keySource) run(ctx context.Context) {
	if s.fixed {
		<-ctx.Done()
		return
	}
	retry := retryFirst
	for {
		err := s.fetch(ctx)
		if ctx.Err() != nil {
			return
		}
		s.note(err)
		wait := refreshEvery + time.Duration(rand.Int64N(int64(refreshEvery/10)))
		if err != nil {
			wait = retry + time.Duration(rand.Int64N(int64(retry/4)))
			retry = min(2*retry, retryMost)
		} else {
			retry = retryFirst
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-s.ask:
			timer.Stop()
		}
	}
}

// note keeps the result of an attempt for status, ends a fetch that was asked for, and logs a change once.
func (s *keySource) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flight != nil {
		close(s.flight)
		s.flight = nil
	}
	problem := ""
	if err != nil {
		problem = err.Error()
	}
	if problem != s.problem {
		if err != nil {
			s.log.Warn("keys cannot be fetched; retrying", zap.String("provider", s.name), zap.Error(err))
		} else {
			s.log.Info("keys can be fetched again", zap.String("provider", s.name))
		}
	}
	s.problem = problem
}

// refresh asks for a fetch because of an unknown key id, at most once in askEvery however many ask, and waits a moment
// for it. It reports whether there was a fetch to wait for.
func (s *keySource) refresh(ctx context.Context) bool {
	if s.fixed {
		return false
	}
	s.mu.Lock()
	flight := s.flight
	if flight == nil {
		now := s.now()
		if !s.asked.IsZero() && now.Sub(s.asked) < askEvery {
			s.mu.Unlock()
			return false
		}
		s.asked = now
		flight = make(chan struct{})
		s.flight = flight
		select {
		case s.ask <- struct{}{}:
		default:
		}
	}
	s.mu.Unlock()
	timer := time.NewTimer(askWait)
	defer timer.Stop()
	select {
	case <-flight:
	case <-timer.C:
	case <-ctx.Done():
	}
	return true
}

func (s *keySource) status() Status {
	now := s.now()
	st := Status{}
	if set := s.current(now); set != nil {
		st.Ready, st.Keys, st.Fetched = len(set.keys) > 0, len(set.keys), set.fetched
	}
	s.mu.Lock()
	st.Problem = s.problem
	s.mu.Unlock()
	if !st.Ready && st.Problem == "" {
		st.Problem = "keys are being fetched"
	}
	return st
}

// fetch gets the keys and puts them in force. A set without a usable key is a failure: the old one stays.
func (s *keySource) fetch(ctx context.Context) error {
	uri := s.jwksURI
	if uri == "" {
		var err error
		if uri, err = s.discover(ctx); err != nil {
			return err
		}
	}
	text, err := s.get(ctx, uri)
	if err != nil {
		return fmt.Errorf("fetch keys of %q: %w", s.issuer, err)
	}
	keys, err := parseKeys(text)
	if err != nil {
		return fmt.Errorf("fetch keys of %q: %w", s.issuer, err)
	}
	if len(keys) == 0 {
		return fmt.Errorf("fetch keys of %q: the JWK set has no key that can verify a signature", s.issuer)
	}
	s.set.Store(newKeySet(keys, s.now()))
	return nil
}

// discover reads the provider's metadata (OpenID Connect Discovery 1.0, section 4). Its issuer must be the one that it
// was asked for (section 4.3), or somebody else's keys would be trusted.
func (s *keySource) discover(ctx context.Context) (string, error) {
	text, err := s.get(ctx, strings.TrimSuffix(s.issuer, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return "", fmt.Errorf("discover %q: %w", s.issuer, err)
	}
	v, err := policy.ParseValue(text)
	if err != nil {
		return "", fmt.Errorf("discover %q: the document is not strict JSON", s.issuer)
	}
	document, ok := v.(map[string]any)
	if !ok {
		return "", fmt.Errorf("discover %q: the document is not a JSON object", s.issuer)
	}
	if issuer, _ := document["issuer"].(string); issuer != s.issuer {
		return "", fmt.Errorf("discover %q: the document is for issuer %q, expected just the configured one", s.issuer, printable(issuer))
	}
	uri, _ := document["jwks_uri"].(string)
	if uri == "" {
		return "", fmt.Errorf("discover %q: the document has no jwks_uri", s.issuer)
	}
	return uri, nil
}

func printable(s string) string {
	if len(s) > 200 {
		s = s[:200]
	}
	return strings.ToValidUTF8(s, "?")
}

// get fetches a JSON document: https, or http where allowed, 200, within the size limit.
func (s *keySource) get(ctx context.Context, address string) ([]byte, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil {
		return nil, errors.New("not a URL that can be fetched")
	}
	if u.Scheme != "https" && !(u.Scheme == "http" && s.insecure) {
		return nil, fmt.Errorf("scheme %q refused, expected https (allowHTTP permits http)", u.Scheme)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	response, err := s.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %d, expected 200", u.Host, response.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxDocument+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxDocument {
		return nil, fmt.Errorf("%s answered more than %d bytes", u.Host, maxDocument)
	}
	if !json.Valid(text) {
		return nil, fmt.Errorf("%s answered something else than JSON", u.Host)
	}
	return text, nil
}
