package token

import (
	"crypto/sha256"
	"testing"
	"testing/synctest"
	"time"

	"github.com/usher-authz/usher/extauthz/token/tokentest"
	"github.com/usher-authz/usher/policy"
)

// userinfoOf asks a provider whose answer says who the user is, and nothing of the token.
func userinfoOf(t *testing.T, p *tokentest.Provider, keep time.Duration) Verifier {
	t.Helper()
	p.Say("/userinfo", tokentest.Answer{Body: `{"sub":"alice"}`})
	c := config(t, p)
	c.Userinfo = &Userinfo{Endpoint: issuer + "/userinfo", AnyAudience: true, CacheFor: keep}
	v, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestAJWTThatAProviderIsAskedAboutIsHeldToItsOwnClaims: an answer that says less of a token than the token itself, which
// the provider has called good, makes it no better.
func TestAJWTThatAProviderIsAskedAboutIsHeldToItsOwnClaims(t *testing.T) {
	p := tokentest.New(issuer, keyOf("ES256", 1))
	sum := sha256.Sum256([]byte("certificate"))
	good := p.Mint()
	cases := []struct {
		name, token string
		want        policy.Outcome
	}{
		{"good", good, policy.Allow},
		{"expired", p.Mint(claims{"exp": time.Now().Unix() - 60}), policy.Unauthenticated},
		{"not_yet", p.Mint(claims{"nbf": time.Now().Unix() + 600}), policy.Unauthenticated},
		{"bound_to_a_key", p.Mint(claims{"cnf": claims{"jkt": tokentest.Base64(sum[:])}}), policy.Unauthenticated},
		{"bound_to_a_certificate", p.Mint(claims{"cnf": claims{"x5t#S256": tokentest.Base64(sum[:])}}), policy.Unauthenticated},
		{"of_another_issuer", p.Mint(claims{"iss": "https://other.test"}), policy.Unauthenticated},
		{"for_another_service", p.Mint(claims{"aud": "other"}), policy.Unauthenticated},
		{"for_nobody_in_particular", p.Mint(claims{"aud": nil}), policy.Allow},
		{"a_refresh_token", p.Mint(claims{"typ": "Refresh"}), policy.Unauthenticated},
		{"a_logout_token", p.Mint(claims{"events": claims{logoutEvent: claims{}}}), policy.Unauthenticated},
		{"in_another_spelling", good + "=", policy.Unauthenticated},
		{"bound_in_another_spelling", p.Mint(claims{"cnf": claims{"jkt": tokentest.Base64(sum[:])}}) + "=", policy.Unauthenticated},
		{"opaque", "opaque", policy.Allow},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { expect(t, userinfoOf(t, p, 0), bearer(c.token), c.want) })
	}
}

func TestAnAnswerAboutAJWTIsNotKeptPastItsExp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := tokentest.New(issuer, keyOf("ES256", 1))
		v := userinfoOf(t, p, time.Hour)
		token := p.Mint(claims{"exp": time.Now().Unix() + 60})
		expect(t, v, bearer(token), policy.Allow)
		time.Sleep(2 * time.Minute)
		expect(t, v, bearer(token), policy.Unauthenticated)
	})
}

// TestWhatARevocationListNamesIsKnownOfAJWT: jti and sid, though the provider's answer leaves them out.
func TestWhatARevocationListNamesIsKnownOfAJWT(t *testing.T) {
	p := tokentest.New(issuer, keyOf("ES256", 1))
	id, err := userinfoOf(t, p, 0).Verify(t.Context(), bearer(p.Mint(claims{"jti": "one", "sid": "two", "sub": "mallory", "admin": true})))
	if err != nil {
		t.Fatal(err)
	}
	if id.Claims["jti"] != "one" || id.Claims["sid"] != "two" || id.Name != "alice" || id.Claims["admin"] != nil {
		t.Errorf("got %v", id.Claims)
	}
}

// TestARefreshTokenIsNoAccessToken: an introspection endpoint calls it active too (RFC 7662, section 2.1).
func TestARefreshTokenIsNoAccessToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, claim := range []claims{
			{"token_type": "refresh_token"}, {"token_use": "refresh_token"}, {"token_use": "refresh"}, {"typ": "Refresh"}, {"typ": "Offline"},
			{"token_type": []any{"DPoP"}}, {"token_type": nil},
		} {
			p := tokentest.New(issuer)
			p.Opaque("opaque", p.Good(claim))
			want := policy.Unauthenticated
			if v, ok := claim["token_type"]; ok && v == nil { // left out
				want = policy.Allow
			}
			expect(t, introspector(t, p), bearer("opaque"), want)
		}
	})
}
