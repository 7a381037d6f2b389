package token

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/usher-authz/usher/policy"
)

// NewUserinfo returns a verifier that shows tokens to c.Userinfo. It does no I/O. The error names what is wrong in the
// Config.
func NewUserinfo(c Config) (*Asker, error) {
	if c.Userinfo == nil {
		return nil, fmt.Errorf("provider %q: no userinfo", c.Name)
	}
	e := &userinfo{address: c.Userinfo.Endpoint, parameter: c.Userinfo.TokenParameter, headers: http.Header{}}
	for name, value := range c.Userinfo.Headers {
		if value == "" {
			return nil, fmt.Errorf("provider %q: userinfo: header %q is empty", c.Name, name)
		}
		e.headers.Set(name, value)
	}
	for _, name := range []string{"Authorization", "Host", "Content-Length", "Content-Type", "Transfer-Encoding"} {
		if _, ok := e.headers[name]; ok {
			return nil, fmt.Errorf("provider %q: userinfo: header %q is Usher's own", c.Name, name)
		}
	}
	i, err := newAsker(c, e, "userinfo", e.address, c.Userinfo.CacheFor)
	if err != nil {
		return nil, err
	}
	i.anyAudience = c.Userinfo.AnyAudience
	return i, nil
}

type userinfo struct {
	address   string
	parameter string // the form parameter of the token; empty: in the header
	headers   http.Header
}

// request shows the token in the header (OpenID Connect Core 1.0, section 5.3.1), or posts it as a form.
func (e *userinfo) request(ctx context.Context, token string) (*http.Request, error) {
	method, body := http.MethodGet, io.Reader(nil)
	if e.parameter != "" {
		method, body = http.MethodPost, strings.NewReader(url.Values{e.parameter: {token}}.Encode())
	}
	request, err := http.NewRequestWithContext(ctx, method, e.address, body)
	if err != nil {
		return nil, errors.New("the request cannot be made")
	}
	request.Header = e.headers.Clone()
	if e.parameter != "" {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	} else {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	if request.Header.Get("Accept") == "" {
		request.Header.Set("Accept", "application/json")
	}
	return request, nil
}

// read takes the claims of status 200, and for a refusal only what says so of the token. A gateway before the endpoint
// answers 401 for a wrong API key too, and a provider 403 to one who asks too often: neither says anything of the token.
func (e *userinfo) read(status int, header http.Header, body []byte) (map[string]any, error) {
	if status != http.StatusOK {
		if e.refuses(status, header, body) {
			return nil, bad("the provider says that the token is not good")
		}
		hint := ""
		if status == http.StatusUnauthorized || status == http.StatusForbidden {
			hint = "it does not say that the token is bad: check the headers that are sent beside it"
		}
		return nil, statusError(status, body, hint)
	}
	claims, err := readObject(header, body)
	if err != nil {
		return nil, err
	}
	if e.parameter != "" { // Google's tokeninfo writes numbers as text
		for _, name := range []string{"exp", "iat", "nbf"} {
			if s, ok := claims[name].(string); ok {
				if n, err := strconv.ParseInt(s, 10, 64); err == nil {
					claims[name] = n
				}
			}
		}
	}
	return claims, nil
}

// refuses reports whether the answer says that the token is bad: as RFC 6750, section 3.1, has it, or as a provider words it
// that does not follow it: docs/providers has a source for each.
func (e *userinfo) refuses(status int, header http.Header, body []byte) bool {
	if status != http.StatusBadRequest && status != http.StatusUnauthorized && status != http.StatusForbidden {
		return false
	}
	v, err := policy.ParseValue(body)
	object, _ := v.(map[string]any)
	if err != nil {
		object = nil
	}
	text := func(name string) string { s, _ := object[name].(string); return s }
	// Supabase's codes; in its newer API version they stand in `code`.
	gone := []string{"bad_jwt", "session_not_found", "session_expired", "user_not_found", "user_banned"}
	if slices.Contains(gone, text("error_code")) || slices.Contains(gone, text("code")) {
		return true
	}
	if status == http.StatusBadRequest { // Google's tokeninfo
		return e.parameter != "" && (text("error") == "invalid_token" || text("error_description") == "Invalid Value")
	}
	for _, challenge := range header.Values("WWW-Authenticate") {
		scheme, rest, _ := strings.Cut(strings.TrimSpace(challenge), " ")
		if strings.EqualFold(scheme, "Bearer") && (strings.Contains(rest, `"invalid_token"`) || strings.Contains(rest, `"insufficient_scope"`)) {
			return true
		}
	}
	if status != http.StatusUnauthorized {
		return false
	}
	google, _ := object["error"].(map[string]any)
	return text("error") == "invalid_token" || text("error_description") == "Invalid Credentials" || google["status"] == "UNAUTHENTICATED" ||
		text("message") == "Bad credentials" // GitHub
}
