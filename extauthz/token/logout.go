package token

import (
	"context"
	"slices"
	"time"
)

// Revocation is where a provider's revocation list is, and whose logout tokens fill it.
type Revocation struct {
	URL                string // redis:// or rediss://
	Username, Password string
	CA                 []byte        // PEM of the only roots that the server is trusted by; empty: the usual ones
	Prefix             string        // of keys and channels; empty: the default
	LogoutClients      []string      // values of a logout token's `aud`; empty: none is taken
	TokenLifetime      time.Duration // how long a logout is remembered
}

// Logout is what a logout token says.
type Logout struct {
	Subject, Session string    // one of them at least
	Issued           time.Time // by the provider's clock, as the `iat` of its access tokens
}

const (
	// logoutEvent is the member of `events` that makes a logout token.
	logoutEvent = "http://schemas.openid.net/event/backchannel-logout"
	// logoutAge is how old a logout token may be; the specification recommends that it expires within two minutes.
	logoutAge = 5 * time.Minute
	// maxLogoutName bounds sub and sid: they become keys.
	maxLogoutName = 1024
)

// isLogout reports whether the claims are those of a logout token, whatever typ says.
func isLogout(claims map[string]any) bool {
	v, ok := claims["events"]
	if !ok {
		return false
	}
	events, ok := v.(map[string]any)
	if !ok {
		return true // nothing that an access token has
	}
	_, ok = events[logoutEvent]
	return ok
}

// Logout verifies a logout token as OpenID Connect Back-Channel Logout 1.0, section 2.6, says. clients are the values of
// `aud` of which it must name one. A token that comes twice says the same again, so that no `jti` is remembered: what it
// revokes ends with its own `iat`. The error is a *policy.Refusal, as that of Verify.
func (j *JWT) Logout(ctx context.Context, text string, clients []string) (Logout, error) {
	t, err := parseCompact(text, nil)
	if err != nil {
		return Logout{}, err
	}
	// The type is recommended to be logout+jwt (section 2.4); older providers say JWT or nothing.
	if typ := mediaType(t.typ); typ != "" && typ != "jwt" && typ != "logout+jwt" {
		return Logout{}, bad("typ is not that of a logout token")
	}
	if !slices.Contains(j.algorithms, t.alg) {
		return Logout{}, bad("alg is not accepted")
	}
	l, err := j.logout(t.claims, clients)
	if err != nil {
		return Logout{}, err
	}
	d := digestOf(text)
	if _, err := j.signer(ctx, &d, t); err != nil {
		return Logout{}, err
	}
	return l, nil
}

// logout checks the claims of a logout token (sections 2.4 and 2.6).
func (j *JWT) logout(claims map[string]any, clients []string) (Logout, error) {
	now := j.now()
	issued, hasIssued := numericDate(claims["iat"])
	expires, hasExpires := numericDate(claims["exp"])
	id, _ := claims["jti"].(string)
	_, hasNonce := claims["nonce"]
	switch {
	case !j.issued(claims):
		return Logout{}, bad("iss is not the provider's issuer")
	case !audience(claims["aud"], clients):
		return Logout{}, bad("aud names no client whose logout tokens are taken")
	case !hasIssued || issued.After(now.Add(j.skew)) || now.After(issued.Add(logoutAge+j.skew)):
		return Logout{}, bad("iat is missing, too long ago or in the future")
	case !hasExpires || !now.Before(expires.Add(j.skew)):
		return Logout{}, bad("exp is missing or past")
	case id == "":
		return Logout{}, bad("jti is missing")
	case hasNonce:
		return Logout{}, bad("a logout token has no nonce")
	}
	events, _ := claims["events"].(map[string]any)
	if _, ok := events[logoutEvent].(map[string]any); !ok {
		return Logout{}, bad("events do not say that it is a logout token")
	}
	l := Logout{Issued: issued}
	for name, value := range map[string]*string{"sub": &l.Subject, "sid": &l.Session} {
		v, there := claims[name]
		s, ok := v.(string)
		if there && (!ok || s == "" || len(s) > maxLogoutName) {
			return Logout{}, bad(name + " is no string that names something")
		}
		*value = s
	}
	if l.Subject == "" && l.Session == "" {
		return Logout{}, bad("neither sub nor sid is there")
	}
	return l, nil
}
