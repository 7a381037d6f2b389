package token

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/usher-authz/usher/policy"
)

// maxCached is how many verified tokens one provider keeps.
const maxCached = 20_000

// JWT verifies the JSON Web Tokens of one provider. It is safe for concurrent use; Run must run beside it, unless its
// keys are given inline.
type JWT struct {
	name       string
	issuer     string
	audiences  []string
	algorithms []string
	typ        []string
	skew       time.Duration
	mapping    *policy.Mapping
	now        func() time.Time
	log        *zap.Logger

	keys  *keySource
	cache *cache
}

// NewJWT returns a verifier. It does no I/O. The error names what is wrong in the Config.
func NewJWT(c Config) (*JWT, error) {
	j := &JWT{
		name: c.Name, issuer: c.Issuer, audiences: c.Audiences, algorithms: c.Algorithms, typ: c.Typ, skew: c.ClockSkew,
		mapping: c.Identity, now: c.Now, log: c.Logger,
	}
	switch {
	case c.Issuer == "":
		return nil, fmt.Errorf("provider %q: no issuer", c.Name)
	case len(c.Audiences) == 0 || slices.Contains(c.Audiences, ""):
		return nil, fmt.Errorf("provider %q: no audience", c.Name)
	case c.Identity == nil:
		return nil, fmt.Errorf("provider %q: no identity mapping", c.Name)
	}
	if j.skew <= 0 {
		j.skew = defaultSkew
	}
	if j.now == nil {
		j.now = time.Now
	}
	if j.log == nil {
		j.log = zap.NewNop()
	}
	if len(j.algorithms) == 0 {
		j.algorithms = asymmetric
		if len(c.SharedSecret) > 0 {
			j.algorithms = []string{"HS256"}
		}
	}
	for _, alg := range j.algorithms {
		size, hmac := hmacSizes[alg]
		switch {
		case hmac && len(c.SharedSecret) == 0:
			return nil, fmt.Errorf("provider %q: %s needs a shared secret", c.Name, alg)
		case hmac && len(c.SharedSecret) < size:
			return nil, fmt.Errorf("provider %q: the shared secret is shorter than %d bytes, which %s needs", c.Name, size, alg)
		case !hmac && !slices.Contains(asymmetric, alg):
			return nil, fmt.Errorf("provider %q: unknown algorithm %q", c.Name, alg)
		case !hmac && len(c.SharedSecret) > 0:
			return nil, fmt.Errorf("provider %q: %s does not go with a shared secret", c.Name, alg)
		}
	}
	var err error
	if j.cache, err = newCache(maxCached); err != nil {
		return nil, err
	}
	j.keys, err = newKeySource(c, j.now, j.log)
	return j, err
}

// Issuer is the exact `iss` of the provider's tokens.
func (j *JWT) Issuer() string { return j.issuer }

// Run fetches keys, and again, until ctx ends. It logs each change of the provider's health once.
func (j *JWT) Run(ctx context.Context) { j.keys.run(ctx) }

// Status says how the provider is.
func (j *JWT) Status() Status { return j.keys.status() }

// Verify verifies one token. What was verified before is found by the hash of its exact bytes, and costs no more than
// that; its time, its key and its binding to the sender are checked again.
func (j *JWT) Verify(ctx context.Context, c Credential) (*policy.Identity, error) {
	if len(c.Token) > maxToken {
		return nil, bad("token is too long")
	}
	return j.verify(ctx, c, digestOf(c.Token))
}

func (j *JWT) verify(ctx context.Context, c Credential, d digest) (*policy.Identity, error) {
	now := j.now()
	set := j.keys.current(now)
	if set == nil {
		return nil, unavailable(j.name, errors.New("no keys"))
	}
	if v := j.cache.get(d); v != nil {
		if now.Before(v.until) && set.has(v.key) {
			if err := v.binding.check(c); err != nil {
				return nil, err
			}
			return v.identity, nil
		}
		j.cache.drop(d)
	}
	return j.cold(ctx, c, d, now, set)
}

func (j *JWT) cold(ctx context.Context, c Credential, d digest, now time.Time, set *keySet) (*policy.Identity, error) {
	t, err := parseCompact(c.Token)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(j.algorithms, t.alg) {
		return nil, bad("alg is not accepted")
	}
	if len(j.typ) > 0 && !sameType(t.typ, j.typ) {
		return nil, bad("typ is not accepted")
	}
	// Claims that can never be right cost no signature check and no key fetch.
	valid, err := j.checkClaims(t.claims, now)
	if err != nil {
		return nil, err
	}
	k, err := j.signedBy(ctx, t, set)
	if err != nil {
		return nil, err
	}
	bound, err := bindingOf(t.claims)
	if err != nil {
		return nil, err
	}
	identity, err := j.mapping.Identity(t.claims)
	if err != nil {
		return nil, invalid("The access token does not say who it is for.", err)
	}
	identity.Provider, identity.Expires = j.name, valid.expires
	j.cache.put(d, &verified{identity: identity, until: valid.expires.Add(j.skew), key: k.thumbprint, binding: bound})
	if err := bound.check(c); err != nil {
		return nil, err
	}
	return identity, nil
}

// signedBy finds the key that signed the token. Where the token names a key that is not known, the key set may have
// changed: one fetch is asked for, and waited for a moment.
func (j *JWT) signedBy(ctx context.Context, t *compact, set *keySet) (*key, error) {
	k, known := set.find(t)
	if !known && j.keys.refresh(ctx) {
		if next := j.keys.current(j.now()); next != nil {
			k, known = next.find(t)
		}
	}
	switch {
	case !known:
		return nil, bad("no key of the issuer is named so")
	case k == nil:
		return nil, bad("signature, or algorithm, does not match the key")
	}
	return k, nil
}

// client fetches from the provider: within limits, and never from another host than the one that was asked for.
func client(transport http.RoundTripper) *http.Client {
	return &http.Client{
		Transport: transport,
		Timeout:   fetchTimeout,
		CheckRedirect: func(next *http.Request, via []*http.Request) error {
			if len(via) > 3 || next.URL.Host != via[0].URL.Host || next.URL.Scheme != via[0].URL.Scheme {
				return errors.New("redirect to another host refused")
			}
			return nil
		},
	}
}
