package token

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// NewIntrospector returns a verifier that asks c.Introspection (RFC 7662). It does no I/O. The error names what is wrong in
// the Config.
func NewIntrospector(c Config) (*Asker, error) {
	if c.Introspection == nil {
		return nil, fmt.Errorf("provider %q: no introspection", c.Name)
	}
	auth, err := newClientAuth(c.Introspection, c.Issuer, c.Now)
	if err != nil {
		return nil, fmt.Errorf("provider %q: introspection: %w", c.Name, err)
	}
	e := &introspection{address: c.Introspection.Endpoint, auth: auth}
	return newAsker(c, e, "introspection", e.address, c.Introspection.CacheFor)
}

type introspection struct {
	address string
	auth    clientAuth
}

// request posts the token (RFC 7662, section 2.1).
func (e *introspection) request(ctx context.Context, token string) (*http.Request, error) {
	form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}
	if err := e.auth.form(form); err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, e.address, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, errors.New("the request cannot be made")
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Accept", "application/json")
	e.auth.header(request.Header)
	return request, nil
}

// read takes status 200 only. What else is wrong with the answer is the provider's fault or ours, never the client's: a
// token that is not good is answered by 200 too (RFC 7662, section 2.2).
func (e *introspection) read(status int, header http.Header, body []byte) (map[string]any, error) {
	switch {
	case status == http.StatusUnauthorized || errorCode(body) == "invalid_client":
		return nil, statusError(status, body, e.auth.wrong())
	case status == http.StatusForbidden:
		return nil, statusError(status, body, "the client may not introspect")
	case status != http.StatusOK:
		return nil, statusError(status, body, "")
	}
	claims, err := readObject(header, body)
	if err != nil {
		return nil, err
	}
	// A boolean, and required. Whatever is not true is no.
	if active, _ := claims["active"].(bool); !active {
		return nil, bad("the provider says that the token is not active")
	}
	return claims, nil
}
