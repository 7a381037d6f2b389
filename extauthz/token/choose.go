package token

import (
	"context"
	"strings"

	"github.com/usher-authz/usher/policy"
)

// Choose joins the verifiers of one policy. A JWT goes to the one whose issuer it names, before anything of it is
// verified: that verifier then checks that the issuer really is its own. A token of an issuer that no verifier has is
// refused, and nothing is fetched for it (RFC 8725, section 3.10). A token that names no issuer goes to the providers that
// are asked, in their order, until one knows it; if one of them could not be asked, and none knows it, nobody knows, and
// that is Unavailable. Without verifiers every token is refused.
func Choose(verifiers ...Verifier) Verifier {
	if len(verifiers) == 1 {
		return verifiers[0]
	}
	c := chooser{}
	for _, v := range verifiers {
		switch v := v.(type) {
		case *JWT:
			c.jwts = append(c.jwts, v)
		case *Asker:
			c.askers = append(c.askers, v)
		default:
			c.others = append(c.others, v)
		}
	}
	return c
}

type chooser struct {
	jwts   []*JWT
	askers []*Asker
	others []Verifier // asked in order for what none of the former is meant by
}

func (c chooser) Verify(ctx context.Context, credential Credential) (*policy.Identity, error) {
	if err := credential.check(); err != nil {
		return nil, err
	}
	d := digestOf(credential.Token)
	for _, j := range c.jwts {
		if _, ok := j.cached(&d); ok {
			return j.verify(ctx, &credential, &d, nil)
		}
	}
	if known := c.known(credential.Token); known != nil || looksLikeJWS(credential.Token) {
		t, err := parseCompact(credential.Token, known)
		if err != nil {
			return nil, err
		}
		if issuer, ok := t.claims["iss"].(string); ok {
			return c.issuedBy(ctx, issuer, &credential, &d, t)
		}
	}
	return c.opaque(ctx, credential, &d)
}

// known returns the header of the token if one of the providers has read it before.
func (c chooser) known(token string) *header {
	segment, _, _ := strings.Cut(token, ".")
	for _, j := range c.jwts {
		if h := j.header.Load(); h != nil && h.segment == segment {
			return h
		}
	}
	return nil
}

func (c chooser) issuedBy(ctx context.Context, issuer string, credential *Credential, d *digest, t *compact) (*policy.Identity, error) {
	for _, j := range c.jwts {
		if j.issued(t.claims) {
			return j.verify(ctx, credential, d, t)
		}
	}
	for _, i := range c.askers {
		if i.issuer == issuer {
			return i.verify(ctx, credential, d)
		}
	}
	return nil, bad("no provider of the policy has this issuer")
}

// opaque asks one after another, and no longer in all than one alone may take: Envoy would not wait for more. Who has not
// answered by then is told apart by nobody: Unavailable.
func (c chooser) opaque(ctx context.Context, credential Credential, d *digest) (*policy.Identity, error) {
	for _, i := range c.askers {
		if i.knows(d) {
			return i.verify(ctx, &credential, d)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	refused := bad("no provider of the policy takes such a token")
	worse := func(err error) {
		if !isRefused(refused) { // one that could not be asked already: it might have known the token
			return
		}
		refused = err
	}
	for _, i := range c.askers {
		id, err := i.verify(ctx, &credential, d)
		if err == nil || i.knows(d) { // what its proof lacks is for the client to hear: others know nothing of it
			return id, err
		}
		worse(err)
	}
	for _, v := range c.others {
		id, err := v.Verify(ctx, credential)
		if err == nil {
			return id, nil
		}
		worse(err)
	}
	return nil, refused
}
