package token

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"

	"github.com/usher-authz/usher/policy"
)

const (
	answerWait = 140 * time.Millisecond // of one request to the endpoint, below Envoy's 200 ms
	askLeast   = 10 * time.Millisecond  // with less than that left it is not begun
	askSlots   = 32                     // requests under way at once
	askKeep    = 30 * time.Second       // how long a good answer is good by default, never past exp
	maxKeep    = time.Hour              // the most that a Config may ask for
	askRefuse  = 5 * time.Second        // how long a refusal is
	askMost    = 128 << 10              // bytes of an answer
	// breakAfter failures in a row, the endpoint is left alone for breakFor: callers are answered at once, and a sick
	// provider is not asked harder than a well one.
	breakAfter, breakFor = 20, time.Second
	// provenFor is how long after an answer about a token one that is none counts against that token, not the endpoint.
	provenFor = time.Minute
	tellEvery = time.Minute // the log of a problem that comes and goes
)

// endpoint is what a provider is asked at about its tokens. It is immutable and safe for concurrent use.
type endpoint interface {
	// request asks about the token. The error holds nothing of the token.
	request(ctx context.Context, token string) (*http.Request, error)
	// read gives the claims of an answer. The error is a *policy.Refusal if the answer says that the token is bad, and
	// anything else if the answer is none: then it holds no value of the answer.
	read(status int, header http.Header, body []byte) (map[string]any, error)
}

// Asker asks a provider about its tokens, by introspection (RFC 7662) or at its userinfo endpoint (OpenID Connect Core
// 1.0, section 5.3). It is safe for concurrent use. A good answer is good for 30 seconds, or as the Config says, and never
// past exp; a refusal for 5; a failure is not kept, and is never taken for a refusal. However many requests carry one
// token, it is asked about once at a time. Make one with [New]; the zero Asker must not be used.
type Asker struct {
	rules
	endpoint    endpoint
	what        string // for messages: "introspection at https://..."
	anyAudience bool
	keep        time.Duration
	http        *http.Client
	log         *zap.Logger
	slots       *semaphore.Weighted
	flights     singleflight.Group
	cache       *Cache
	salt        digest // keeps its entries apart from other providers'
	counts      struct{ requests, hits, failures, openings atomic.Int64 }

	mu       sync.Mutex
	failures int       // in a row
	closed   time.Time // not asked before then
	answered time.Time
	problem  error     // of the last attempt
	told     string    // the problem that the log was told last
	toldAt   time.Time //
	pending  bool      // the log was not told of a recovery since
}

// AskedStatus counts what was asked about opaque tokens since the verifier was made.
type AskedStatus struct {
	Requests int64 `json:"requests"` // to the endpoint
	Hits     int64 `json:"hits"`     // answered from memory, good or bad
	Failures int64 `json:"failures"` // requests that gave no answer
	Openings int64 `json:"openings"` // of the circuit breaker
}

