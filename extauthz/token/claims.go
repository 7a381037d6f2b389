package token

import (
	"math"
	"slices"
	"strings"
	"time"
)

// maxTime is the last second that a NumericDate may name: the end of year 9999. What is later overflows somewhere.
const maxTime = 253402300799

// validity is what the claims say about time.
type validity struct {
	expires time.Time // without skew
}

// checkClaims makes the checks of RFC 7519, section 4.1, and RFC 8725, section 3, on verified claims.
func (j *JWT) checkClaims(claims map[string]any, now time.Time) (validity, error) {
	if iss, ok := claims["iss"].(string); !ok || iss != j.issuer {
		return validity{}, bad("iss is not the provider's issuer")
	}
	if !audience(claims["aud"], j.audiences) {
		return validity{}, bad("aud does not name this service")
	}
	if sub, ok := claims["sub"]; ok {
		if _, ok := sub.(string); !ok {
			return validity{}, bad("sub is no string")
		}
	}
	exp, ok := numericDate(claims["exp"])
	if !ok {
		return validity{}, bad("exp is missing or no date")
	}
	if !now.Before(exp.Add(j.skew)) {
		return validity{}, invalid("The access token expired.", nil)
	}
	for _, name := range []string{"nbf", "iat"} {
		v, ok := claims[name]
		if !ok {
			continue
		}
		t, ok := numericDate(v)
		if !ok {
			return validity{}, bad(name + " is no date")
		}
		if t.After(now.Add(j.skew)) {
			return validity{}, bad(name + " lies in the future")
		}
	}
	return validity{expires: exp}, nil
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
		return time.Unix(v, 0), v >= 0 && v <= maxTime
	case float64:
		if !(v >= 0 && v <= maxTime) {
			return time.Time{}, false
		}
		whole, fraction := math.Modf(v)
		return time.Unix(int64(whole), int64(fraction*1e9)), true
	}
	return time.Time{}, false
}

// sameType compares a header's typ: without regard to case, and with or without application/ (RFC 7515, section 4.1.9).
func sameType(typ string, accepted []string) bool {
	fold := func(s string) string { return strings.TrimPrefix(strings.ToLower(s), "application/") }
	return typ != "" && slices.ContainsFunc(accepted, func(a string) bool { return fold(a) == fold(typ) })
}
