package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/usher-authz/usher/envoy/e2e/stack"
	"github.com/usher-authz/usher/extauthz/token/tokentest"
)

const formType = "application/x-www-form-urlencoded"

// sendLogout sends the admin server what may be a logout request.
func (r *revoking) sendLogout(ctx context.Context, t *testing.T, method, path string, header http.Header, body io.Reader) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, r.usher.UsherAdmin+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		req.Header[name] = values
	}
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

// TestLogoutRequests is OpenID Connect Back-Channel Logout 1.0, sections 2.5, 2.6 and 2.8, at the admin server.
func TestLogoutRequests(t *testing.T) {
	ctx := beginRevoking(t)
	server := newRedis(ctx, t, stack.RedisOptions{})
	r := revoke(ctx, t, server, plainly(server))
	r.connected(ctx, t)
	now := time.Now().Unix()
	const endpoint = "/backchannel-logout/idp"
	event := "http://schemas.openid.net/event/backchannel-logout"
	form := func(token string) string { return url.Values{"logout_token": {token}}.Encode() }
	// Each case has a user of its own, who is or is not logged out afterwards.
	of := func(change tokentest.Claims) func(string) string {
		return func(user string) string {
			return form(r.logoutToken(tokentest.Claims{"sub": user}, change))
		}
	}
	good := of(nil)
	signed := func(header tokentest.Claims, key *tokentest.Key) func(string) string {
		return func(user string) string {
			token := r.idp.Token()
			token.Header = tokentest.With(token.Header, tokentest.Claims{"typ": "logout+jwt"}, header)
			token.Claims = tokentest.Claims{"iss": revocationIssuer, "aud": "chat", "sub": user, "iat": now, "exp": now + 120, "jti": "1", "events": tokentest.Claims{event: tokentest.Claims{}}}
			if key != nil {
				token.Key = key
			}
			token.Alg = "ES256"
			return form(token.String())
		}
	}
	stranger := tokentest.NewKey("k1", "ES256")
	for _, c := range []struct {
		name   string
		method string // empty: POST
		path   string // empty: the endpoint
		kind   string // Content-Type; empty: the form's, "-": none
		header [2]string
		body   func(user string) string
		want   int
	}{
		{name: "a_good_one", body: good, want: 200},
		{name: "a_charset_changes_nothing", kind: formType + "; charset=utf-8", body: good, want: 200},
		{name: "a_type_in_capitals", kind: "Application/X-WWW-Form-URLencoded", body: good, want: 200},
		{name: "other_values_are_ignored", body: func(u string) string { return "a=b&" + good(u) + "&iss=https%3A%2F%2Fevil.example.com" }, want: 200},
		{name: "several_audiences_and_one_is_ours", body: of(tokentest.Claims{"aud": []string{"other", "chat"}}), want: 200},
		{name: "issued_four_minutes_ago", body: of(tokentest.Claims{"iat": now - 240}), want: 200},
		{name: "a_clock_that_is_20_s_ahead", body: of(tokentest.Claims{"iat": now + 20}), want: 200},

		{name: "GET", method: "GET", path: endpoint + "?", body: nil, want: 405},
		{name: "PUT", method: "PUT", body: good, want: 405},
		{name: "another_provider", path: "/backchannel-logout/other", body: good, want: 404},
		{name: "no_provider", path: "/backchannel-logout/", body: good, want: 404},
		{name: "a_longer_path", path: endpoint + "/x", body: good, want: 404},
		{name: "an_encoded_slash", path: "/backchannel-logout/idp%2f", body: good, want: 404},
		{name: "no_type", kind: "-", body: good, want: 400},
		{name: "JSON", kind: "application/json", body: func(u string) string {
			return `{"logout_token": "` + strings.TrimPrefix(good(u), "logout_token=") + `"}`
		}, want: 400},
		{name: "a_multipart_form", kind: "multipart/form-data; boundary=x", body: good, want: 400},
		{name: "an_encoded_body", header: [2]string{"Content-Encoding", "gzip"}, body: good, want: 400},
		{name: "nothing", body: func(string) string { return "" }, want: 400},
		{name: "an_empty_token", body: func(string) string { return "logout_token=" }, want: 400},
		{name: "two_tokens", body: func(u string) string { return good(u) + "&" + good(u) }, want: 400},
		{name: "a_token_in_the_query", path: endpoint + "?QUERY", body: func(string) string { return "" }, want: 400},
		{name: "a_form_that_is_none", body: func(u string) string { return good(u) + "&%zz=1" }, want: 400},
		{name: "a_form_of_40_kB", body: func(u string) string { return good(u) + "&padding=" + strings.Repeat("x", 40<<10) }, want: 400},
		{name: "no_JWT", body: func(string) string { return form("a.b.c") }, want: 400},
		{name: "an_access_token", body: func(u string) string { return form(r.idp.Mint(tokentest.Claims{"sub": u, "aud": "chat"})) }, want: 400},
		{name: "a_nonce", body: of(tokentest.Claims{"nonce": "n"}), want: 400},
		{name: "a_null_nonce", body: of(tokentest.Claims{"nonce": json.RawMessage("null")}), want: 400},
		{name: "no_events", body: of(tokentest.Claims{"events": nil}), want: 400},
		{name: "events_in_a_list", body: of(tokentest.Claims{"events": []string{event}}), want: 400},
		{name: "an_event_that_is_no_object", body: of(tokentest.Claims{"events": tokentest.Claims{event: "yes"}}), want: 400},
		{name: "no_iat", body: of(tokentest.Claims{"iat": nil}), want: 400},
		{name: "issued_ten_minutes_ago", body: of(tokentest.Claims{"iat": now - 600}), want: 400},
		{name: "issued_in_an_hour", body: of(tokentest.Claims{"iat": now + 3600, "exp": now + 7200}), want: 400},
		{name: "expired", body: of(tokentest.Claims{"iat": now - 240, "exp": now - 60}), want: 400},
		{name: "no_exp", body: of(tokentest.Claims{"exp": nil}), want: 400},
		{name: "no_jti", body: of(tokentest.Claims{"jti": nil}), want: 400},
		{name: "another_audience", body: of(tokentest.Claims{"aud": "other"}), want: 400},
		{name: "the_api_as_audience", body: of(tokentest.Claims{"aud": "api"}), want: 400},
		{name: "no_audience", body: of(tokentest.Claims{"aud": nil}), want: 400},
		{name: "another_issuer", body: of(tokentest.Claims{"iss": revocationIssuer + "/"}), want: 400},
		{name: "neither_sub_nor_sid", body: of(tokentest.Claims{"sub": nil}), want: 400},
		{name: "a_sub_of_2_kB", body: of(tokentest.Claims{"sub": strings.Repeat("x", 2<<10)}), want: 400},
		{name: "alg_none", body: signed(tokentest.Claims{"alg": "none"}, nil), want: 400},
		{name: "no_signature", body: func(u string) string {
			return strings.TrimRight(good(u), "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
		}, want: 400},
		{name: "another_alg", body: signed(tokentest.Claims{"alg": "HS256"}, nil), want: 400},
		{name: "signed_by_a_stranger", body: signed(nil, stranger), want: 400},
		{name: "an_unknown_key", body: signed(tokentest.Claims{"kid": "k2"}, nil), want: 400},
		{name: "the_typ_of_an_access_token", body: signed(tokentest.Claims{"typ": "at+jwt"}, nil), want: 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			user := "user of " + c.name
			access := r.idp.Mint(tokentest.Claims{"sub": user, "iat": now - 3600})
			r.want(ctx, t, http.StatusOK, denyHost, access)
			method, path, kind, body := c.method, c.path, c.kind, ""
			if method == "" {
				method = http.MethodPost
			}
			if path == "" {
				path = endpoint
			}
			path = strings.Replace(path, "QUERY", good(user), 1)
			header := http.Header{}
			switch kind {
			case "":
				header.Set("Content-Type", formType)
			case "-":
			default:
				header.Set("Content-Type", kind)
			}
			if c.header[0] != "" {
				header.Set(c.header[0], c.header[1])
			}
			if c.body != nil {
				body = c.body(user)
			}
			got := r.sendLogout(ctx, t, method, path, header, strings.NewReader(body))
			if got.status != c.want {
				t.Fatalf("got %d, want %d: %s", got.status, c.want, got.body)
			}
			if cache := got.header.Get("Cache-Control"); c.want != 405 && !strings.Contains(cache, "no-store") {
				t.Errorf("Cache-Control is %q", cache)
			}
			if c.want == 400 && !strings.Contains(got.body, `"error": "invalid_request"`) {
				t.Errorf("the body is %s", got.body)
			}
			if strings.Contains(got.body, user) || strings.Contains(got.body, "eyJ") {
				t.Errorf("the answer repeats something of the token: %s", got.body)
			}
			after := http.StatusOK
			if c.want == 200 {
				after = http.StatusUnauthorized
			}
			r.want(ctx, t, after, denyHost, access)
		})
	}
	if log := r.usher.Usher.Log(); strings.Contains(log, "eyJ") {
		t.Error("a token is in the log")
	}
}

