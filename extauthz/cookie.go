package extauthz

import "strings"

// cookie returns the value of the one cookie of that name in a Cookie header (RFC 6265, section 4.2.1). It is not ok where
// a reader could see two: twice the name, or once more behind a comma, which joins headers in one of Envoy's two forms.
// Nothing is unquoted or decoded.
func cookie(header, name string) (value string, found, ok bool) {
	for more := true; more; {
		var pair string
		pair, header, more = strings.Cut(header, ";")
		if !mentions(pair, name) {
			continue
		}
		k, v, _ := strings.Cut(pair, "=")
		if found || strings.IndexByte(pair, ',') >= 0 || trim(k) != name {
			return "", true, false
		}
		value, found = trim(v), true
	}
	return value, found, true
}

// withoutCookie returns the Cookie header without every pair that mentions the name, the other pairs byte for byte. Of
// several headers nothing is left, as Envoy could overwrite only the first of them.
func withoutCookie(headers []string, name string) (rest string, found bool) {
	if len(headers) != 1 {
		return "", len(headers) > 0
	}
	var kept []string
	for _, pair := range strings.Split(headers[0], ";") {
		if mentions(pair, name) {
			found = true
		} else {
			kept = append(kept, pair)
		}
	}
	return strings.TrimLeft(strings.Join(kept, ";"), " \t"), found
}

// mentions reports whether a pair is of that name, or one behind a comma in it is: whatever any reader could take for
// the cookie. Readers that fold case, or read a name without a value, count.
func mentions(pair, name string) bool {
	for more := true; more; {
		var part string
		part, pair, more = strings.Cut(pair, ",")
		k, _, _ := strings.Cut(part, "=")
		if strings.EqualFold(trim(k), name) {
			return true
		}
	}
	return false
}

func trim(s string) string { return strings.Trim(s, " \t") }
