package extauthz

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/usher-authz/usher/extauthz/revocation"
	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/policy"
)

// assertingState guards api.test with a policy that asserts, which a Shadow policy with another header watches.
func assertingState(t testing.TB, m *minter, anonymous bool) *State {
	t.Helper()
	return revocableState(t, m, anonymous, nil)
}

func revocableState(t testing.TB, m *minter, anonymous bool, revoked *token.Revocation) *State {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	private := policy.PrivateKey(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	mapping, err := policy.NewMapping(policy.MappingSource{})
	if err != nil {
		t.Fatal(err)
	}
	text := func(s string) policy.Text { return policy.Text{Text: s} }
	source := func(name, header string, shadow bool) policy.Source {
		allow := text("true")
		return policy.Source{
			Name: name, Hosts: []policy.Text{text("api.test")}, Providers: []string{"p"}, Shadow: shadow, Anonymous: anonymous, RevocationMayLag: true,
			API: policy.APISource{Routes: []policy.RouteSource{
				{Method: text("GET"), Path: text("/healthz"), Public: true},
				{Method: text("GET"), Path: text("/v1/items"), On: text("items:read")},
			}},
			Rules:           []policy.RuleSource{{On: text("items:read"), Allow: &allow}},
			IdentityHeaders: []policy.HeaderSource{{Name: text("x-user-id"), Value: text("user.isAuthenticated ? user.identity : ''")}},
			Assertion: &policy.AssertionSource{
				Header: text(header), Issuer: "https://usher.test", Audience: "https://" + name + ".test", Lifetime: time.Minute, Keys: []policy.PrivateKey{private},
			},
		}
	}
	snapshot, err := policy.New(policy.Set{Policies: []policy.Source{source("api", "usher-assertion", false), source("shadow", "shadow-assertion", true)}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	state, err := Build(nil, snapshot, map[string]token.Config{
		"p": {Name: "p", Issuer: testIssuer, Audiences: []string{"langgraph"}, JWKS: m.jwks(t), Identity: mapping, Fingerprint: rand.Text(), Revocation: revoked},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// forged are a client's copies of the assertion, in spellings that some backend reads as the same header.
func forged() map[string]string {
	return map[string]string{"usher-assertion": "forged", "shadow-assertion": "forged", "usher_assertion": "forged", "Usher-Assertion": "forged", "USHER.ASSERTION": "forged", "shadow_assertion": "forged"}
}

func asserting(path, token string) *authv3.CheckRequest {
	h := forged()
	if token != "" {
		h["authorization"] = "Bearer " + token
	}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{
		Http: &authv3.AttributeContext_HttpRequest{Method: "GET", Host: "api.test", Path: path, Scheme: "https", Headers: h},
	}}}
}

// passed applies an OkResponse to the client's headers as Envoy does: it sets, and then removes.
func passed(t testing.TB, r *authv3.CheckResponse) map[string]string {
	t.Helper()
	ok := r.GetOkResponse()
	if ok == nil {
		t.Fatalf("not allowed: %v", r.GetDeniedResponse())
	}
	out := forged()
	set := map[string]bool{}
	for _, h := range ok.GetHeaders() {
		maps.DeleteFunc(out, func(name, _ string) bool { return strings.EqualFold(name, h.GetHeader().GetKey()) })
		out[h.GetHeader().GetKey()] = h.GetHeader().GetValue()
		set[h.GetHeader().GetKey()] = true
	}
	for _, name := range ok.GetHeadersToRemove() {
		if set[name] {
			t.Errorf("%s is set, and removed after that", name)
		}
		maps.DeleteFunc(out, func(n, _ string) bool { return strings.EqualFold(n, name) })
	}
	if slices.Contains(slices.Collect(maps.Values(out)), "forged") {
		t.Errorf("a forged assertion got through: %v", out)
	}
	return out
}

func claimsOf(t testing.TB, compact string) map[string]any {
	t.Helper()
	parts := strings.Split(compact, ".")
	if len(parts) != 3 {
		t.Fatalf("no compact token: %q", compact)
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(b, &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

func assertingToken(t testing.TB, m *minter, sub string, expires time.Time) string {
	return m.mint(t, map[string]any{"iss": testIssuer, "aud": "langgraph", "sub": sub, "exp": expires.Unix(), "iat": time.Now().Unix()})
}

func TestAnAssertionIsOnlyEverUshers(t *testing.T) {
	m := newMinter(t, "ES256")
	check := func(s *Server, path, token string) *authv3.CheckResponse {
		r, err := s.Check(context.Background(), asserting(path, token))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	status := func(r *authv3.CheckResponse) int { return int(r.GetDeniedResponse().GetStatus().GetCode()) }
	for _, anonymous := range []bool{false, true} {
		s := New(Options{})
		s.Swap(assertingState(t, m, anonymous))
		t.Run(fmt.Sprintf("anonymous_%v", anonymous), func(t *testing.T) {
			t.Run("a_user_gets_it_and_the_clients_copies_go", func(t *testing.T) {
				for _, name := range []string{"alice", "bob", "alice"} {
					h := passed(t, check(s, "/v1/items", assertingToken(t, m, name, time.Now().Add(time.Hour))))
					if c := claimsOf(t, h["usher-assertion"]); c["sub"] != name || c["aud"] != "https://api.test" || h["x-user-id"] != name || h["shadow-assertion"] != "" {
						t.Errorf("claims %v, headers %v", c, h)
					}
				}
			})
			t.Run("a_public_route_gets_none", func(t *testing.T) {
				for _, token := range []string{"", assertingToken(t, m, "alice", time.Now().Add(time.Hour)), "no token"} {
					if h := passed(t, check(s, "/healthz", token)); len(h) > 0 {
						t.Errorf("headers %v", h)
					}
				}
			})
			t.Run("nobody_gets_none", func(t *testing.T) {
				if r := check(s, "/v1/items", ""); anonymous {
					if h := passed(t, r); len(h) > 0 {
						t.Errorf("headers %v", h)
					}
				} else if status(r) != 401 {
					t.Errorf("status %d", status(r))
				}
			})
			t.Run("a_bad_token_is_401", func(t *testing.T) {
				if got := status(check(s, "/v1/items", "forged")); got != 401 {
					t.Errorf("status %d", got)
				}
			})
			t.Run("within_the_clock_skew_after_its_end_a_token_is_401", func(t *testing.T) {
				if got := status(check(s, "/v1/items", assertingToken(t, m, "alice", time.Now().Add(-5*time.Second)))); got != 401 {
					t.Errorf("status %d", got)
				}
			})
		})
	}
	t.Run("without_its_signer_nothing_passes", func(t *testing.T) {
		state := assertingState(t, m, true)
		clear(state.assertions.signers)
		s := New(Options{})
		s.Swap(state)
		if got := status(check(s, "/v1/items", assertingToken(t, m, "alice", time.Now().Add(time.Hour)))); got != 503 {
			t.Errorf("status %d", got)
		}
		passed(t, check(s, "/healthz", "")) // where none is needed
	})
	t.Run("a_new_state_does_not_use_what_an_older_one_signed", func(t *testing.T) {
		s := New(Options{})
		first := assertingState(t, m, false)
		s.Swap(first)
		token := assertingToken(t, m, "alice", time.Now().Add(time.Hour))
		before := passed(t, check(s, "/v1/items", token))["usher-assertion"]
		if again := passed(t, check(s, "/v1/items", token))["usher-assertion"]; again != before {
			t.Error("signed twice")
		}
		next, err := Build(first, first.Policies, map[string]providerConfig{"p": {Name: "p", Issuer: testIssuer, Audiences: []string{"langgraph"}, JWKS: m.jwks(t), Identity: mustMapping(t), Fingerprint: first.providers["p"].fingerprint}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		s.Swap(next)
		if after := passed(t, check(s, "/v1/items", token))["usher-assertion"]; after == before {
			t.Error("an older state's assertion is used")
		}
	})
}

// providerConfig has a name of its own, as a test calls its token token.
type providerConfig = token.Config

func mustMapping(t testing.TB) *policy.Mapping {
	t.Helper()
	m, err := policy.NewMapping(policy.MappingSource{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestAfterALogoutNobodyGetsTheAssertionThatWasKept(t *testing.T) {
	m := newMinter(t, "ES256")
	state := revocableState(t, m, false, &token.Revocation{URL: "redis://127.0.0.1:1"})
	s := New(Options{})
	s.Swap(state)
	ask := func(text string) *authv3.CheckResponse {
		r, err := s.Check(t.Context(), asserting("/v1/items", text))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	alice, bob := assertingToken(t, m, "alice", time.Now().Add(time.Hour)), assertingToken(t, m, "bob", time.Now().Add(time.Hour))
	kept := passed(t, ask(alice))["usher-assertion"]
	if passed(t, ask(alice))["usher-assertion"] != kept {
		t.Error("nothing is kept")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	// The list's server is away; this process acts on it all the same.
	_ = state.providers["p"].revoked.Revoke(ctx, revocation.SUB, "alice", time.Now().Add(time.Second), time.Hour)
	if r := ask(alice); r.GetDeniedResponse().GetStatus().GetCode() != 401 || strings.Contains(r.String(), kept) {
		t.Errorf("after the logout: %v", r)
	}
	if c := claimsOf(t, passed(t, ask(bob))["usher-assertion"]); c["sub"] != "bob" {
		t.Errorf("claims %v", c)
	}
}
