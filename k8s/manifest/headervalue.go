package manifest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/usher-authz/usher/k8s/api/v1alpha1"
)

// framing are headers that Usher's own requests set themselves.
var framing = []string{"Host", "Content-Length", "Content-Type", "Transfer-Encoding", "Connection"}

// headerValues resolves headers that Usher sends with its own requests: texts, or keys of Secrets. It refuses the framing
// ones, and more that own names.
func (c *compiler) headerValues(o *Object, in map[string]v1alpha1.HeaderValue, hint string, own []string, path ...any) map[string]string {
	out := map[string]string{}
	seen := map[string]string{}
	for _, name := range sorted(in) {
		h, canonical := in[name], http.CanonicalHeaderKey(name)
		path := append(slices.Clone(path), name)
		at := o.at(path...)
		first, twice := seen[canonical]
		seen[canonical] = name
		switch {
		case !isHeaderName(name):
			c.add(at, fmt.Sprintf("found header %q", name), "the name of a header", "")
			continue
		case slices.Contains(own, canonical), slices.Contains(framing, canonical):
			c.add(at, fmt.Sprintf("found header %q, which Usher sets itself", name), "another header", hint)
			continue
		case twice:
			c.add(at, fmt.Sprintf("found header %q beside %q", name, first), "each header once", "")
			continue
		case (h.Value == "") == (h.SecretRef == nil):
			if !o.broken {
				c.add(at, "found not just one of value and secretRef", "{value: TEXT} or {secretRef: {name: SECRET}}", "")
			}
			continue
		}
		value := h.Value
		if h.SecretRef != nil {
			secret := c.secret(o, *h.SecretRef, name, append(path, "secretRef")...)
			if secret == nil {
				continue // said already
			}
			value = string(secret)
		}
		if !isHeaderValue(value) {
			c.add(at, "found a value that cannot stand in a header", "visible ASCII in one line", "a secret read from a file may end with a newline")
			continue
		}
		out[name] = value
	}
	return out
}

// isHeaderValue reports whether s is visible ASCII, with single spaces inside as in "Bearer KEY".
func isHeaderValue(s string) bool {
	return s != "" && isVisible(strings.ReplaceAll(strings.TrimSpace(s), " ", "x")) && s == strings.TrimSpace(s)
}

// isHeaderName reports whether s is a token (RFC 9110, section 5.6.2).
func isHeaderName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r) })
}
