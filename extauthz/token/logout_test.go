package token

import (
	"context"
	"testing"
	"time"

	"github.com/usher-authz/usher/extauthz/token/tokentest"
	"github.com/usher-authz/usher/policy"
)

// TestLogoutToken is OpenID Connect Back-Channel Logout 1.0, sections 2.4 and 2.6.
func TestLogoutToken(t *testing.T) {
	key := keyOf("ES256", 1)
	p := tokentest.New(issuer, key)
	j := inline(t, p)
	now := time.Now()
	event := tokentest.Claims{logoutEvent: tokentest.Claims{}}
	good := tokentest.Claims{
		"iss": issuer, "aud": "web", "iat": now.Unix(), "exp": now.Add(2 * time.Minute).Unix(), "jti": "1", "events": event, "sub": "alice", "sid": "s1",
	}
	for name, c := range map[string]struct {
		change, header tokentest.Claims
		key            *tokentest.Key
		ok             bool
	}{
		"a_good_one":                        {ok: true},
		"by_session_alone":                  {change: tokentest.Claims{"sub": nil}, ok: true},
		"by_user_alone":                     {change: tokentest.Claims{"sid": nil}, ok: true},
		"of_typ_JWT":                        {header: tokentest.Claims{"typ": "JWT"}, ok: true},
		"of_another_typ":                    {header: tokentest.Claims{"typ": "at+jwt"}},
		"neither_sub_nor_sid":               {change: tokentest.Claims{"sub": nil, "sid": nil}},
		"sub_is_no_string":                  {change: tokentest.Claims{"sub": 7}},
		"sid_is_empty":                      {change: tokentest.Claims{"sid": ""}},
		"another_issuer":                    {change: tokentest.Claims{"iss": issuer + "/"}},
		"for_the_api_and_not_for_a_client":  {change: tokentest.Claims{"aud": tokentest.Audience}},
		"without_iat":                       {change: tokentest.Claims{"iat": nil}},
		"issued_an_hour_ago":                {change: tokentest.Claims{"iat": now.Add(-time.Hour).Unix()}},
		"issued_in_an_hour":                 {change: tokentest.Claims{"iat": now.Add(time.Hour).Unix()}},
		"without_exp":                       {change: tokentest.Claims{"exp": nil}},
		"expired":                           {change: tokentest.Claims{"exp": now.Add(-time.Minute).Unix()}},
		"without_jti":                       {change: tokentest.Claims{"jti": nil}},
		"with_a_nonce":                      {change: tokentest.Claims{"nonce": "n"}},
		"without_events":                    {change: tokentest.Claims{"events": nil}},
		"with_another_event":                {change: tokentest.Claims{"events": tokentest.Claims{"http://example.com": tokentest.Claims{}}}},
		"with_an_event_that_is_no_object":   {change: tokentest.Claims{"events": tokentest.Claims{logoutEvent: true}}},
		"signed_by_a_stranger":              {key: keyOf("ES256", 2)},
		"by_an_algorithm_that_is_not_taken": {header: tokentest.Claims{"alg": "none"}},
	} {
		t.Run(name, func(t *testing.T) {
			by := key
			if c.key != nil {
				by = c.key
			}
			text := tokentest.Token{
				Header: tokentest.With(tokentest.Claims{"alg": "ES256", "kid": key.ID, "typ": "logout+jwt"}, c.header),
				Claims: tokentest.With(good, c.change), Key: by,
			}.String()
			l, err := j.Logout(context.Background(), text, []string{"web"})
			if c.ok {
				if err != nil || l.Issued.Unix() != now.Unix() {
					t.Errorf("got %+v, %v", l, err)
				}
				return
			}
			if !isRefused(err) || l != (Logout{}) {
				t.Errorf("got %+v, %v, want a refusal", l, err)
			}
		})
	}
	t.Run("a_logout_token_is_no_access_token", func(t *testing.T) {
		for _, typ := range []string{"logout+jwt", "JWT", "at+jwt"} {
			text := tokentest.Token{
				Header: tokentest.Claims{"alg": "ES256", "kid": key.ID, "typ": typ},
				Claims: tokentest.With(good, tokentest.Claims{"aud": tokentest.Audience}), Key: key,
			}.String()
			expect(t, j, bearer(text), policy.Unauthenticated)
		}
	})
}