// newAsker returns a verifier that asks e, which is at address. It does no I/O.
func newAsker(c Config, e endpoint, what, address string, keep time.Duration) (*Asker, error) {
	r, err := newRules(c)
	if err != nil {
		return nil, err
	}
	switch {
	case len(c.Tenants) > 0:
		return nil, fmt.Errorf("provider %q: tenants go with JWTs only", c.Name)
	case keep < 0 || keep > maxKeep:
		return nil, fmt.Errorf("provider %q: an answer is kept for %v, expected more than 0s and at most %v", c.Name, keep, maxKeep)
	}
	u, err := checkURL(address, c.AllowHTTP)
	if err != nil {
		return nil, fmt.Errorf("provider %q: %s at %q: %w", c.Name, what, address, err)
	}
	transport, err := transportOf(c, answerWait, askSlots)
	if err != nil {
		return nil, err
	}
	u.RawQuery = "" // it may hold a secret
	i := &Asker{
		rules: r, endpoint: e, what: what + " at " + u.String(), keep: keep, log: c.Logger, slots: semaphore.NewWeighted(askSlots),
		http: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
	if i.keep == 0 {
		i.keep = askKeep
	}
	if i.log == nil {
		i.log = zap.NewNop()
	}
	if i.cache = c.Cache; i.cache == nil {
		if i.cache, err = NewCache(); err != nil {
			return nil, fmt.Errorf("provider %q: %w", c.Name, err)
		}
	}
	_, _ = rand.Read(i.salt[:]) // never fails, as documented
	return i, nil
}

// Issuer is the exact `iss` that an answer must have, if it has one.
func (i *Asker) Issuer() string { return i.issuer }

// Run has nothing to do: the endpoint is asked when a token comes.
func (i *Asker) Run(ctx context.Context) { <-ctx.Done() }

// Status is always ready, as whether the endpoint answers shows only with a token; Problem says why the last attempt
// failed.
func (i *Asker) Status() Status {
	i.mu.Lock()
	defer i.mu.Unlock()
	st := Status{Ready: true, Fetched: i.answered, Asked: &AskedStatus{
		Requests: i.counts.requests.Load(), Hits: i.counts.hits.Load(), Failures: i.counts.failures.Load(), Openings: i.counts.openings.Load(),
	}}
	if i.problem != nil {
		st.Problem = i.what + ": " + i.problem.Error()
	}
	return st
}

// Verify asks the endpoint, or takes the answer that it gave a moment ago.
func (i *Asker) Verify(ctx context.Context, c Credential) (*policy.Identity, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	d := digestOf(c.Token)
	return i.verify(ctx, &c, &d)
}

func (i *Asker) verify(ctx context.Context, c *Credential, d *digest) (*policy.Identity, error) {
	now := i.now()
	entry := i.entry(d)
	v, ok := i.cache.tokens.get(&entry)
	if ok && v.by == i && now.Before(v.until) {
		i.counts.hits.Add(1)
	} else {
		if until, ok := i.cache.refused.get(&entry); ok && now.Before(until) {
			i.counts.hits.Add(1)
			return nil, bad("the provider said a moment ago that the token is not good")
		}
		var err error
		if v, err = i.fly(ctx, c.Token, entry); err != nil {
			return nil, err
		}
	}
	if err := i.prove(v, c, d); err != nil {
		return nil, err
	}
	return v.identity, nil
}

// knows reports whether this provider said a moment ago that the token with this digest is good.
func (i *Asker) knows(d *digest) bool {
	entry := i.entry(d)
	v, ok := i.cache.tokens.get(&entry)
	return ok && v.by == i && i.now().Before(v.until)
}

// entry is where the cache keeps what this provider said of a token: what one says counts for no other.
func (i *Asker) entry(d *digest) digest {
	e := *d
	for n := range e {
		e[n] ^= i.salt[n]
	}
	return e
}

// fly asks once for all who ask about the token now. The request outlives a caller that gives up.
func (i *Asker) fly(ctx context.Context, token string, entry digest) (*verified, error) {
	flight := i.flights.DoChan(string(entry[:]), func() (_ any, err error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerWait)
		defer cancel()
		defer func() {
			if p := recover(); p != nil { // in this goroutine nobody else would
				err = fmt.Errorf("%s: panic of type %T", i.what, p)
			}
		}()
		v, err := i.look(ctx, token)
		if err == nil && i.now().Before(v.until) {
			i.cache.tokens.put(&entry, v, v.weight)
		} else if isRefused(err) {
			i.cache.refused.put(&entry, i.now().Add(askRefuse), 1)
		}
		return v, err
	})
	select {
	case r := <-flight:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*verified), nil
	case <-ctx.Done():
		return nil, unavailable(i.name, fmt.Errorf("wait for %s: %w", i.what, ctx.Err()))
	}
}

