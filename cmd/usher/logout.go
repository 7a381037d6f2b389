package main

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"time"

	"go.uber.org/zap"

	"github.com/usher-authz/usher/policy"
)

const (
	// maxLogoutBody is room for a token of the largest size that is looked at, and its form.
	maxLogoutBody = 32 << 10
	// maxLogouts bounds how many logout requests are looked at at once; more wait, as many providers send a logout token
	// once only.
	maxLogouts = 64
	// maxLogoutRequests bounds those that wait and those whose body is still read: with their bodies, 32 MiB.
	maxLogoutRequests = 1024
	// logoutTimeout bounds one, the write to the list included.
	logoutTimeout = 4 * time.Second
)

// logout is the back-channel logout endpoint (OpenID Connect Back-Channel Logout 1.0, section 2.5).
type logout struct {
	gate *gate
	open chan struct{} // requests that are here
	busy chan struct{} // those whose token is looked at
}

func newLogout(g *gate) *logout {
	return &logout{gate: g, open: make(chan struct{}, maxLogoutRequests), busy: make(chan struct{}, maxLogouts)}
}

// ServeHTTP answers 200, 400 for a request or token that is wrong (section 2.8), 404 where no logout tokens are taken, and 503
// where the provider must try again.
func (l *logout) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, state := r.PathValue("provider"), l.gate.current()
	if state == nil {
		l.later(w)
		return
	}
	if !state.TakesLogouts(name) { // and nothing of what strangers call one comes into the log
		answer(w, http.StatusNotFound, map[string]string{"error": "invalid_request"})
		return
	}
	select {
	case l.open <- struct{}{}:
		defer func() { <-l.open }()
	default:
		l.later(w)
		return
	}
	token, err := logoutToken(w, r)
	if err != nil {
		l.wrong(w, name, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), logoutTimeout)
	defer cancel()
	// Only now: whoever sends a body slowly must not keep the providers out.
	select {
	case l.busy <- struct{}{}:
		defer func() { <-l.busy }()
	case <-ctx.Done():
		l.later(w)
		return
	}
	err = state.Logout(ctx, name, token)
	var refused *policy.Refusal
	switch {
	case err == nil:
		l.gate.log.Info("back-channel logout", zap.String("provider", name))
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusOK)
	case errors.As(err, &refused) && refused.Outcome == policy.Unauthenticated:
		l.wrong(w, name, err)
	default:
		l.gate.log.Warn("back-channel logout: the provider is asked to try again", zap.String("provider", name), zap.Error(err))
		l.later(w)
	}
}

// logoutToken reads the one token of the form.
func logoutToken(w http.ResponseWriter, r *http.Request) (string, error) {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/x-www-form-urlencoded" || r.Header.Get("Content-Encoding") != "" {
		return "", errors.New("the body is no form")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxLogoutBody))
	if err != nil {
		return "", errors.New("the body cannot be read, or is too long")
	}
	form, err := url.ParseQuery(string(body))
	if err != nil || len(form["logout_token"]) != 1 {
		return "", errors.New("the form does not have just one logout_token")
	}
	return form.Get("logout_token"), nil
}

func (l *logout) wrong(w http.ResponseWriter, provider string, err error) {
	l.gate.log.Warn("back-channel logout refused", zap.String("provider", provider), zap.Error(err))
	answer(w, http.StatusBadRequest, map[string]string{"error": "invalid_request"})
}

func (l *logout) later(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "1")
	answer(w, http.StatusServiceUnavailable, map[string]string{"error": "temporarily_unavailable"})
}
