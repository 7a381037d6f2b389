package envoy

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/usher-authz/usher/k8s/api/v1alpha1"
)

// cors is spec.cors as Envoy spells it.
type cors struct {
	Origins                          []string
	Methods, Headers, Expose, MaxAge string
}

// What browsers may do unless a policy says otherwise. last-event-id and content-location are how LangGraph's clients
// take up a broken stream, x-pagination-* how they page, mcp-* what an MCP client sends and reads.
const (
	defaultMethods = "GET, POST, PUT, PATCH, DELETE"
	defaultHeaders = "authorization, content-type, last-event-id, x-api-key, dpop, mcp-protocol-version, mcp-session-id"
	exposeHeaders  = "content-location, location, x-pagination-total, x-pagination-next, www-authenticate, dpop-nonce, mcp-session-id"
	defaultMaxAge  = 10 * time.Minute
)

// corsOf checks and translates spec.cors. Origins are exact: a pattern is how other people's pages get in.
func corsOf(spec *v1alpha1.CORS) (*cors, error) {
	c := &cors{Origins: spec.AllowOrigins, Methods: defaultMethods, Headers: defaultHeaders, Expose: exposeHeaders}
	if len(spec.AllowOrigins) == 0 {
		return nil, errors.New("spec.cors.allowOrigins: none is given")
	}
	for _, origin := range spec.AllowOrigins {
		if !isOrigin(origin) {
			return nil, fmt.Errorf("spec.cors.allowOrigins: %q: expected an origin such as https://chat.example.com, without a path or a final slash", origin)
		}
	}
	if len(spec.AllowMethods) > 0 {
		c.Methods = strings.Join(spec.AllowMethods, ", ")
	}
	if len(spec.AllowHeaders) > 0 {
		c.Headers = strings.Join(spec.AllowHeaders, ", ")
	}
	for _, word := range slices.Concat(spec.AllowMethods, spec.AllowHeaders) {
		if !isToken(word) {
			return nil, fmt.Errorf("spec.cors: %q is no method or header name", word)
		}
	}
	age := defaultMaxAge
	if spec.MaxAge != nil {
		age = spec.MaxAge.Duration
	}
	if age < 0 {
		return nil, fmt.Errorf("spec.cors.maxAge: %v is negative", age)
	}
	c.MaxAge = strconv.FormatInt(int64(age/time.Second), 10)
	return c, nil
}

// isOrigin reports whether text is an origin as browsers send it (RFC 6454, section 6.2): lower-case, without path.
func isOrigin(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.Hostname() != "" &&
		text == u.Scheme+"://"+u.Host && text == strings.ToLower(text) && !strings.ContainsAny(text, `*" `)
}

// isToken reports whether text is a token (RFC 9110, section 5.6.2), and no wildcard: that would not cover authorization
// (Fetch standard), and looks as if it did.
func isToken(text string) bool {
	for i := range len(text) {
		c := text[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return text != ""
}
