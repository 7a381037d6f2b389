package manifest

import (
	"fmt"
	"strings"

	"github.com/usher-authz/usher/policy"
)

// tokenFrom checks where the token is, and converts it.
func (c *compiler) tokenFrom(o *Object) policy.TokenFrom {
	from := o.AuthPolicy.Spec.TokenFrom
	at := o.at("spec", "tokenFrom")
	switch {
	case from.Header != "" && from.Cookie != nil:
		c.add(at, "found both header and cookie", "one of them", "a token in a second place is one that somebody else may have put there")
		return policy.TokenFrom{}
	case from.Cookie != nil:
		return c.tokenCookie(o)
	case from.Header == "":
		if !o.broken {
			c.add(at, "found neither header nor cookie", "one of them", "leave tokenFrom out to take the Authorization header")
		}
		return policy.TokenFrom{}
	}
	name := strings.ToLower(from.Header)
	at = o.at("spec", "tokenFrom", "header")
	switch {
	case name == "authorization":
		c.add(at, `found header "authorization"`, "another header", "leave tokenFrom out: the Authorization header is the default")
	case policy.CanonicalHeader(from.Header) != name || !isToken(name):
		c.add(at, fmt.Sprintf("found header name %q", from.Header), "letters, digits and hyphens", "")
	case name == "cookie":
		c.add(at, `found header "cookie"`, "a header with the bare token", "write tokenFrom.cookie, which has the origin check that a cookie needs")
	case reserved(name):
		c.add(at, fmt.Sprintf("found header %q, which steers the request itself", from.Header), "a name of its own, such as x-access-token", "")
	}
	return policy.TokenFrom{Header: name}
}

// tokenCookie checks the name of the cookie (RFC 6265, section 4.1.1) and its origins.
func (c *compiler) tokenCookie(o *Object) policy.TokenFrom {
	cookie := o.AuthPolicy.Spec.TokenFrom.Cookie
	switch {
	case cookie.Name == "":
		c.missing(o, "the cookie's name, such as __Host-token", "spec", "tokenFrom", "cookie", "name")
	case !isToken(cookie.Name):
		c.add(o.at("spec", "tokenFrom", "cookie", "name"), fmt.Sprintf("found cookie name %q", cookie.Name), "a name such as __Host-token", "")
	}
	if len(cookie.AllowOrigins) == 0 {
		c.missing(o, "the origins whose pages may use the cookie, such as https://chat.example.com", "spec", "tokenFrom", "cookie", "allowOrigins")
	}
	c.strings(o, cookie.AllowOrigins, "origin", "spec", "tokenFrom", "cookie", "allowOrigins")
	for i, origin := range cookie.AllowOrigins {
		if origin != "" {
			c.origin(policy.Text{Text: origin, Pos: o.at("spec", "tokenFrom", "cookie", "allowOrigins", i)})
		}
	}
	return policy.TokenFrom{Cookie: cookie.Name, Origins: cookie.AllowOrigins}
}

// anonymous checks whether a request without any token is decided too.
func (c *compiler) anonymous(o *Object) bool {
	switch given := o.AuthPolicy.Spec.Anonymous; given {
	case "", "Deny":
		return false
	case "Allow":
		return true
	default:
		choices := []string{"Allow", "Deny"}
		c.add(o.at("spec", "anonymous"), fmt.Sprintf("found anonymous %q", given), oneOf(choices), didYouMean(given, choices))
		return false
	}
}
