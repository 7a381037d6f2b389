package token

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/usher-authz/usher/policy"
)

const (
	// defaultSkew is how far clocks may differ.
	defaultSkew = 30 * time.Second
	// maxTime is the last second that a NumericDate may name: the end of year 9999. What is later overflows somewhere.
	maxTime = 253402300799
)

// rules are what every token of a provider must meet, however it was verified. They are immutable but for the memory of
// DPoP proofs, which is safe for concurrent use.
type rules struct {
	name      string
	issuer    string
	tenants   []string // accepted tid; the issuer then has {tenantid} for it
	audiences []string
	audience  string           // the claim that names one of them
	clients   []string         // accepted client_id or azp; empty: any
	required  map[string][]any // values of which a claim must have one
	maxAge    time.Duration    // since iat; 0: any
	skew      time.Duration
	mapping   *policy.Mapping
	now       func() time.Time
	bound     bool // bearer tokens are refused
	proofs    *proofs
}

func newRules(c Config) (rules, error) {
	r := rules{
		name: c.Name, issuer: c.Issuer, tenants: slices.Clone(c.Tenants), audiences: slices.Clone(c.Audiences), audience: c.AudienceClaim,
		clients: slices.Clone(c.Clients), required: maps.Clone(c.RequiredClaims), maxAge: c.MaxAge, bound: c.Proof.Required,
		skew: defaultSkew, mapping: c.Identity, now: c.Now,
	}
	if r.audience == "" {
		r.audience = "aud"
	}
	switch {
	case c.Issuer == "":
		return rules{}, fmt.Errorf("provider %q: no issuer", c.Name)
	case len(c.Audiences) == 0 || slices.Contains(c.Audiences, ""):
		return rules{}, fmt.Errorf("provider %q: no audience", c.Name)
	case c.Identity == nil:
		return rules{}, fmt.Errorf("provider %q: no identity mapping", c.Name)
	case strings.Contains(c.Issuer, tenantMark) != (len(c.Tenants) > 0) || slices.Contains(c.Tenants, ""):
		return rules{}, fmt.Errorf("provider %q: an issuer with %s goes with tenants, and only that", c.Name, tenantMark)
	case c.MaxAge < 0:
		return rules{}, fmt.Errorf("provider %q: negative maximum age", c.Name)
	case c.ClockSkew != nil && *c.ClockSkew < 0:
		return rules{}, fmt.Errorf("provider %q: negative clock skew", c.Name)
	}
	if c.ClockSkew != nil {
		r.skew = *c.ClockSkew
	}
	if r.now == nil {
		r.now = time.Now
	}
	r.proofs = newProofs(r.skew)
	if c.Proof.Nonces {
		var err error
		if r.proofs.nonces, err = newNonces(c.Proof.NonceKey); err != nil {
			return rules{}, fmt.Errorf("provider %q: %w", c.Name, err)
		}
	}
	return r, nil
}

// checkURL refuses what is not to be fetched: all but https, and http where that is allowed.
func checkURL(address string, allowHTTP bool) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return nil, errors.New("not a URL that can be fetched")
	}
	if u.Scheme != "https" && !(u.Scheme == "http" && allowHTTP) {
		return nil, fmt.Errorf("scheme %q, expected https", u.Scheme)
	}
	return u, nil
}

// check makes the checks of RFC 7519, section 4.1, and RFC 8725, section 3, and returns when the token expires, without
// skew. The claims need not be verified yet: what can never be right costs no signature check.
func (r *rules) check(claims map[string]any, now time.Time) (time.Time, error) {
	if err := r.origin(claims); err != nil {
		return time.Time{}, err
	}
	if sub, ok := claims["sub"]; ok {
		if _, ok := sub.(string); !ok { // RFC 7519, section 4.1.2
			return time.Time{}, bad("sub is no string")
		}
	}
	if isLogout(claims) {
		return time.Time{}, bad("a logout token is no access token")
	}
	if isRefresh(claims) {
		return time.Time{}, bad("a refresh token is no access token")
	}
	expires, ok := numericDate(claims["exp"])
	if !ok {
		return time.Time{}, bad("exp is missing or no date")
	}
	if !now.Before(expires.Add(r.skew)) { // RFC 7519, section 4.1.4: not on or after
		return time.Time{}, invalid("The access token expired.", errors.New("exp is past"))
	}
	for _, name := range [...]string{"nbf", "iat"} { // RFC 7519, sections 4.1.5 and 4.1.6
		v, ok := claims[name]
		if !ok {
			continue
		}
		t, ok := numericDate(v)
		if !ok {
			return time.Time{}, bad(name + " is no date")
		}
		if t.After(now.Add(r.skew)) {
			return time.Time{}, bad(name + " lies in the future")
		}
	}
	if r.maxAge > 0 {
		issued, ok := numericDate(claims["iat"])
		if !ok {
			return time.Time{}, bad("iat is missing, and tokens have a maximum age")
		}
		end := issued.Add(r.maxAge)
		if !now.Before(end.Add(r.skew)) {
			return time.Time{}, invalid("The access token is too old.", errors.New("iat is longer ago than the maximum age"))
		}
		if end.Before(expires) {
			expires = end
		}
	}
	return expires, nil
}

