package extauthz

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/policy"
)

// errNoToken is the answer to a request without a credential that could be read: its challenge says no more (RFC 6750,
// section 3).
var errNoToken = &policy.Refusal{Outcome: policy.Unauthenticated, Detail: "An access token is needed."}

// errScheme says the same, but is not for a request without any credential.
var errScheme = &policy.Refusal{Outcome: policy.Unauthenticated, Detail: "An access token is needed."}

// identify says who asks: whom a verifier vouches for, or nobody where there is no credential and the policy lets nobody
// in. A credential that is bad, or of another scheme, is 401 there too.
func (r *request) identify(ctx context.Context, p *policy.Policy, v token.Verifier) (*policy.Identity, error) {
	credential, err := r.credential(&p.TokenFrom)
	if err == errNoToken && p.Anonymous() != nil && len(r.headers.dpop) == 0 {
		return p.Anonymous(), nil
	}
	if err != nil {
		return nil, err
	}
	if p.PublicURL != "" && credential.URL != "" {
		credential.URL = r.publicURL(p.PublicURL)
	}
	if credential.Scheme == "DPoP" {
		r.dpop, r.nonce = true, new(string)
		credential.NextNonce = r.nonce
	}
	r.certificate(&credential, p.ForwardedCertificate)
	id, err := v.Verify(ctx, credential)
	if err == nil && (id == nil || id.Name == "") {
		err = errors.New("verifier returned no identity")
	}
	return id, err
}

// login makes a denial of nobody one that says to log in. What is not found, or in conflict, stays so: whoever it is of.
func login(d policy.Decision) policy.Decision {
	switch d.Outcome {
	case policy.Forbidden, policy.InsufficientScope, policy.StepUp:
		return policy.Decision{Outcome: policy.Unauthenticated, Detail: errNoToken.Detail, Rule: d.Rule, Reason: d.Reason}
	}
	return d
}

// credential reads the token from the one place where the policy says that it is, and the proofs beside it. A
// query and a body are never looked at (RFC 6750, sections 2.2 and 2.3; RFC 9700, section 4.3.2).
func (r *request) credential(from *policy.TokenFrom) (token.Credential, error) {
	c := token.Credential{Scheme: "Bearer", Method: r.method}
	var err error
	switch {
	case from.Cookie != "":
		c.Token, err = r.cookieToken(from)
	case from.Header != "":
		c.Token, err = r.headerToken(from.Header)
	default:
		c.Scheme, c.Token, err = r.authorization()
	}
	if err != nil {
		return token.Credential{}, err
	}
	if len(r.headers.dpop) > 0 {
		c.Proofs = r.headers.dpop
		raw, _, _ := strings.Cut(r.target, "?")
		c.URL = r.scheme + "://" + r.authority + raw
	}
	return c, nil
}

// authorization reads the one Authorization header (RFC 6750, section 2.1; RFC 9449, section 7.1).
func (r *request) authorization() (scheme, text string, err error) {
	switch {
	case r.headers.authorizations == 0:
		return "", "", errNoToken
	case r.headers.authorizations > 1:
		return "", "", badToken("More than one Authorization header.")
	}
	scheme, text, found := strings.Cut(r.headers.authorization, " ")
	switch {
	case strings.EqualFold(scheme, "Bearer"):
		scheme = "Bearer"
	case strings.EqualFold(scheme, "DPoP"):
		scheme = "DPoP"
	default:
		return "", "", errScheme
	}
	text = strings.TrimLeft(text, " ")
	if !found || !isToken68(text) {
		return "", "", badToken("The Authorization header is malformed.")
	}
	return scheme, text, nil
}

// headerToken reads the one header of that name, which has the token without a scheme.
func (r *request) headerToken(name string) (string, error) {
	r.headers.hidden = policy.CanonicalHeader(name)
	values := r.headers.all(name)
	switch {
	case len(values) == 0:
		return "", errNoToken
	case len(values) > 1:
		return "", badToken("More than one header with a token.")
	case !isToken68(values[0]):
		return "", badToken("The header with the token is malformed.")
	}
	return values[0], nil
}

// cookieToken reads the one cookie of that name, from a page that may use it.
func (r *request) cookieToken(from *policy.TokenFrom) (string, error) {
	values := r.headers.all("cookie")
	if len(values) == 0 {
		return "", errNoToken
	}
	if len(values) > 1 {
		// A client sends one (RFC 6265, section 5.4), and Envoy joins those that HTTP/2 splits (RFC 9113, section 8.2.3).
		return "", badToken("More than one Cookie header.")
	}
	text, found, ok := cookie(values[0], from.Cookie)
	switch {
	case !ok:
		return "", badToken("The cookie with the token is there more than once.")
	case !found:
		return "", errNoToken
	case !isToken68(text):
		return "", badToken("The cookie with the token is malformed.")
	}
	if !r.fromOrigin(from.Origins) {
		return "", errOrigin
	}
	return text, nil
}

var errOrigin = &policy.Refusal{Outcome: policy.Forbidden, Detail: "The cookie may not be used from this origin."}

// fromOrigin reports whether the page that asks may use the cookie, which a browser sends along whoever asks. Whatever
// may change something, and an upgrade, which CORS does not hold back, must name one of the origins (RFC 6454, section
// 7.2). A request to read may come without an Origin, unless the browser says that another site's page asks (Fetch
// Metadata, section 2.3).
func (r *request) fromOrigin(origins []string) bool {
	if values := r.headers.all("origin"); len(values) > 0 {
		return len(values) == 1 && slices.Contains(origins, values[0])
	}
	safe := r.method == "GET" || r.method == "HEAD" || r.method == "OPTIONS"
	if !safe || r.headers.upgrade {
		return false
	}
	for _, site := range r.headers.all("sec-fetch-site") {
		if site != "same-origin" && site != "none" {
			return false
		}
	}
	return true
}

func badToken(detail string) *policy.Refusal {
	return &policy.Refusal{Outcome: policy.Unauthenticated, Detail: detail, Challenge: `error="invalid_token"`}
}

// isToken68 reports whether text is a b64token (RFC 6750, section 2.1).
func isToken68(text string) bool {
	body := strings.TrimRight(text, "=")
	for i := 0; i < len(body); i++ {
		if !token68[body[i]] {
			return false
		}
	}
	return body != ""
}

// token68 are the characters of a b64token: a table, as every token is looked at in full.
var token68 = func() (set [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/") {
		set[c] = true
	}
	return set
}()
