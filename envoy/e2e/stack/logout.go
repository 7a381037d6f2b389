package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"
)

// NewProvider starts a further provider of the demo's kind, which tells logouts to an address (OpenID Connect Back-Channel
// Logout 1.0).
func (s *Stack) NewProvider(ctx context.Context, name, logoutURI string) (*OAuth, error) {
	addresses, err := freeAddresses(1)
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(addresses[0])
	o := &OAuth{Issuer: "http://" + addresses[0]}
	o.Part = s.part(&Part{
		Name:    "provider-" + name,
		command: []string{s.tools.node, "provider.mjs", port},
		dir:     filepath.Join(s.Dir, "provider"),
		env:     []string{"BACKCHANNEL_LOGOUT_URI=" + logoutURI},
		ready:   answers200(o.Issuer + "/.well-known/openid-configuration"),
	})
	return o, o.Start(ctx)
}

// Session is a user's at a provider: a browser with its cookies.
type Session struct {
	issuer  string
	browser *browser
}

// LoginAt is [Stack.Login] at a further provider. The session can be ended, and serves further logins without a password.
func (s *Stack) LoginAt(ctx context.Context, o *OAuth, user User) (*Token, *Session, error) {
	b, err := newBrowser(user)
	if err != nil {
		return nil, nil, err
	}
	token, err := b.login(ctx, o.Issuer, allScopes)
	if err != nil {
		return nil, nil, fmt.Errorf("log in as %s: %w", user.Name, err)
	}
	return token, &Session{issuer: o.Issuer, browser: b}, nil
}

// Logout ends the session as a user does whom an application sends to the provider (OpenID Connect RP-Initiated Logout 1.0):
// the provider asks, and the user says yes. It returns when the provider has told everybody.
func (s *Session) Logout(ctx context.Context, idToken string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	var provider struct {
		EndSession string `json:"end_session_endpoint"`
	}
	if err := s.browser.getJSON(ctx, s.issuer+"/.well-known/openid-configuration", &provider); err != nil {
		return err
	}
	start := provider.EndSession + "?" + url.Values{"id_token_hint": {idToken}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, start, nil)
	if err != nil {
		return err
	}
	page, body, err := s.browser.get(req)
	if err != nil {
		return fmt.Errorf("log out: %w", err)
	}
	if req, err = s.browser.fillIn(ctx, page.Request.URL, body); err != nil {
		return fmt.Errorf("log out: %w", err)
	}
	// The button that says yes.
	form, err := io.ReadAll(req.Body)
	if err != nil {
		return err
	}
	again, err := http.NewRequestWithContext(ctx, http.MethodPost, req.URL.String(), strings.NewReader(string(form)+"&logout=yes"))
	if err != nil {
		return err
	}
	again.Header = req.Header
	if page, _, err = s.browser.get(again); err != nil {
		return fmt.Errorf("log out: %w", err)
	}
	if page.StatusCode >= http.StatusBadRequest {
		return errors.New("log out: the provider answers " + page.Status)
	}
	return nil
}

// get sends a request and reads the answer.
func (b *browser) get(req *http.Request) (*http.Response, string, error) {
	res, err := b.http.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	return res, string(body), err
}