// look asks the endpoint and judges its answer. A token that says it is of another issuer is not shown to this one, and
// neither is a JWT in a spelling that has two readings: the endpoint's could be another than the one here.
func (i *Asker) look(ctx context.Context, token string) (*verified, error) {
	var own map[string]any
	if looksLikeJWS(token) {
		t, err := parseCompact(token, nil)
		if err != nil {
			return nil, err
		}
		if issuer, ok := t.claims["iss"].(string); ok && issuer != i.issuer {
			return nil, bad("iss is not the provider's issuer")
		}
		if own = t.claims; otherKind(mediaType(t.typ)) || isRefresh(own) || isLogout(own) {
			return nil, bad("the token says that it is no access token")
		}
	}
	if i.now().Before(i.broken()) {
		return nil, unavailable(i.name, fmt.Errorf("%s failed often and is left alone for a moment", i.what))
	}
	if err := i.slots.Acquire(ctx, 1); err != nil {
		return nil, unavailable(i.name, fmt.Errorf("%s: too many requests under way", i.what))
	}
	defer i.slots.Release(1)
	if end, ok := ctx.Deadline(); ok && time.Until(end) < askLeast {
		return nil, unavailable(i.name, fmt.Errorf("%s: too many requests under way", i.what))
	}
	claims, err := i.ask(ctx, token)
	if isRefused(err) {
		i.note(nil)
		return nil, err
	}
	i.note(err)
	if err != nil {
		return nil, unavailable(i.name, fmt.Errorf("%s: %w", i.what, err))
	}
	return i.accept(claims, own)
}

// ask sends the request and reads the answer.
func (i *Asker) ask(ctx context.Context, token string) (map[string]any, error) {
	request, err := i.endpoint.request(ctx, token)
	if err != nil {
		return nil, err
	}
	i.counts.requests.Add(1)
	response, err := i.http.Do(request)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the URL, whose query may hold a secret
		}
		return nil, sick{err}
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(response.Body, askMost+1))
	if err != nil {
		return nil, sick{err}
	}
	if len(text) > askMost {
		return nil, fmt.Errorf("the endpoint answered more than %d bytes", askMost)
	}
	claims, err := i.endpoint.read(response.StatusCode, response.Header, text)
	switch response.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		if err != nil && !isRefused(err) {
			err = sick{err}
		}
	}
	return claims, err
}

// sick is an error that says something about the endpoint as a whole: no connection, no answer in time, or one that it has
// no answer for anybody. Another one may be about one token only, which anybody could have made: one that is too long for
// the provider, or that its firewall takes for an attack.
type sick struct{ error }

func (s sick) Unwrap() error { return s.error }

// readObject reads a good answer: a JSON object.
func readObject(header http.Header, body []byte) (map[string]any, error) {
	switch media, _, _ := mime.ParseMediaType(header.Get("Content-Type")); {
	case media == "application/jwt" || strings.HasSuffix(media, "+jwt"):
		return nil, errors.New("the endpoint answered a JWT, expected application/json: set the client's response to unsigned JSON at the provider")
	case media == "text/html":
		return nil, errors.New("the endpoint answered an HTML page, expected application/json: check its URL")
	}
	parsed, err := policy.ParseValue(body)
	if err != nil {
		return nil, errors.New("the answer is not strict JSON: check the URL of the endpoint")
	}
	claims, ok := parsed.(map[string]any)
	if !ok {
		return nil, errors.New("the answer is not a JSON object: check the URL of the endpoint")
	}
	return claims, nil
}

// errorCode is the `error` of an answer (RFC 6749, section 5.2) if it is one of the known ones, else "".
func errorCode(body []byte) string {
	v, err := policy.ParseValue(body)
	if err != nil {
		return ""
	}
	object, _ := v.(map[string]any)
	code, _ := object["error"].(string)
	switch code {
	case "invalid_client", "invalid_request", "invalid_token", "unauthorized_client", "access_denied", "insufficient_scope":
		return code
	}
	return ""
}

