package token

import (
	"context"

	"github.com/usher-authz/usher/policy"
)

// Choose joins the verifiers of one policy. A JWT goes to the one whose issuer it names, before anything of it is
// verified: that verifier then checks that the issuer really is its own. A token of an issuer that no verifier has is
// refused, and nothing is fetched for it (RFC 8725, section 3.10).
func Choose(verifiers ...Verifier) Verifier {
	if len(verifiers) == 1 {
		return verifiers[0]
	}
	c := chooser{}
	for _, v := range verifiers {
		if j, ok := v.(*JWT); ok {
			c.jwts = append(c.jwts, j)
		} else {
			c.others = append(c.others, v)
		}
	}
	return c
}

type chooser struct {
	jwts   []*JWT
	others []Verifier
}

func (c chooser) Verify(ctx context.Context, credential Credential) (*policy.Identity, error) {
	if len(credential.Token) > maxToken {
		return nil, bad("token is too long")
	}
	if len(c.jwts) > 0 && looksLikeJWS(credential.Token) {
		d := digestOf(credential.Token)
		for _, j := range c.jwts {
			if j.cache.get(d) != nil {
				return j.verify(ctx, credential, d)
			}
		}
		t, err := parseCompact(credential.Token)
		if err != nil {
			return nil, err
		}
		for _, j := range c.jwts {
			if iss, ok := t.claims["iss"].(string); ok && iss == j.issuer {
				return j.verify(ctx, credential, d)
			}
		}
		return nil, bad("no provider of the policy has this issuer")
	}
	err := bad("no provider of the policy takes such a token")
	for _, v := range c.others {
		var id *policy.Identity
		if id, err = v.Verify(ctx, credential); err == nil {
			return id, nil
		}
	}
	return nil, err
}
