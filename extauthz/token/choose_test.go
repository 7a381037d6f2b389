package token

import (
	"testing"
	"testing/synctest"

	"github.com/usher-authz/usher/extauthz/token/tokentest"
	"github.com/usher-authz/usher/policy"
)

func TestATokenGoesToTheProviderThatItNames(t *testing.T) {
	shared := keyOf("ES256", 2).As(keyOf("ES256", 1).ID, "ES256") // b's key has the same kid as a's
	a, b := tokentest.New("https://a.test", keyOf("ES256", 1)), tokentest.New("https://b.test", shared)
	v := Choose(inline(t, a), inline(t, b))
	expect(t, v, bearer(a.Mint()), policy.Allow)
	expect(t, v, bearer(b.Mint()), policy.Allow)
	again := b.Mint()
	expect(t, v, bearer(again), policy.Allow)
	expect(t, v, bearer(again), policy.Allow)
	for name, token := range map[string]string{
		"a_token_of_a_signed_by_b":   b.Mint(claims{"iss": a.Issuer}),
		"a_token_of_b_signed_by_a":   a.Mint(claims{"iss": b.Issuer}),
		"a_token_of_nobody":          a.Mint(claims{"iss": "https://c.test"}),
		"a_token_without_iss":        a.Mint(claims{"iss": nil}),
		"a_token_with_a_list_as_iss": a.Mint(claims{"iss": []string{a.Issuer}}),
		"an_opaque_token":            "opaque",
		"nothing":                    "",
	} {
		t.Run(name, func(t *testing.T) { expect(t, v, bearer(token), policy.Unauthenticated) })
	}
	expect(t, v, Credential{Token: again}, policy.Unauthenticated)
}

func TestWithoutProvidersNothingIsAccepted(t *testing.T) {
	p := tokentest.New(issuer, keyOf("ES256", 1))
	expect(t, Choose(), bearer(p.Mint()), policy.Unauthenticated)
	expect(t, Choose(), bearer("opaque"), policy.Unauthenticated)
}

func TestOpaqueTokensAreShownInOrderUntilOneProviderKnowsThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := tokentest.New("https://jwt.test", keyOf("ES256", 1))
		one, two := tokentest.New("https://one.test", keyOf("ES256", 3)), tokentest.New("https://two.test")
		two.Opaque("ya29.of.two", two.Good())
		build := func() Verifier { return Choose(inline(t, j), introspector(t, one), introspector(t, two)) }
		v := build()
		expect(t, v, bearer("ya29.of.two"), policy.Allow)
		expect(t, v, bearer("of-nobody"), policy.Unauthenticated)
		expect(t, v, bearer(j.Mint()), policy.Allow)

		// A JWT of a provider that introspects goes there and nowhere else.
		token := one.Mint()
		one.Opaque(token, one.Good())
		before := two.Hits(tokentest.Introspection)
		expect(t, v, bearer(token), policy.Allow)
		// One that names nobody known is shown to nobody.
		expect(t, v, bearer(j.Mint(claims{"iss": "https://evil.test"})), policy.Unauthenticated)
		if n := two.Hits(tokentest.Introspection); n != before {
			t.Errorf("asked %d times more", n-before)
		}

		// Nobody knows whose it is while one of them cannot be asked; the others' tokens are good.
		one.Say(tokentest.Introspection, tokentest.Answer{Status: 500})
		v = build()
		expect(t, v, bearer("of-nobody"), policy.Unavailable)
		expect(t, v, bearer("ya29.of.two"), policy.Allow)
	})
}

func TestAVerifierOfAnotherKindIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := tokentest.New(issuer, keyOf("ES256", 1))
		v := Choose(inline(t, tokentest.New("https://other.test", keyOf("ES256", 2))), Choose(introspector(t, p), introspector(t, tokentest.New("https://two.test"))))
		p.Opaque("opaque", p.Good())
		expect(t, v, bearer("opaque"), policy.Allow)
	})
}
