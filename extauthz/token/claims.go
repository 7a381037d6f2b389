package token

import (
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
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
	audiences []string
	skew      time.Duration
	mapping   *policy.Mapping
	now       func() time.Time
	proofs    *proofs
}

func newRules(c Config) (rules, error) {
	r := rules{name: c.Name, issuer: c.Issuer, audiences: slices.Clone(c.Audiences), skew: c.ClockSkew, mapping: c.Identity, now: c.Now}
	switch {
	case c.Issuer == "":
		return rules{}, fmt.Errorf("provider %q: no issuer", c.Name)
	case len(c.Audiences) == 0 || slices.Contains(c.Audiences, ""):
		return rules{}, fmt.Errorf("provider %q: no audience", c.Name)
	case c.Identity == nil:
		return rules{}, fmt.Errorf("provider %q: no identity mapping", c.Name)
	case c.ClockSkew < 0:
		return rules{}, fmt.Errorf("provider %q: negative clock skew", c.Name)
	}
	if r.skew == 0 {
		r.skew = defaultSkew
	}
	if r.now == nil {
		r.now = time.Now
	}
	r.proofs = newProofs(r.skew)
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
	// A simple string comparison (RFC 7519, section 4.1.1; RFC 3986, section 6.2.1).
	if iss, ok := claims["iss"].(string); !ok || iss != r.issuer {
		return time.Time{}, bad("iss is not the provider's issuer")
	}
	if !audience(claims["aud"], r.audiences) { // RFC 7519, section 4.1.3; azp and client_id do not stand in for it
		return time.Time{}, bad("aud does not name this service")
	}
	if sub, ok := claims["sub"]; ok {
		if _, ok := sub.(string); !ok { // RFC 7519, section 4.1.2
			return time.Time{}, bad("sub is no string")
		}
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
	return expires, nil
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
	return &verified{identity: id, until: expires.Add(r.skew), binding: bound}, nil
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
