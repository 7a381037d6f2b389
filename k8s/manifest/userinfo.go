package manifest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/k8s/api/v1alpha1"
)

// userinfo checks where tokens are shown, and resolves the headers that go there.
func (c *compiler) userinfo(o *Object, spec *v1alpha1.IdentityProviderSpec) *token.Userinfo {
	in := spec.Userinfo
	out := &token.Userinfo{Endpoint: in.Endpoint, TokenParameter: in.TokenParameter, AnyAudience: in.AnyAudience, Headers: map[string]string{}}
	if in.Endpoint == "" {
		c.missing(o, "the URL of the userinfo endpoint", "spec", "userinfo", "endpoint")
	} else {
		// RFC 6750, section 5.3: over TLS only, as tokens go there.
		c.url(o.text("spec", "userinfo", "endpoint"), urlRule{what: "an endpoint", local: spec.AllowHTTP, path: true, query: true, example: "https://auth.example.com/userinfo"})
	}
	out.CacheFor = c.cacheFor(o, in.CacheFor, "userinfo")
	own := []string{"Authorization", "Host", "Content-Length", "Content-Type", "Transfer-Encoding"}
	seen := map[string]string{}
	for _, name := range sorted(in.Headers) {
		h, canonical := in.Headers[name], http.CanonicalHeaderKey(name)
		at := o.at("spec", "userinfo", "headers", name)
		first, twice := seen[canonical]
		seen[canonical] = name
		switch {
		case !isHeaderName(name):
			c.add(at, fmt.Sprintf("found header %q", name), "the name of a header", "")
			continue
		case slices.Contains(own, canonical):
			c.add(at, fmt.Sprintf("found header %q, which Usher sets itself", name), "another header", "the token is sent in Authorization, or in tokenParameter")
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
			secret := c.secret(o, *h.SecretRef, name, "spec", "userinfo", "headers", name, "secretRef")
			if secret == nil {
				continue // said already
			}
			value = string(secret)
		}
		if value == "" || !isVisible(value) {
			c.add(at, "found a value that cannot stand in a header", "visible ASCII in one line", "a secret read from a file may end with a newline")
			continue
		}
		out.Headers[name] = value
	}
	return out
}

// isHeaderName reports whether s is a token (RFC 9110, section 5.6.2).
func isHeaderName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r) })
}