// statusError says what a status other than 200 means, for a log.
func statusError(status int, body []byte, hint string) error {
	text := strconv.Itoa(status)
	if code := errorCode(body); code != "" {
		text += " " + code
	}
	switch {
	case status >= 300 && status < 400:
		hint = "it redirects, which is not followed: check its URL"
	case status == http.StatusNotFound || status == http.StatusMethodNotAllowed:
		hint = "no such endpoint: check its URL"
	case status == http.StatusTooManyRequests:
		hint = "the provider limits how often it is asked"
	}
	if hint != "" {
		text += ": " + hint
	}
	return errors.New(text)
}

// accept checks a good answer as the claims of a JWT, except that iss and exp may be left out (RFC 7662, section 2.2): it
// is the provider itself that says, now, that the token is its own and good. The audience may be left out only where the
// Config says so: else a token that a user gave to any other application would be good here.
//
// own are the claims of the token itself, if it is a JWT. The provider has called just this token good, and so what it says
// of its own end, of the key that it is bound to and of its name holds, where the answer leaves that out, as one of a
// userinfo endpoint does. Nobody becomes somebody by them.
func (i *Asker) accept(claims, own map[string]any) (*verified, error) {
	now := i.now()
	for _, name := range [...]string{"exp", "nbf", "cnf", "jti", "sid"} {
		if v, ok := own[name]; ok {
			if _, said := claims[name]; !said {
				claims[name] = v
			}
		}
	}
	until := now.Add(i.keep)
	checked := claims
	_, hasIssuer := claims["iss"]
	_, hasExpiry := claims["exp"]
	_, hasAudience := claims[i.audience]
	if !hasIssuer || !hasExpiry || !hasAudience && i.anyAudience {
		checked = maps.Clone(claims)
		if !hasIssuer {
			checked["iss"] = i.issuer
		}
		if !hasAudience && i.anyAudience {
			checked[i.audience] = i.audiences[0]
			if aud, ok := own[i.audience]; ok { // it is known all the same
				checked[i.audience] = aud
			}
		}
		if !hasExpiry {
			checked["exp"] = until.Unix() + 1 // whole seconds, and not before
		}
	}
	expires, err := i.check(checked, now)
	if err != nil {
		return nil, err
	}
	v, err := i.admit(claims, expires)
	if err != nil {
		return nil, err
	}
	// RFC 9449, section 6.2: a token of this type without its key cannot be checked.
	switch typ := claims["token_type"].(type) {
	case nil:
	case string:
		if strings.EqualFold(typ, "DPoP") && (v.binding == nil || v.binding.key == nil) {
			return nil, bad("a DPoP token without the thumbprint of its key")
		}
	default:
		return nil, bad("token_type is no string") // RFC 7662, section 2.2
	}
	// Never past exp: the skew lets a token in that the provider has just called good, and is no reason to keep it.
	v.by, v.until = i, until
	if expires.Before(until) {
		v.until = expires
	}
	return v, nil
}

func (i *Asker) broken() time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.closed
}

// note counts failures in a row, and tells the log of a problem once, and of the recovery. One that comes and goes, as when
// the endpoint is near its limit, is told once a minute.
func (i *Asker) note(err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.problem = err
	now := i.now()
	if err == nil {
		i.failures, i.answered = 0, now
		if i.pending {
			i.pending = false
			i.log.Info("the provider answers about tokens again", zap.String("provider", i.name))
		}
		return
	}
	i.counts.failures.Add(1)
	var whole sick
	if errors.As(err, &whole) || now.Sub(i.answered) >= provenFor {
		i.failures++
	}
	if i.failures >= breakAfter {
		i.failures, i.closed = 0, now.Add(breakFor)
		i.counts.openings.Add(1)
	}
	if i.pending || i.told == err.Error() && now.Sub(i.toldAt) < tellEvery {
		return
	}
	i.pending, i.told, i.toldAt = true, err.Error(), now
	i.log.Warn("the provider does not answer about tokens", zap.String("provider", i.name), zap.String("problem", i.what+": "+i.told))
}
