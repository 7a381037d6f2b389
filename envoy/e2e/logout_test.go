package e2e_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/usher-authz/usher/envoy/e2e/stack"
	"github.com/usher-authz/usher/extauthz/token/tokentest"
)

// logoutToken is a logout token of the provider (OpenID Connect Back-Channel Logout 1.0, section 2.4).
func (r *revoking) logoutToken(changes ...tokentest.Claims) string {
	now := time.Now().Unix()
	token := r.idp.Token()
	token.Header["typ"] = "logout+jwt"
	token.Claims = tokentest.With(tokentest.Claims{
		"iss": revocationIssuer, "aud": "chat", "iat": now, "exp": now + 120, "jti": strconv.FormatInt(time.Now().UnixNano(), 36),
		"events": tokentest.Claims{"http://schemas.openid.net/event/backchannel-logout": tokentest.Claims{}},
	}, changes...)
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

// logoutManifests has the provider's issuer for ISSUER, the list's server for REDIS and the backend for BACKEND.
const logoutManifests = `
apiVersion: usher.dev/v1alpha1
kind: IdentityProvider
metadata: {name: demo}
spec:
  issuer: ISSUER
  allowHTTP: true
  audiences: [langgraph]
  revocation:
    redis: {url: "redis://REDIS"}
    backChannelLogout: {clientIDs: [usher-demo], tokenLifetime: 1h}
---
apiVersion: usher.dev/v1alpha1
kind: AuthPolicy
metadata: {name: all}
spec:
  hosts: ["*"]
  providers: [demo]
  api: {routes: [{method: GET, path: /ok, public: true}, {method: GET, path: /me, on: "me:read"}]}
  backend: {url: BACKEND}
  rules: [{on: "me:read", allow: "true"}]
  identityHeaders: {x-user-id: user.identity}
`

// TestAUserWhoLogsOutAtTheProviderIsOutAtEveryUsher: the provider tells one Usher, and both know, by the list.
func TestAUserWhoLogsOutAtTheProviderIsOutAtEveryUsher(t *testing.T) {
	ctx := beginRevoking(t)
	server := newRedis(ctx, t, stack.RedisOptions{})
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Header.Get("X-User-Id")) }))
	t.Cleanup(backend.Close)

	// What lets the provider in: the one path, and nothing else of the admin server.
	var admin atomic.Pointer[url.URL]
	told := make(chan int, 10)
	entrance := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(admin.Load())
			p.Out.URL.Path = "/backchannel-logout/demo"
		},
		ModifyResponse: func(r *http.Response) error {
			told <- r.StatusCode
			return nil
		},
	})
	t.Cleanup(entrance.Close)
	provider, err := parts.NewProvider(ctx, "logout", entrance.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(provider.Stop)

	manifests := strings.NewReplacer("ISSUER", provider.Issuer, "REDIS", server.Address, "BACKEND", backend.URL).Replace(logoutManifests)
	var gates []*stack.Gate
	for _, name := range []string{"logout-1", "logout-2"} {
		g, err := parts.NewGateAs(ctx, name, stack.GateOptions{Manifests: manifests, EnvoyArgs: []string{"--check-timeout=5s"}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(g.Usher.Stop)
		t.Cleanup(g.Envoy.Stop)
		gates = append(gates, g)
	}
	first, err := url.Parse(gates[0].UsherAdmin)
	if err != nil {
		t.Fatal(err)
	}
	admin.Store(first)

	me := func(g *stack.Gate, token *stack.Token) func() (reply, error) {
		return func() (reply, error) {
			return askMe(ctx, oauthClient, g.URL, "agents.test", http.Header{"Authorization": {"Bearer " + token.Access}})
		}
	}
	expect := func(status int, g *stack.Gate, token *stack.Token) {
		t.Helper()
		if got, err := me(g, token)(); err != nil || got.status != status {
			t.Errorf("%v, %d, want %d: %s", err, got.status, status, got.body)
		}
	}
	alice, session, err := parts.LoginAt(ctx, provider, stack.Alice)
	if err != nil {
		t.Fatal(err)
	}
	bob, _, err := parts.LoginAt(ctx, provider, stack.Bob)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // cold, warm
		for _, g := range gates {
			expect(http.StatusOK, g, alice)
			expect(http.StatusOK, g, bob)
		}
	}

	if err := session.Logout(ctx, alice.ID); err != nil {
		t.Fatal(err)
	}
	select {
	case status := <-told:
		if status != http.StatusOK {
			t.Fatalf("the logout token is answered %d", status)
		}
	default:
		t.Fatalf("the provider told nobody\n%s", provider.Tail())
	}
	// The one that was told knows at once; the other by the list.
	expect(http.StatusUnauthorized, gates[0], alice)
	refused := until(ctx, t, http.StatusUnauthorized, me(gates[1], alice), http.StatusOK)
	if c := refused.header.Get("WWW-Authenticate"); !strings.Contains(c, `error="invalid_token"`) {
		t.Errorf("the challenge is %q", c)
	}
	for _, g := range gates {
		expect(http.StatusUnauthorized, g, alice)
		expect(http.StatusOK, g, bob)
	}

	// A login after that second is another matter.
	for begin := time.Now(); ; {
		again, _, err := parts.LoginAt(ctx, provider, stack.Alice)
		if err != nil {
			t.Fatal(err)
		}
		got, err := me(gates[1], again)()
		if err != nil {
			t.Fatal(err)
		}
		if got.status == http.StatusOK {
			expect(http.StatusOK, gates[0], again)
			break
		}
		if got.status != http.StatusUnauthorized || time.Since(begin) > time.Minute {
			t.Fatalf("a login after the logout is %d", got.status)
		}
	}
	expect(http.StatusUnauthorized, gates[1], alice)

	// A list that cannot take it: the provider is told so, and this Usher knows all the same.
	server.Stop()
	bobs, session2, err := parts.LoginAt(ctx, provider, stack.Bob)
	if err != nil {
		t.Fatal(err)
	}
	if err := session2.Logout(ctx, bobs.ID); err != nil {
		t.Fatal(err)
	}
	if status := <-told; status != http.StatusServiceUnavailable {
		t.Errorf("without a list the logout token is answered %d, want 503", status)
	}
	expect(http.StatusUnauthorized, gates[0], bobs)
}
