package manifest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/usher-authz/usher/policy"
)

// identityHeaders converts the headers in the order of the manifest, and refuses names that mean something else.
func (c *compiler) identityHeaders(o *Object) []policy.HeaderSource {
	t, _ := o.find("spec", "identityHeaders")
	var out []policy.HeaderSource
	for _, m := range t.Members {
		value, ok := m.Value.Scalar.(string)
		if !ok {
			continue // reported by Parse
		}
		name := strings.ToLower(m.Name.Text)
		switch {
		case !isToken(name):
			c.add(m.Name.Pos, fmt.Sprintf("found header name %q", m.Name.Text), "letters, digits and hyphens", "")
		case reserved(name):
			c.add(m.Name.Pos, fmt.Sprintf("found header %q, which steers the request itself", m.Name.Text), "a name of its own, such as x-user-id", "")
		case strings.TrimSpace(value) == "":
			c.add(m.Value.Pos, "found an empty expression", "CEL that gives a string", "")
		default:
			out = append(out, policy.HeaderSource{Name: m.Name, Value: policy.Text{Text: value, Pos: m.Value.Pos}})
		}
	}
	return out
}

// reserved names frame the message or say who it is for (RFC 9110, sections 7.2, 7.6.1, 8.6; RFC 9113, section 8.2.2),
// carry credentials, or are Envoy's own.
func reserved(name string) bool {
	switch name {
	case "connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
		"host", "content-length", "content-type", "content-encoding", "expect", "date", "via", "forwarded", "x-forwarded-for", "x-forwarded-proto",
		"x-forwarded-host", "x-request-id", "authorization", "proxy-authorization", "proxy-authenticate", "www-authenticate", "dpop", "cookie", "set-cookie":
		return true
	}
	return strings.HasPrefix(name, "x-envoy-")
}

// isToken reports whether s is a token (RFC 9110, section 5.6.2).
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}

// maxAge bounds how long a browser keeps a preflight's answer; browsers themselves stop at a day or less.
const maxAge = 24 * time.Hour

// cors checks what goes into Envoy's CORS filter (Fetch standard, section 3.3).
func (c *compiler) cors(o *Object) {
	spec := o.AuthPolicy.Spec.CORS
	if len(spec.AllowOrigins) == 0 {
		c.missing(o, "the origins that may call, such as https://chat.example.com", "spec", "cors", "allowOrigins")
	}
	c.strings(o, spec.AllowOrigins, "origin", "spec", "cors", "allowOrigins")
	for i, origin := range spec.AllowOrigins {
		if origin != "" {
			c.origin(policy.Text{Text: origin, Pos: o.at("spec", "cors", "allowOrigins", i)})
		}
	}
	c.strings(o, spec.AllowMethods, "method", "spec", "cors", "allowMethods")
	methods := []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
	for i, m := range spec.AllowMethods {
		if m != "" && !slices.Contains(methods, m) {
			c.add(o.at("spec", "cors", "allowMethods", i), fmt.Sprintf("found method %q", m), oneOf(methods), didYouMean(m, methods))
		}
	}
	c.strings(o, spec.AllowHeaders, "header", "spec", "cors", "allowHeaders")
	for i, h := range spec.AllowHeaders {
		if h != "" && (!isToken(h) || h == "*") {
			c.add(o.at("spec", "cors", "allowHeaders", i), fmt.Sprintf("found header %q", h), "the name of a header", "")
		}
	}
	if a := spec.MaxAge; a != nil && (a.Duration < 0 || a.Duration > maxAge) {
		c.add(o.at("spec", "cors", "maxAge"), "found "+a.Duration.String(), "0s to "+maxAge.String(), "")
	}
}

// origin checks a serialised origin (RFC 6454, section 6.2), as a browser sends it.
func (c *compiler) origin(t policy.Text) {
	const want = "an origin such as https://chat.example.com"
	scheme, authority, ok := strings.Cut(t.Text, "://")
	hint := ""
	switch {
	case t.Text == "*":
		hint = "any page on the web could then call with its visitor's token; list the pages"
	case t.Text == "null":
		hint = "any sandboxed page or file has origin null"
	case strings.Contains(t.Text, "*"):
		hint = "origins are compared exactly: list each"
	case !ok || scheme != "https" && scheme != "http":
		hint = "write the scheme, https:// or http://"
	case strings.Contains(authority, "/"):
		hint = "an origin has no path and no slash at the end"
	case !isAuthority(authority):
		hint = "scheme, host in lower case, and the port if it is not the scheme's own"
	case scheme == "https" && strings.HasSuffix(authority, ":443"), scheme == "http" && strings.HasSuffix(authority, ":80"):
		hint = "a browser leaves the scheme's own port out"
	default:
		return
	}
	c.add(t.Pos, fmt.Sprintf("found origin %q", t.Text), want, hint)
}
