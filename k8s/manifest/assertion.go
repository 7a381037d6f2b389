package manifest

import (
	"fmt"
	"strings"
	"time"

	"github.com/usher-authz/usher/extauthz/assertion"
	"github.com/usher-authz/usher/policy"
)

// maxClaims bounds the claims of an assertion, which must fit into a header.
const maxClaims = 32

// publishedKey is where a kid was first seen, and which key it is of.
type publishedKey struct {
	thumbprint string
	at         policy.Position
}

// assertion checks what is said of the backend's assertion and resolves its keys.
func (c *compiler) assertion(o *Object) *policy.AssertionSource {
	spec := o.AuthPolicy.Spec.Assertion
	if spec == nil {
		return nil
	}
	out := &policy.AssertionSource{
		Header: o.text("spec", "assertion", "header"), Issuer: spec.Issuer, Audience: spec.Audience, Lifetime: assertion.DefaultLifetime,
	}
	name := strings.ToLower(spec.Header)
	switch at := o.at("spec", "assertion", "header"); {
	case name == "":
		c.missing(o, "the header that carries it, such as usher-assertion", "spec", "assertion", "header")
		return nil
	case !isToken(name):
		c.add(at, fmt.Sprintf("found header name %q", spec.Header), "letters, digits and hyphens", "")
		return nil
	case reserved(name):
		c.add(at, fmt.Sprintf("found header %q, which steers the request itself", spec.Header), "a name of its own, such as usher-assertion", "")
	}
	for _, f := range []struct{ name, value, want string }{
		{"issuer", spec.Issuer, "the iss of assertions: a name of this gate, such as https://usher.example.com"},
		{"audience", spec.Audience, "the aud of assertions: a name of this backend, such as https://agents.example.com"},
	} {
		switch {
		case f.value == "":
			c.missing(o, f.want, "spec", "assertion", f.name)
		case !isVisible(f.value):
			c.add(o.at("spec", "assertion", f.name), fmt.Sprintf("found %q", f.value), f.want, "visible ASCII")
		}
	}
	c.assertionIssuer(o)
	if l := spec.Lifetime; l != nil {
		if out.Lifetime = l.Duration; (l.Duration < assertion.MinLifetime || l.Duration > assertion.MaxLifetime || l.Duration%time.Second != 0) && !o.broken {
			c.add(o.at("spec", "assertion", "lifetime"), "found "+l.Duration.String(), fmt.Sprintf("whole seconds, %v to %v", assertion.MinLifetime, assertion.MaxLifetime), "leave it out to take 1m")
		}
	}
	out.Keys = c.assertionKeys(o)
	out.Claims = c.assertionClaims(o)
	return out
}

// assertionIssuer refuses the issuer of a provider: whoever trusts its tokens would look for our keys there, or take ours
// for its own.
func (c *compiler) assertionIssuer(o *Object) {
	for _, name := range o.AuthPolicy.Spec.Providers {
		p := c.named(o, name)
		if p != nil && p.IdentityProvider.Spec.Issuer != "" && p.IdentityProvider.Spec.Issuer == o.AuthPolicy.Spec.Assertion.Issuer {
			c.add(o.at("spec", "assertion", "issuer"), fmt.Sprintf("found the issuer of provider %q", name), "a name of this gate", "an assertion is not a token of the provider")
		}
	}
}

// assertionKeys resolves the keys in their order. The problems hold nothing of them.
func (c *compiler) assertionKeys(o *Object) []policy.PrivateKey {
	refs := o.AuthPolicy.Spec.Assertion.KeyRefs
	switch {
	case len(refs) == 0:
		c.missing(o, "the Secrets with its private keys: the first one signs", "spec", "assertion", "keyRefs")
		return nil
	case len(refs) > assertion.MaxKeys:
		c.add(o.at("spec", "assertion", "keyRefs"), fmt.Sprintf("found %d keys", len(refs)), fmt.Sprintf("at most %d", assertion.MaxKeys), "a key is needed until the last assertion that it signed has expired")
	}
	var out []policy.PrivateKey
	seen := map[string]bool{}
	for i, ref := range refs {
		path := []any{"spec", "assertion", "keyRefs", i}
		if ref.Name == "" {
			c.missing(o, "the name of a Secret", path...)
			continue
		}
		text := c.secret(o, ref, "privateKey", path...)
		if text == nil {
			continue // said already
		}
		key, err := assertion.ParseKey(text)
		if err != nil {
			c.add(o.at(path...), err.Error(), "", "in the Secret, not here")
			continue
		}
		id, thumbprint := assertion.KeyID(key), key.Thumbprint()
		first, known := c.published[[2]string{c.tenant(o), id}]
		switch {
		case seen[thumbprint]:
			c.add(o.at(path...), "found a key twice", "each once", "")
			continue
		case known && first.thumbprint != thumbprint:
			// All of a tenant's are published in one set, where a kid finds one key.
			c.add(o.at(path...), fmt.Sprintf("found kid %q, which another key has", id), "a kid for each key", "the other one is at "+first.at.String()+"; a JWK without kid gets its thumbprint")
			continue
		}
		seen[thumbprint] = true
		c.published[[2]string{c.tenant(o), id}] = publishedKey{thumbprint, o.at(path...)}
		out = append(out, text)
	}
	return out
}

// assertionClaims converts the claims in the order of the manifest; the policy package checks what they say.
func (c *compiler) assertionClaims(o *Object) []policy.HeaderSource {
	t, _ := o.find("spec", "assertion", "claims")
	if len(t.Members) > maxClaims {
		c.add(o.at("spec", "assertion", "claims"), fmt.Sprintf("found %d claims", len(t.Members)), fmt.Sprintf("at most %d", maxClaims), "")
		return nil
	}
	var out []policy.HeaderSource
	for _, m := range t.Members {
		value, ok := m.Value.Scalar.(string)
		if !ok {
			continue // reported by Parse
		}
		if strings.TrimSpace(value) == "" {
			c.add(m.Value.Pos, "found an empty expression", "CEL over user", "")
			continue
		}
		out = append(out, policy.HeaderSource{Name: m.Name, Value: policy.Text{Text: value, Pos: m.Value.Pos}})
	}
	return out
}