// origin checks who issued the token, for whom and for which client.
func (r *rules) origin(claims map[string]any) error {
	if !r.issued(claims) {
		return bad("iss is not the provider's issuer")
	}
	if !audience(claims[r.audience], r.audiences) { // RFC 7519, section 4.1.3; no other claim stands in for the one that is configured
		return bad(r.audience + " does not name this service")
	}
	if len(r.clients) > 0 && !r.client(claims) {
		return bad("the token was not issued to a client that is accepted")
	}
	for name, values := range r.required {
		if v, ok := claims[name]; !ok || !slices.ContainsFunc(values, func(want any) bool { return sameClaim(v, want) }) {
			return bad(fmt.Sprintf("claim %q is missing or has another value than is required", name))
		}
	}
	return nil
}

// isRefresh reports whether the claims say that the token is one to get others by. Its holder is the client, which sends it
// to nobody but the issuer (RFC 6749, section 1.5); an introspection endpoint calls it active too (RFC 7662, section 2.1).
// Keycloak says so by typ, Ory Hydra and Amazon Cognito by token_use.
func isRefresh(claims map[string]any) bool {
	for _, name := range [...]string{"token_type", "token_use", "typ"} {
		v, _ := claims[name].(string)
		switch strings.ToLower(v) {
		case "refresh", "refresh_token", "offline":
			return true
		}
	}
	return false
}

// tenantMark stands for the tenant in the issuer of a provider with tenants.
const tenantMark = "{tenantid}"

// issued compares iss, a simple string comparison (RFC 7519, section 4.1.1; RFC 3986, section 6.2.1). With tenants it must
// be that of the token's own tenant, which must be one of them.
func (r *rules) issued(claims map[string]any) bool {
	iss, ok := claims["iss"].(string)
	if !ok || len(r.tenants) == 0 {
		return ok && iss == r.issuer
	}
	tid, ok := claims["tid"].(string)
	return ok && slices.Contains(r.tenants, tid) && iss == strings.ReplaceAll(r.issuer, tenantMark, tid)
}

// client reports whether the token was issued to an accepted client: by client_id (RFC 9068, section 2.2), by azp (OpenID
// Connect Core 1.0, section 2), Okta's cid or Microsoft's appid (version 1), and by all of these that it has.
func (r *rules) client(claims map[string]any) bool {
	found := false
	for _, name := range [...]string{"client_id", "azp", "cid", "appid"} {
		v, ok := claims[name]
		if !ok {
			continue
		}
		id, ok := v.(string)
		if !ok || !slices.Contains(r.clients, id) {
			return false
		}
		found = true
	}
	return found
}

// sameClaim compares a claim with a required value: strings, booleans and numbers exactly, a list by having it as an item.
func sameClaim(v, want any) bool {
	if list, ok := v.([]any); ok {
		return slices.ContainsFunc(list, func(item any) bool { return sameScalar(item, want) })
	}
	return sameScalar(v, want)
}

func sameScalar(v, want any) bool {
	switch v := v.(type) {
	case string, bool:
		return v == want
	case int64:
		if f, ok := want.(float64); ok {
			return float64(v) == f
		}
		return v == want
	case float64:
		if n, ok := want.(int64); ok {
			return v == float64(n)
		}
		return v == want
	}
	return false
}

// admit makes an entry of claims that are verified and checked.
func (r *rules) admit(claims map[string]any, expires time.Time) (*verified, error) {
	bound, err := bindingOf(claims)
	if err != nil {
		return nil, err
	}
	id, err := r.mapping.Identity(claims)
	if err != nil {
		return nil, invalid("The access token does not say who it is for.", err)
	}
	id.Provider, id.Expires = r.name, expires
	return &verified{identity: id, until: expires.Add(r.skew), binding: bound, weight: weigh(claims)}, nil
}

// audience reports whether aud, a string or a list of strings (RFC 7519, section 4.1.3), holds one of ours.
func audience(aud any, ours []string) bool {
	switch aud := aud.(type) {
	case string:
		return slices.Contains(ours, aud)
	case []any:
		found := false
		for _, v := range aud {
			s, ok := v.(string)
			if !ok {
				return false
			}
			found = found || slices.Contains(ours, s)
		}
		return found
	}
	return false
}

// numericDate reads a NumericDate (RFC 7519, section 2): a JSON number of seconds, maybe with a fraction.
func numericDate(v any) (time.Time, bool) {
	switch v := v.(type) {
	case int64:
		if v < 0 || v > maxTime {
			return time.Time{}, false
		}
		return time.Unix(v, 0), true
	case float64:
		if !(v >= 0 && v <= maxTime) { // and not NaN
			return time.Time{}, false
		}
		whole, fraction := math.Modf(v)
		return time.Unix(int64(whole), int64(fraction*1e9)), true
	}
	return time.Time{}, false
}
