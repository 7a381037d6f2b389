package token

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
)

// clientAuth is how Usher shows an endpoint who asks. It is immutable and safe for concurrent use.
type clientAuth struct {
	id, secret string // in the form
	basic      string // in the header
}

// newClientAuth checks what the method needs. The error holds no secret.
func newClientAuth(spec *Introspection) (clientAuth, error) {
	if spec.ClientID == "" || spec.ClientSecret == "" {
		return clientAuth{}, errors.New("it needs a client id and its secret")
	}
	switch spec.Method {
	case "", "client_secret_basic":
		// RFC 6749, section 2.3.1: both parts are form-encoded before they are joined.
		pair := url.QueryEscape(spec.ClientID) + ":" + url.QueryEscape(spec.ClientSecret)
		return clientAuth{basic: "Basic " + base64.StdEncoding.EncodeToString([]byte(pair))}, nil
	case "client_secret_post":
		return clientAuth{id: spec.ClientID, secret: spec.ClientSecret}, nil
	}
	return clientAuth{}, fmt.Errorf("client authentication by %q, expected client_secret_basic or client_secret_post", spec.Method)
}

func (a clientAuth) header(h http.Header) {
	if a.basic != "" {
		h.Set("Authorization", a.basic)
	}
}

func (a clientAuth) form(f url.Values) {
	if a.id != "" {
		f.Set("client_id", a.id)
		f.Set("client_secret", a.secret)
	}
}
