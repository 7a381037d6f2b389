package assertion

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/usher-authz/usher/extauthz/signing"
	"github.com/usher-authz/usher/policy"
)

// Type is the `typ` of an assertion: a verifier that checks it takes no other token for one (RFC 8725, section 3.11).
const Type = "usher-assertion+jwt"

// The bounds of a lifetime, and what it is by default.
const (
	MinLifetime     = 10 * time.Second
	DefaultLifetime = time.Minute
	MaxLifetime     = 10 * time.Minute
)

// MaxKeys bounds the keys of a policy, and MaxSize an assertion in bytes: Envoy and Node backends bound headers.
const (
	MaxKeys = 10
	MaxSize = 4096
)

// Signer signs the assertions of one policy. It never changes and is safe for concurrent use. Make one with [New]; the zero
// Signer and a nil one sign nothing.
type Signer struct {
	policy *policy.Policy
	spec   *policy.Assertion
	key    *signing.Key
	header string
	public []json.RawMessage
	memo   *mark
}

// mark tells the memos of one signer from those of any other. It holds no policy, so that a memo keeps none alive; it has a
// size, as pointers to things without one may be equal.
type mark struct{ _ byte }

// ParseKey reads a key that may sign assertions: EC P-256 or Ed25519. The error is as [signing.Parse]'s.
func ParseKey(text []byte) (*signing.Key, error) {
	key, err := signing.Parse(text)
	if err != nil {
		return nil, err
	}
	if alg := key.Algorithm(); alg != "ES256" && alg != "EdDSA" {
		return nil, fmt.Errorf("found an %s key, expected EC P-256 (ES256) or Ed25519 (EdDSA)", alg)
	}
	return key, nil
}

// KeyID is what a key is published as: the kid of its JWK, or its RFC 7638 thumbprint.
func KeyID(key *signing.Key) string {
	if id := key.ID(); id != "" {
		return id
	}
	return key.Thumbprint()
}

// New returns the signer of a policy's assertions; nil if the policy has none.
func New(p *policy.Policy) (*Signer, error) {
	spec := p.Assertion()
	if spec == nil {
		return nil, nil
	}
	fail := func(err error) (*Signer, error) { return nil, fmt.Errorf("policy %q: assertion: %w", p.Name, err) }
	switch {
	case spec.Issuer == "" || spec.Audience == "" || spec.Header == "":
		return fail(errors.New("it needs a header, an issuer and an audience"))
	case spec.Lifetime < MinLifetime || spec.Lifetime > MaxLifetime:
		return fail(fmt.Errorf("a lifetime of %v, expected %v to %v", spec.Lifetime, MinLifetime, MaxLifetime))
	case len(spec.Keys) == 0 || len(spec.Keys) > MaxKeys:
		return fail(fmt.Errorf("%d keys, expected 1 to %d", len(spec.Keys), MaxKeys))
	}
	s := &Signer{policy: p, spec: spec, memo: &mark{}}
	for i, text := range spec.Keys {
		key, err := ParseKey(text)
		if err != nil {
			return fail(fmt.Errorf("key %d: %w", i, err))
		}
		public, err := key.JWK(KeyID(key))
		if err != nil {
			return fail(err)
		}
		s.public = append(s.public, public)
		if i > 0 {
			continue
		}
		if s.key = key; s.key != nil {
			if s.header, err = key.Header(Type, KeyID(key)); err != nil {
				return fail(err)
			}
		}
	}
	return s, nil
}

// Headers returns the identity headers with the assertion behind them; they must be the policy's own for this identity. The
// result is shared between requests. An error that is no *policy.Refusal is our own fault: nothing may pass then.
func (s *Signer) Headers(id *policy.Identity, identity []policy.Header, now time.Time) ([]policy.Header, error) {
	if s == nil || s.key == nil {
		return nil, errors.New("no signer of assertions")
	}
	now = now.Round(0) // by the wall clock, as the backend judges
	if m := id.Signed(s.memo, now); m != nil {
		return m.Headers, nil
	}
	value, until, err := s.sign(id, now)
	if err != nil {
		return nil, err
	}
	m := &policy.Signed{
		By: s.memo, From: now, Until: until,
		Headers: append(identity[:len(identity):len(identity)], policy.Header{Name: s.spec.Header, Value: value}),
	}
	id.Keep(m)
	return m.Headers, nil
}

// sign makes an assertion, and says until when it is to be used: half of its lifetime, or all of it where a new one could
// not last longer.
func (s *Signer) sign(id *policy.Identity, now time.Time) (value string, until time.Time, err error) {
	claims, err := s.policy.AssertionClaims(id)
	if err != nil {
		return "", time.Time{}, &policy.Refusal{Outcome: policy.Forbidden, Detail: "Forbidden", Err: err}
	}
	// NumericDates in whole seconds, which every reader takes (RFC 7519, section 2).
	issued, end := now.Unix(), id.Expires.Unix()
	expires := issued + int64(s.spec.Lifetime/time.Second)
	until = now.Add(s.spec.Lifetime / 2)
	if end <= expires {
		expires, until = end, time.Unix(end, 0)
	}
	if expires <= issued {
		// Within the clock skew that a token is forgiven: no assertion could be good, and outlive the token not.
		return "", time.Time{}, &policy.Refusal{
			Outcome: policy.Unauthenticated, Detail: "The access token expired.", Err: errors.New("exp is past, and an assertion may not outlive the token"),
			Challenge: `error="invalid_token", error_description="The access token expired."`,
		}
	}
	claims["iss"], claims["sub"], claims["aud"] = s.spec.Issuer, id.Name, s.spec.Audience
	claims["iat"], claims["nbf"], claims["exp"] = issued, issued, expires
	text, err := json.Marshal(claims)
	if err != nil {
		return "", time.Time{}, errors.New("write the claims of an assertion: no JSON")
	}
	if value, err = s.key.Sign(s.header, text); err != nil {
		return "", time.Time{}, fmt.Errorf("policy %q: assertion: %w", s.policy.Name, err)
	}
	if len(value) > MaxSize {
		return "", time.Time{}, &policy.Refusal{Outcome: policy.Forbidden, Detail: "Forbidden", Err: fmt.Errorf("the assertion is longer than %d bytes", MaxSize)}
	}
	return value, until, nil
}

// KeySet is the JWK set (RFC 7517, section 5) of all these signers' public keys, each once. Nil signers have none.
func KeySet(signers ...*Signer) ([]byte, error) {
	set := struct {
		Keys []json.RawMessage `json:"keys"`
	}{[]json.RawMessage{}}
	seen := map[string]bool{}
	for _, s := range signers {
		if s == nil {
			continue
		}
		for _, k := range s.public {
			if !seen[string(k)] {
				seen[string(k)] = true
				set.Keys = append(set.Keys, k)
			}
		}
	}
	return json.Marshal(set)
}
