package e2e_test

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/usher-authz/usher/envoy/e2e/stack"
	"github.com/usher-authz/usher/extauthz/token/tokentest"
)

// logoutToken is a logout token of the provider (OpenID Connect Back-Channel Logout 1.0, section 2.4).
func (r *revoking) logoutToken(change tokentest.Claims) string {
	now := time.Now().Unix()
	token := r.idp.Token()
	token.Header["typ"] = "logout+jwt"
	token.Claims = tokentest.With(tokentest.Claims{
		"iss": revocationIssuer, "aud": "chat", "iat": now, "exp": now + 120, "jti": strconv.FormatInt(time.Now().UnixNano(), 36),
		"events": tokentest.Claims{"http://schemas.openid.net/event/backchannel-logout": tokentest.Claims{}},
	}, change)
	return token.String()
}

// logout sends a logout token to the admin server.
func (r *revoking) logout(ctx context.Context, t *testing.T, token string) reply {
	t.Helper()
	body := url.Values{"logout_token": {token}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.usher.UsherAdmin+"/backchannel-logout/idp", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := oauthClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{res.StatusCode, res.Header, string(b)}
}

// TestALogoutTakesNothingBack: whatever stands on the list already revokes as much and as long as before, or more.
func TestALogoutTakesNothingBack(t *testing.T) {
	ctx := beginRevoking(t)
	server := newRedis(ctx, t, stack.RedisOptions{})
	r := revoke(ctx, t, server, plainly(server))
	r.connected(ctx, t)
	base := revocationBase(revocationIssuer) + ":sub:"
	now := time.Now().Unix()
	later, earlier := strconv.FormatInt(now+1000, 10), strconv.FormatInt(now-1000, 10)
	const day = 24 * 3600 * 1000 // the default of tokenLifetime, in ms
	for _, c := range []struct {
		user  string
		write []string // nil: nothing is there
		value string   // afterwards; "now": the time of the logout token
		ttl   int64    // afterwards at least; -1: it never expires
	}{
		{"new", nil, "now", day},
		{"earlier", []string{"SET", base + "earlier", earlier, "EX", "60"}, "now", day},
		{"later", []string{"SET", base + "later", later, "EX", "60"}, later, day},
		{"for-longer", []string{"SET", base + "for-longer", earlier, "PX", strconv.Itoa(3 * day)}, "now", 3 * day},
		{"for-ever", []string{"SET", base + "for-ever", earlier}, "now", -1},
		{"every-token", []string{"SET", base + "every-token", "all", "EX", "60"}, "all", day},
		{"nothing-said", []string{"SET", base + "nothing-said", "", "EX", "60"}, "", day},
		{"no-decimal", []string{"SET", base + "no-decimal", "1e3", "EX", "60"}, "1e3", day},
		{"out-of-range", []string{"SET", base + "out-of-range", "-99999999999999999999", "EX", "60"}, "-99999999999999999999", day},
		{"another-type", []string{"HSET", base + "another-type", "a", "b"}, "hash", -1},
	} {
		t.Run(c.user, func(t *testing.T) {
			if c.write != nil {
				r.do(ctx, t, c.write...)
			}
			iat := time.Now().Unix()
			for range 2 { // a logout token that comes twice
				if got := r.logout(ctx, t, r.logoutToken(tokentest.Claims{"sub": c.user, "iat": iat})); got.status != http.StatusOK {
					t.Fatalf("got %d: %s", got.status, got.body)
				}
			}
			want := strings.Replace(c.value, "now", strconv.FormatInt(iat, 10), 1)
			if c.value == "hash" {
				if got := r.do(ctx, t, "TYPE", base+c.user); got != "hash" {
					t.Errorf("it is a %s now", got)
				}
			} else if got := r.do(ctx, t, "GET", base+c.user); got != want {
				t.Errorf("the value is %q, want %q", got, want)
			}
			ttl, err := strconv.ParseInt(r.do(ctx, t, "PTTL", base+c.user), 10, 64)
			if err != nil || c.ttl == -1 && ttl != -1 || c.ttl > 0 && (ttl < c.ttl-60_000 || ttl > c.ttl) {
				t.Errorf("it expires in %d ms, want %d", ttl, c.ttl)
			}
			r.want(ctx, t, http.StatusUnauthorized, denyHost, r.idp.Mint(tokentest.Claims{"sub": c.user}))
		})
	}
}
