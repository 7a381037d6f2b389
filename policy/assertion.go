package policy

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// AssertionSource is spec.assertion before compilation.
type AssertionSource struct {
	Header           Text
	Issuer, Audience string
	Lifetime         time.Duration
	Keys             []PrivateKey // the first signs, all are published
	Claims           []HeaderSource
}

// PrivateKey is a key that signs, as JWK or PEM. It hides itself from every format that is not asked for its bytes.
type PrivateKey []byte

// MarshalText hides the key.
func (PrivateKey) MarshalText() ([]byte, error) { return []byte("(private key)"), nil }

// Format hides the key, whatever the verb.
func (PrivateKey) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("(private key)")) }

// Assertion is what a policy's backend is told of the user in a signed token. It never changes; package extauthz/assertion
// signs.
type Assertion struct {
	Header           string // its lower-case name
	Issuer, Audience string
	Lifetime         time.Duration
	Keys             []PrivateKey

	claims []headerSource
}

// assertionClaims are those that Usher sets itself, or whose meaning would be a promise that it does not keep (cnf: the
// sender shows a key).
var assertionClaims = []string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "cnf"}

// Assertion is what the backend is told in a signed token; nil: nothing.
func (p *Policy) Assertion() *Assertion { return p.assertion }

// AssertionClaims evaluates the claims that the manifest adds, for a user who is authenticated. One that is null is left
// out. The error holds no claim value.
func (p *Policy) AssertionClaims(id *Identity) (map[string]any, error) {
	if p.assertion == nil || !id.valid() || id.anonymous {
		return nil, fmt.Errorf("no assertion, or nobody to assert")
	}
	out := make(map[string]any, len(p.assertion.claims)+6)
	s := &scope{user: id}
	for _, c := range p.assertion.claims {
		v, err := c.value.value(s)
		if err != nil {
			return nil, fmt.Errorf("assertion claim %s: %s", c.name, fault(err))
		}
		if v == nil {
			continue
		}
		if _, err := json.Marshal(v); err != nil { // a number that JSON does not have
			return nil, fmt.Errorf("assertion claim %s: no JSON value", c.name)
		}
		out[c.name] = v
	}
	return out, nil
}

// compileAssertion checks the header and the claims; what else there is comes checked.
func (p *Policy) compileAssertion(c *compiler, source *Source) Problems {
	a := source.Assertion
	if a == nil {
		return nil
	}
	var problems Problems
	add := func(pos Position, found, want, hint string) {
		problems = append(problems, Problem{Pos: pos, Found: found, Want: want, Hint: hint})
	}
	out := &Assertion{Header: CanonicalHeader(a.Header.Text), Issuer: a.Issuer, Audience: a.Audience, Lifetime: a.Lifetime, Keys: a.Keys}
	switch name := out.Header; {
	case name == "" || name != strings.ToLower(a.Header.Text):
		add(a.Header.Pos, fmt.Sprintf("header name %q", a.Header.Text), "letters, digits and hyphens", "")
	case slices.Contains(alwaysRemove, name):
		add(a.Header.Pos, fmt.Sprintf("header %q, which a backend would obey", name), "a name of its own, such as usher-assertion", "")
	case source.TokenFrom.Header != "" && name == CanonicalHeader(source.TokenFrom.Header):
		add(a.Header.Pos, fmt.Sprintf("header %q, which has the client's token", name), "another name", "")
	case slices.ContainsFunc(source.IdentityHeaders, func(h HeaderSource) bool { return CanonicalHeader(h.Name.Text) == name }):
		add(a.Header.Pos, fmt.Sprintf("header %q, which is an identity header", name), "another name", "")
	case p.keepEmpty && (strings.HasPrefix(name, p.prefix) || name == "user-agent"):
		// LangGraph's servers copy such headers into the config of a run, keep it in the thread, and show it to whoever reads
		// the run: an assertion would be stored.
		add(a.Header.Pos, fmt.Sprintf("header %q, which this backend keeps with what the user makes", name), fmt.Sprintf("a name that does not begin with %q, such as usher-assertion", p.prefix), "an assertion speaks for the user: it must not be stored")
	}
	for _, claim := range a.Claims {
		switch name := claim.Name.Text; {
		case name == "":
			add(claim.Name.Pos, "an empty claim name", "a name", "")
		case slices.Contains(assertionClaims, name):
			add(claim.Name.Pos, fmt.Sprintf("claim %q, which Usher sets itself or cannot promise", name), "another name", "")
		}
		e, ps := c.compile(claim.Value, wantAny, true)
		problems = append(problems, ps...)
		if e != nil && !e.userOnly {
			add(claim.Value.Pos, "an assertion claim that depends on the request", "an expression over user alone", "an assertion is used for more than one request")
		}
		out.claims = append(out.claims, headerSource{claim.Name.Text, e})
	}
	p.assertion = out
	p.remove[out.Header] = true
	return problems
}

// Signed is a memo of an [Identity]: the headers with an assertion, ready to be sent. It never changes.
type Signed struct {
	By          any // whoever made it, compared by ==
	Headers     []Header
	From, Until time.Time // it is used from then on, and not on or after Until
}

// Signed returns the memo that by made of the identity, if it is still to be used at this time; else nil.
func (id *Identity) Signed(by any, now time.Time) *Signed {
	for i := range id.signed {
		if m := id.signed[i].Load(); m != nil && m.By == by && !now.Before(m.From) && now.Before(m.Until) {
			return m
		}
	}
	return nil
}

// Keep remembers a memo with the identity, in the place of an older one by the same maker, or of the one that ends first:
// an identity has at most two, so that they need no bound of their own. It is safe for concurrent use; of two that are kept
// at once, one may be lost.
func (id *Identity) Keep(m *Signed) {
	place := &id.signed[0]
	for i := range id.signed {
		old := id.signed[i].Load()
		if old == nil || old.By == m.By {
			place = &id.signed[i]
			break
		}
		if first := place.Load(); first != nil && old.Until.Before(first.Until) {
			place = &id.signed[i]
		}
	}
	place.Store(m)
}
