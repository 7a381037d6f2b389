package token

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"

	"github.com/usher-authz/usher/policy"
)

const (
	introspectWait   = 140 * time.Millisecond // of one request to the endpoint, below Envoy's 200 ms
	introspectLeast  = 10 * time.Millisecond  // with less than that left it is not begun
	introspectSlots  = 32                     // requests under way at once
	introspectKeep   = 30 * time.Second       // how long an active answer is good, never past exp
	introspectRefuse = 5 * time.Second        // how long an inactive one is
	introspectMost   = 128 << 10              // bytes of an answer
	maxRefused       = 10_000                 // inactive tokens that are remembered
	// breakAfter failures in a row, the endpoint is left alone for breakFor: callers are answered at once, and a sick
	// provider is not asked harder than a well one.
	breakAfter, breakFor = 20, time.Second
)

// Introspector asks a provider about its tokens (RFC 7662). It is safe for concurrent use. An active answer is good for
// 30 seconds and never past exp, an inactive one for 5; a failure is not kept, and is never taken for a refusal. However
// many requests carry one token, it is asked about once at a time. Make one with [NewIntrospector]; the zero Introspector
// must not be used.
type Introspector struct {
	rules
	endpoint string
	basic    string
	http     *http.Client
	log      *zap.Logger
	slots    *semaphore.Weighted
	flights  singleflight.Group
	active   *cache[*verified]
	refused  *cache[time.Time] // apart, so that a flood of bad tokens evicts no good one

	mu       sync.Mutex
	failures int       // in a row
	closed   time.Time // not asked before then
	answered time.Time
	problem  error // of the last attempt
}

// NewIntrospector returns a verifier that asks c.Introspection. It does no I/O. The error names what is wrong in the Config.
func NewIntrospector(c Config) (*Introspector, error) {
	if c.Introspection == nil {
		return nil, fmt.Errorf("provider %q: no introspection", c.Name)
	}
	r, err := newRules(c)
	if err != nil {
		return nil, err
	}
	if len(c.Tenants) > 0 {
		return nil, fmt.Errorf("provider %q: tenants go with JWTs only", c.Name)
	}
	spec := c.Introspection
	if _, err := checkURL(spec.Endpoint, c.AllowHTTP); err != nil {
		return nil, fmt.Errorf("provider %q: introspection at %q: %w", c.Name, spec.Endpoint, err)
	}
	if spec.ClientID == "" || spec.ClientSecret == "" {
		return nil, fmt.Errorf("provider %q: introspection needs a client id and its secret", c.Name)
	}
	transport, err := transportOf(c, introspectWait, introspectSlots)
	if err != nil {
		return nil, err
	}
	// RFC 6749, section 2.3.1: both parts are form-encoded before they are joined.
	basic := base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(spec.ClientID) + ":" + url.QueryEscape(spec.ClientSecret)))
	i := &Introspector{
		rules: r, endpoint: spec.Endpoint, basic: "Basic " + basic, log: c.Logger, slots: semaphore.NewWeighted(introspectSlots),
		http: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
	if i.log == nil {
		i.log = zap.NewNop()
	}
	if i.active, err = newCache[*verified](maxCached); err == nil {
		i.refused, err = newCache[time.Time](maxRefused)
	}
	if err != nil {
		return nil, fmt.Errorf("provider %q: make its cache: %w", c.Name, err)
	}
	return i, nil
}

// Issuer is the exact `iss` that an answer must have, if it has one.
func (i *Introspector) Issuer() string { return i.issuer }

// Run has nothing to do: the endpoint is asked when a token comes.
func (i *Introspector) Run(ctx context.Context) { <-ctx.Done() }

// Status is always ready, as whether the endpoint answers shows only with a token; Problem says why the last attempt
// failed.
func (i *Introspector) Status() Status {
	i.mu.Lock()
	defer i.mu.Unlock()
	st := Status{Ready: true, Fetched: i.answered}
	if i.problem != nil {
		st.Problem = i.problem.Error()
	}
	return st
}

// Verify asks the endpoint, or takes the answer that it gave a moment ago.
func (i *Introspector) Verify(ctx context.Context, c Credential) (*policy.Identity, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	d := digestOf(c.Token)
	return i.verify(ctx, &c, &d)
}

func (i *Introspector) verify(ctx context.Context, c *Credential, d *digest) (*policy.Identity, error) {
	now := i.now()
	v, ok := i.active.get(d)
	if !ok || !now.Before(v.until) {
		if until, ok := i.refused.get(d); ok && now.Before(until) {
			return nil, bad("the provider said a moment ago that the token is not good")
		}
		var err error
		if v, err = i.fly(ctx, c.Token, *d); err != nil {
			return nil, err
		}
	}
	if err := i.prove(v, c, d); err != nil {
		return nil, err
	}
	return v.identity, nil
}

