package token

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"

	"github.com/usher-authz/usher/policy"
)

const (
	introspectWait  = 140 * time.Millisecond // of one request to the endpoint, below Envoy's 200 ms
	introspectSlots = 32                     // requests under way at once
	introspectKeep  = 30 * time.Second       // how long an active answer is kept, never past exp
	introspectMost  = 64 << 10               // bytes of an answer
)

// introspector asks a provider about opaque tokens (RFC 7662). It is safe for concurrent use. An active answer is kept for
// a short time; an inactive one, and a failure, is not kept at all.
type introspector struct {
	jwt      *JWT // for what the two have in common: claims, mapping, cache, clock
	endpoint string
	basic    string
	http     *http.Client
	slots    *semaphore.Weighted
	flights  singleflight.Group
}

func newIntrospector(c Config) (*introspector, error) {
	i := c.Introspection
	u, err := url.Parse(i.Endpoint)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && !(u.Scheme == "http" && c.AllowHTTP):
		return nil, fmt.Errorf("provider %q: introspection endpoint %q is no https URL", c.Name, i.Endpoint)
	case i.ClientID == "" || i.ClientSecret == "":
		return nil, fmt.Errorf("provider %q: introspection needs a client id and its secret", c.Name)
	case c.Issuer == "" || len(c.Audiences) == 0 || slices.Contains(c.Audiences, ""):
		return nil, fmt.Errorf("provider %q: no issuer or no audience", c.Name)
	case c.Identity == nil:
		return nil, fmt.Errorf("provider %q: no identity mapping", c.Name)
	}
	j := &JWT{name: c.Name, issuer: c.Issuer, audiences: c.Audiences, skew: c.ClockSkew, mapping: c.Identity, now: c.Now, log: c.Logger}
	if j.skew <= 0 {
		j.skew = defaultSkew
	}
	if j.now == nil {
		j.now = time.Now
	}
	if j.log == nil {
		j.log = zap.NewNop()
	}
	if j.cache, err = newCache(maxCached); err != nil {
		return nil, err
	}
	transport := c.Transport
	if transport == nil {
		transport = &http.Transport{
			DialContext:         (&net.Dialer{Timeout: introspectWait}).DialContext,
			TLSHandshakeTimeout: time.Second, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: introspectSlots,
			MaxConnsPerHost: introspectSlots, MaxResponseHeaderBytes: 64 << 10, IdleConnTimeout: time.Minute,
		}
	}
	// RFC 6749, section 2.3.1: both parts are form-encoded before they are joined.
	basic := base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(i.ClientID) + ":" + url.QueryEscape(i.ClientSecret)))
	return &introspector{
		jwt: j, endpoint: i.Endpoint, basic: "Basic " + basic, slots: semaphore.NewWeighted(introspectSlots),
		http: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}, nil
}

// Run has nothing to do: the endpoint is asked when a token comes.
func (i *introspector) Run(ctx context.Context) { <-ctx.Done() }

// Status is always ready: whether the endpoint answers shows only with a token.
func (i *introspector) Status() Status { return Status{Ready: true} }

// Verify asks the endpoint, or takes the answer that it gave a moment ago.
func (i *introspector) Verify(ctx context.Context, c Credential) (*policy.Identity, error) {
	if len(c.Token) > maxToken {
		return nil, bad("token is too long")
	}
	d := digestOf(c.Token)
	v := i.jwt.cache.get(d)
	if v == nil || !i.jwt.now().Before(v.until) {
		flight := i.flights.DoChan(string(d[:]), func() (any, error) {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), introspectWait)
			defer cancel()
			return i.ask(ctx, c.Token, d)
		})
		select {
		case r := <-flight:
			if r.Err != nil {
				return nil, r.Err
			}
			v = r.Val.(*verified)
		case <-ctx.Done():
			return nil, unavailable(i.jwt.name, ctx.Err())
		}
	}
	if err := v.binding.check(c); err != nil {
		return nil, err
	}
	return v.identity, nil
}

func (i *introspector) ask(ctx context.Context, token string, d digest) (*verified, error) {
	if err := i.slots.Acquire(ctx, 1); err != nil {
		return nil, unavailable(i.jwt.name, errors.New("too many introspections under way"))
	}
	defer i.slots.Release(1)
	form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, i.endpoint, strings.NewReader(form))
	if err != nil {
		return nil, unavailable(i.jwt.name, errors.New("introspection request cannot be made"))
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Accept", "application/json")
	request.Header.Set("Authorization", i.basic)
	response, err := i.http.Do(request)
	if err != nil {
		return nil, unavailable(i.jwt.name, fmt.Errorf("introspect: %w", err))
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, introspectMost+1))
	if err != nil || len(text) > introspectMost || response.StatusCode != http.StatusOK {
		return nil, unavailable(i.jwt.name, fmt.Errorf("introspect: endpoint answered %d", response.StatusCode))
	}
	parsed, err := policy.ParseValue(text)
	if err != nil {
		return nil, unavailable(i.jwt.name, errors.New("introspect: the answer is not strict JSON"))
	}
	claims, ok := parsed.(map[string]any)
	active, isBool := claims["active"].(bool)
	if !ok || !isBool {
		return nil, unavailable(i.jwt.name, errors.New("introspect: the answer has no active that is true or false"))
	}
	if !active {
		return nil, bad("the provider says that the token is not active")
	}
	return i.accept(claims, d)
}

// accept checks an active answer as the claims of a JWT, except that exp and iss may be left out (RFC 7662, section 2.2):
// the provider was asked itself.
func (i *introspector) accept(claims map[string]any, d digest) (*verified, error) {
	now := i.jwt.now()
	until := now.Add(introspectKeep)
	checked := make(map[string]any, len(claims)+2)
	for k, v := range claims {
		checked[k] = v
	}
	if _, ok := claims["iss"]; !ok {
		checked["iss"] = i.jwt.issuer
	}
	if _, ok := claims["exp"]; !ok {
		checked["exp"] = until.Unix()
	}
	valid, err := i.jwt.checkClaims(checked, now)
	if err != nil {
		return nil, err
	}
	if typ, ok := claims["token_type"].(string); ok && strings.EqualFold(typ, "DPoP") && claims["cnf"] == nil {
		return nil, bad("a DPoP token without cnf")
	}
	bound, err := bindingOf(claims)
	if err != nil {
		return nil, err
	}
	identity, err := i.jwt.mapping.Identity(claims)
	if err != nil {
		return nil, invalid("The access token does not say who it is for.", err)
	}
	identity.Provider, identity.Expires = i.jwt.name, valid.expires
	if end := valid.expires.Add(i.jwt.skew); end.Before(until) {
		until = end
	}
	v := &verified{identity: identity, until: until, binding: bound}
	i.jwt.cache.put(d, v)
	return v, nil
}
