package token

import (
	"maps"
	"strings"
	"time"

	"github.com/usher-authz/usher/policy"
)

// Suppose returns the identity that a token of the provider with these claims would speak for: a token that is well
// signed, proved where it is bound, and not revoked. The claims pass the checks and the mapping that a verifier's do. What
// the provider demands and the claims leave out (issuer, audience, client, exp, required claims) is taken for granted, so
// that a test names only what its policy looks at; what they do say counts, and is refused where a token would be. The
// claims are not changed. It does no I/O. The error is a *policy.Refusal, or says what is wrong in c.
func Suppose(c Config, claims map[string]any) (*policy.Identity, error) {
	r, err := newRules(c)
	if err != nil {
		return nil, err
	}
	filled := r.fill(claims)
	expires, err := r.check(filled, r.now())
	if err != nil {
		return nil, err
	}
	if c.Introspection != nil || c.Userinfo != nil {
		// The provider's answer need not say these.
		for _, name := range [...]string{"iss", "exp", r.audience} {
			if _, given := claims[name]; !given {
				delete(filled, name)
			}
		}
	}
	v, err := r.admit(filled, expires)
	if err != nil {
		return nil, err
	}
	return v.identity, nil
}

// fill adds the claims that every token of the provider has.
func (r *rules) fill(claims map[string]any) map[string]any {
	out := maps.Clone(claims)
	if out == nil {
		out = map[string]any{}
	}
	add := func(name string, v any) {
		if _, given := out[name]; !given {
			out[name] = v
		}
	}
	if len(r.tenants) > 0 {
		add("tid", r.tenants[0])
		tid, _ := out["tid"].(string)
		add("iss", strings.ReplaceAll(r.issuer, tenantMark, tid))
	}
	add("iss", r.issuer)
	add(r.audience, r.audiences[0])
	if len(r.clients) > 0 && !r.client(out) && !namesClient(out) {
		add("client_id", r.clients[0])
	}
	for name, values := range r.required {
		add(name, values[0])
	}
	now := r.now()
	add("exp", now.Add(time.Hour).Unix())
	if r.maxAge > 0 {
		add("iat", now.Unix())
	}
	return out
}

// namesClient reports whether the claims say which client they were issued to.
func namesClient(claims map[string]any) bool {
	for _, name := range [...]string{"client_id", "azp", "cid", "appid"} {
		if _, ok := claims[name]; ok {
			return true
		}
	}
	return false
}
