package token

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/usher-authz/usher/policy"
)

// JWT verifies the JSON Web Tokens of one provider. It is safe for concurrent use; Run must run beside it, unless its
// keys are given inline. The zero JWT verifies nothing and must not be used; make one with [NewJWT].
type JWT struct {
	rules
	algorithms []string
	typ        []string // folded
	keys       *keySource
	cache      *Cache
	header     atomic.Pointer[header] // of the token that was verified last
}

// NewJWT returns a verifier. It does no I/O. The error names what is wrong in the Config.
func NewJWT(c Config) (*JWT, error) {
	r, err := newRules(c)
	if err != nil {
		return nil, err
	}
	j := &JWT{rules: r, algorithms: slices.Clone(c.Algorithms)}
	for _, typ := range c.Typ {
		j.typ = append(j.typ, mediaType(typ))
	}
	if len(j.algorithms) == 0 {
		j.algorithms = asymmetric()
		if len(c.SharedSecret) > 0 {
			j.algorithms = []string{"HS256"}
		}
	}
	if err := checkAlgorithms(j.algorithms, c.SharedSecret); err != nil {
		return nil, fmt.Errorf("provider %q: %w", c.Name, err)
	}
	if j.cache = c.Cache; j.cache == nil {
		if j.cache, err = NewCache(); err != nil {
			return nil, fmt.Errorf("provider %q: %w", c.Name, err)
		}
	}
	log := c.Logger
	if log == nil {
		log = zap.NewNop()
	}
	if j.keys, err = newKeySource(c, j.algorithms, j.now, log); err != nil {
		return nil, err
	}
	return j, nil
}

// checkAlgorithms keeps symmetric and asymmetric algorithms apart, so that no public key is ever a secret (RFC 8725,
// section 2.1), and asks for secrets as long as their hash (RFC 7518, section 3.2).
func checkAlgorithms(algorithms []string, secret []byte) error {
	for _, alg := range algorithms {
		size := secretSize(alg)
		switch {
		case size == 0 && !slices.Contains(asymmetric(), alg):
			return fmt.Errorf("unknown algorithm %q", alg)
		case size == 0 && len(secret) > 0:
			return fmt.Errorf("%s does not go with a shared secret", alg)
		case size > 0 && len(secret) == 0:
			return fmt.Errorf("%s needs a shared secret", alg)
		case size > 0 && len(secret) < size:
			return fmt.Errorf("the shared secret is shorter than %d bytes, which %s needs", size, alg)
		}
	}
	return nil
}

// Issuer is the exact `iss` of the provider's tokens.
func (j *JWT) Issuer() string { return j.issuer }

// Run fetches keys, and again, until ctx ends. It logs each change of the provider's health once.
func (j *JWT) Run(ctx context.Context) { j.keys.run(ctx) }

// Status says how the provider is.
func (j *JWT) Status() Status { return j.keys.status() }

// Verify verifies one token. What was verified before is found by the hash of its exact bytes, and costs no more than
// that; its time, its key and its binding to the sender are checked again. No key is fetched for a token; one that names a
// key which is not known may wait up to 100 ms for a fetch in the background.
func (j *JWT) Verify(ctx context.Context, c Credential) (*policy.Identity, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	d := digestOf(c.Token)
	return j.verify(ctx, &c, &d, nil)
}

// verify verifies a token that was taken apart already, unless t is nil.
func (j *JWT) verify(ctx context.Context, c *Credential, d *digest, t *compact) (*policy.Identity, error) {
	v, ok := j.cached(d)
	now := j.now()
	if j.keys.late(now) {
		// Keys may be waited for more than once on the way, and all of it must take no longer than once: Envoy gives up.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, askWait)
		defer cancel()
	}
	if ok {
		set, err := j.keys.current(ctx, now)
		if err != nil {
			return nil, unavailable(j.name, err)
		}
		if !now.Before(v.until) || !set.has(v.key) {
			j.cache.tokens.drop(d)
			ok = false
		}
	}
	if !ok {
		var err error
		if v, err = j.cold(ctx, c.Token, d, t); err != nil {
			return nil, err
		}
		j.cache.tokens.put(d, v, v.weight)
	}
	if err := j.prove(v, c, d); err != nil {
		return nil, err
	}
	return v.identity, nil
}

// cached returns what this verifier found out about the token with this digest.
func (j *JWT) cached(d *digest) (*verified, bool) {
	v, ok := j.cache.tokens.get(d)
	return v, ok && v.by == j
}

// cold verifies a token from the beginning, but for a signature that was found good before. What can never be right is
// refused before keys are asked for, so that it is never our own fault, and costs neither a signature check nor a fetch.
func (j *JWT) cold(ctx context.Context, token string, d *digest, t *compact) (*verified, error) {
	if t == nil {
		var err error
		if t, err = parseCompact(token, j.header.Load()); err != nil {
			return nil, err
		}
	}
	if !slices.Contains(j.algorithms, t.alg) { // RFC 8725, section 3.1
		return nil, bad("alg is not accepted")
	}
	if !typeAccepted(t.typ, j.typ) { // RFC 8725, section 3.11; RFC 9068, section 4
		return nil, bad("typ is not accepted")
	}
	expires, err := j.check(t.claims, j.now())
	if err != nil {
		return nil, err
	}
	signer, err := j.signer(ctx, d, t)
	if err != nil {
		return nil, err
	}
	v, err := j.admit(t.claims, expires)
	if err != nil {
		return nil, err
	}
	v.key, v.by = signer, j
	if j.header.Load() != t.header {
		j.header.Store(t.header)
	}
	return v, nil
}

// signer finds the key that signed the token. Where the token means a key that is not known, the issuer may have published
// it a moment ago: a fetch is asked for. Only when one has succeeded is the key known not to exist.
func (j *JWT) signer(ctx context.Context, d *digest, t *compact) (*key, error) {
	set, err := j.keys.current(ctx, j.now())
	if err != nil {
		return nil, unavailable(j.name, err)
	}
	if k := j.cache.signedBy(d); k != nil && set.has(k) { // of another provider's keys it has none
		return k, nil
	}
	signer, named := set.verify(t)
	if !named {
		if err := j.keys.ask(ctx); err != nil {
			return nil, unavailable(j.name, fmt.Errorf("the token names a key that is not known: %w", err))
		}
		if set, err = j.keys.current(ctx, j.now()); err != nil {
			return nil, unavailable(j.name, err)
		}
		signer, named = set.verify(t)
	}
	switch {
	case !named:
		return nil, bad("the issuer has no key of that name")
	case signer == nil:
		return nil, invalid("The access token is not valid.", errors.New("no key of the issuer verifies the signature by this alg"))
	}
	j.cache.sign(d, signer)
	return signer, nil
}
