package token

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// clientAuth is how Usher shows an endpoint who asks. It is immutable and safe for concurrent use.
type clientAuth struct {
	id, secret string           // in the form
	basic      string           // in the header
	signed     *clientSignature // an assertion in the form
}

// newClientAuth checks what the method needs, and that nothing of another method is given. The error holds no secret.
func newClientAuth(spec *Introspection, issuer string, now func() time.Time) (clientAuth, error) {
	switch {
	case spec.ClientID == "":
		return clientAuth{}, errors.New("it needs a client id")
	case spec.Method == "private_key_jwt":
		if spec.ClientSecret != "" {
			return clientAuth{}, errors.New("a client secret beside private_key_jwt")
		}
		s, err := newClientSignature(spec, issuer, now)
		return clientAuth{signed: s}, err
	case spec.ClientSecret == "":
		return clientAuth{}, errors.New("it needs a client id and its secret")
	case spec.PrivateKey != nil || spec.AssertionAudience != "":
		return clientAuth{}, errors.New("a private key or an assertion's audience, which go with private_key_jwt")
	}
	switch spec.Method {
	case "", "client_secret_basic":
		// RFC 6749, section 2.3.1: both parts are form-encoded before they are joined.
		pair := url.QueryEscape(spec.ClientID) + ":" + url.QueryEscape(spec.ClientSecret)
		return clientAuth{basic: "Basic " + base64.StdEncoding.EncodeToString([]byte(pair))}, nil
	case "client_secret_post":
		return clientAuth{id: spec.ClientID, secret: spec.ClientSecret}, nil
	}
	return clientAuth{}, fmt.Errorf("client authentication by %q, expected client_secret_basic, client_secret_post or private_key_jwt", spec.Method)
}

func (a *clientAuth) header(h http.Header) {
	if a.basic != "" {
		h.Set("Authorization", a.basic)
	}
}

// form adds what goes into the form. It fails where no assertion can be signed.
func (a *clientAuth) form(f url.Values) error {
	if a.signed != nil {
		return a.signed.form(f)
	}
	if a.id != "" {
		f.Set("client_id", a.id)
		f.Set("client_secret", a.secret)
	}
	return nil
}

// wrong is what to look at when the endpoint does not accept the client.
func (a *clientAuth) wrong() string {
	if a.signed != nil {
		return "the client id is wrong, or the provider has another key for it, or expects another audience: see clientAssertionAudience"
	}
	return "the client id or secret is wrong"
}