// fly asks once for all who ask about the token now. The request outlives a caller that gives up.
func (i *Introspector) fly(ctx context.Context, token string, d digest) (*verified, error) {
	flight := i.flights.DoChan(string(d[:]), func() (_ any, err error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), introspectWait)
		defer cancel()
		defer func() {
			if p := recover(); p != nil { // in this goroutine nobody else would
				err = fmt.Errorf("introspect: panic of type %T", p)
			}
		}()
		v, err := i.look(ctx, token)
		if err == nil {
			i.active.put(&d, v)
		} else if isRefused(err) {
			i.refused.put(&d, i.now().Add(introspectRefuse))
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
		return nil, unavailable(i.name, fmt.Errorf("wait for introspection: %w", ctx.Err()))
	}
}

// look asks the endpoint and judges its answer. A token that says it is of another issuer is not shown to this one.
func (i *Introspector) look(ctx context.Context, token string) (*verified, error) {
	if looksLikeJWS(token) {
		if t, err := parseCompact(token, nil); err == nil {
			if issuer, ok := t.claims["iss"].(string); ok && issuer != i.issuer {
				return nil, bad("iss is not the provider's issuer")
			}
		}
	}
	if i.now().Before(i.broken()) {
		return nil, unavailable(i.name, errors.New("introspection failed often; the endpoint is left alone for a moment"))
	}
	if err := i.slots.Acquire(ctx, 1); err != nil {
		return nil, unavailable(i.name, errors.New("too many introspections under way"))
	}
	defer i.slots.Release(1)
	if end, ok := ctx.Deadline(); ok && time.Until(end) < introspectLeast {
		return nil, unavailable(i.name, errors.New("too many introspections under way"))
	}
	claims, err := i.ask(ctx, token)
	i.note(err)
	if err != nil {
		return nil, unavailable(i.name, fmt.Errorf("introspect: %w", err))
	}
	// RFC 7662, section 2.2: a boolean, and required. Whatever is not true is no.
	if active, _ := claims["active"].(bool); !active {
		return nil, bad("the provider says that the token is not active")
	}
	return i.accept(claims)
}

// ask posts the token (RFC 7662, section 2.1) and reads the answer: a JSON object with status 200, or an error. What is
// wrong with the answer is the provider's fault or ours, never the client's.
func (i *Introspector) ask(ctx context.Context, token string) (map[string]any, error) {
	form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, i.endpoint, strings.NewReader(form))
	if err != nil {
		return nil, errors.New("the request cannot be made")
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Accept", "application/json")
	request.Header.Set("Authorization", i.basic)
	response, err := i.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the endpoint answered %d, expected 200", response.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, introspectMost+1))
	if err != nil {
		return nil, err
	}
	if len(text) > introspectMost {
		return nil, fmt.Errorf("the endpoint answered more than %d bytes", introspectMost)
	}
	parsed, err := policy.ParseValue(text)
	if err != nil {
		return nil, errors.New("the answer is not strict JSON")
	}
	claims, ok := parsed.(map[string]any)
	if !ok {
		return nil, errors.New("the answer is not a JSON object")
	}
	return claims, nil
}

// accept checks an active answer as the claims of a JWT, except that iss and exp may be left out (RFC 7662, section 2.2):
// it is the provider itself that says, now, that the token is its own and active.
func (i *Introspector) accept(claims map[string]any) (*verified, error) {
	now := i.now()
	until := now.Add(introspectKeep)
	checked := claims
	_, hasIssuer := claims["iss"]
	_, hasExpiry := claims["exp"]
	if !hasIssuer || !hasExpiry {
		checked = maps.Clone(claims)
		if !hasIssuer {
			checked["iss"] = i.issuer
		}
		if !hasExpiry {
			checked["exp"] = until.Unix()
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
	if typ, _ := claims["token_type"].(string); strings.EqualFold(typ, "DPoP") && (v.binding == nil || v.binding.key == nil) {
		return nil, bad("a DPoP token without the thumbprint of its key")
	}
	if until.Before(v.until) {
		v.until = until
	}
	return v, nil
}

func (i *Introspector) broken() time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.closed
}

// note counts failures in a row, and logs a change once.
func (i *Introspector) note(err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	before := i.problem
	i.problem = err
	if err == nil {
		i.failures, i.answered = 0, i.now()
		if before != nil {
			i.log.Info("introspection works again", zap.String("provider", i.name))
		}
		return
	}
	if i.failures++; i.failures >= breakAfter {
		i.failures, i.closed = 0, i.now().Add(breakFor)
	}
	if before == nil {
		i.log.Warn("introspection fails", zap.String("provider", i.name), zap.Error(err))
	}
}