// TestAFloodOfLogouts: strangers' tokens cost a signature check at most, and while the list's server hangs, the provider is
// told to try again; whatever comes, the checks of others go on.
func TestAFloodOfLogoutTokens(t *testing.T) {
	ctx := beginRevoking(t)
	server := newRedis(ctx, t, stack.RedisOptions{})
	r := revoke(ctx, t, server, plainly(server))
	r.connected(ctx, t)
	access := r.idp.Mint(tokentest.Claims{"sub": "somebody"})
	stranger := &revoking{idp: tokentest.New(revocationIssuer, tokentest.NewKey("k1", "ES256"))}

	flood := func(n int, token func(i int) string) map[int]int {
		var group sync.WaitGroup
		var mu sync.Mutex
		seen := map[int]int{}
		for worker := range 50 {
			group.Go(func() {
				for i := worker; i < n; i += 50 {
					req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.usher.UsherAdmin+"/backchannel-logout/idp", strings.NewReader(url.Values{"logout_token": {token(i)}}.Encode()))
					if err != nil {
						t.Error(err)
						return
					}
					req.Header.Set("Content-Type", formType)
					res, err := oauthClient.Do(req)
					if err != nil {
						t.Error(err)
						return
					}
					_ = res.Body.Close()
					mu.Lock()
					seen[res.StatusCode]++
					mu.Unlock()
				}
			})
		}
		watching, stop := context.WithCancel(ctx)
		var watchers sync.WaitGroup
		w := r.watch(watching, t, &watchers, denyHost, access)
		nobody := r.watch(watching, t, &watchers, denyHost, "") // of whom no list is asked: what is slow here is the machine
		group.Wait()
		stop()
		watchers.Wait()
		if got := w.statuses(); fmt.Sprint(got) != "[200]" || w.slowest > 2*time.Second+nobody.slowest {
			t.Errorf("meanwhile the others got %v, the slowest after %v, and without a token after %v", got, w.slowest, nobody.slowest)
		}
		return seen
	}

	seen := flood(1000, func(i int) string { return stranger.logoutToken(tokentest.Claims{"sub": strconv.Itoa(i)}) })
	if t.Logf("of a stranger: %v", seen); seen[400] == 0 || seen[400]+seen[503] != 1000 {
		t.Errorf("a stranger's tokens got %v", seen)
	}
	if s, _ := r.status(ctx, t); s.Entries != 0 || !s.Connected {
		t.Errorf("a stranger's tokens left the list %+v", s)
	}

	seen = flood(300, func(i int) string { return r.logoutToken(tokentest.Claims{"sub": strconv.Itoa(i)}) })
	if t.Logf("of the provider: %v", seen); seen[200] != 300 {
		t.Errorf("the provider's tokens got %v", seen)
	}

	if err := server.Freeze(); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	seen = flood(100, func(i int) string { return r.logoutToken(tokentest.Claims{"sub": "frozen-" + strconv.Itoa(i)}) })
	if t.Logf("while the list's server hangs: %v in %v", seen, time.Since(begin)); seen[503] != 100 || time.Since(begin) > time.Minute {
		t.Errorf("while the list's server hangs they got %v in %v", seen, time.Since(begin))
	}
	if err := server.Thaw(); err != nil {
		t.Fatal(err)
	}
	r.connected(ctx, t)
	if got := r.logout(ctx, t, r.logoutToken(tokentest.Claims{"sub": "afterwards"})); got.status != http.StatusOK {
		t.Errorf("afterwards: %d %s", got.status, got.body)
	}
	r.want(ctx, t, http.StatusOK, denyHost, access)
}
