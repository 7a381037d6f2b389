package token

import (
	"slices"
	"testing"

	"github.com/usher-authz/usher/extauthz/token/tokentest"
	"github.com/usher-authz/usher/policy"
)

// JWTs as RFC 9068 describes them: their typ, and one of several audiences.
func TestAccessTokensOfRFC9068(t *testing.T) {
	key := keyOf("ES256", 1)
	p := tokentest.New(issuer, key)
	j := inline(t, p, func(c *Config) {
		c.Typ, c.Audiences, c.Clients = []string{"at+jwt"}, []string{"api", "https://api.test/"}, []string{"chat"}
	})
	mint := func(typ any, change claims) string {
		return tokentest.Token{
			Header: tokentest.With(claims{"alg": "ES256", "kid": key.ID, "typ": typ}), Key: key,
			Claims: tokentest.With(p.Good(), claims{"client_id": "chat"}, change),
		}.String()
	}
	for _, c := range []struct {
		name   string
		typ    any
		change claims
		want   policy.Outcome
	}{
		{"at+jwt", "at+jwt", nil, policy.Allow},
		{"in_capitals", "AT+JWT", nil, policy.Allow},
		{"with_application", "application/at+jwt", nil, policy.Allow},
		{"JWT", "JWT", nil, policy.Unauthenticated},
		{"no_typ", nil, nil, policy.Unauthenticated},
		{"a_parameter", "at+jwt;v=1", nil, policy.Unauthenticated},
		{"application_twice", "application/application/at+jwt", nil, policy.Unauthenticated},
		{"our_other_audience", "at+jwt", claims{"aud": "https://api.test/"}, policy.Allow},
		{"both_of_ours_and_another", "at+jwt", claims{"aud": []string{"x", "https://api.test/", "api"}}, policy.Allow},
		{"our_audiences_joined", "at+jwt", claims{"aud": "api https://api.test/"}, policy.Unauthenticated},
		{"only_others", "at+jwt", claims{"aud": []string{"x", "y"}}, policy.Unauthenticated},
		{"another_client", "at+jwt", claims{"client_id": "evil"}, policy.Unauthenticated},
		{"no_client", "at+jwt", claims{"client_id": nil}, policy.Unauthenticated},
	} {
		t.Run(c.name, func(t *testing.T) { expect(t, j, bearer(mint(c.typ, c.change)), c.want) })
	}
}

// Permissions come from wherever a provider writes them, by an expression.
func TestPermissionsByExpression(t *testing.T) {
	keycloak := claims{"realm_access": claims{"roles": []string{"operator"}}, "resource_access": claims{"agents": claims{"roles": []string{"reader", "writer"}}, "other": claims{"roles": []string{"admin"}}}}
	const nested = `claims.?realm_access.?roles.orValue([]) + claims.?resource_access[?"agents"].?roles.orValue([])`
	const either = `claims.?scp.orValue("").split(" ").filter(s, s != "") + claims.?roles.orValue([])`
	for _, c := range []struct {
		name, expression string
		claims           claims
		want             []string // nil: refused
	}{
		{"Keycloaks_nested_roles", nested, keycloak, []string{"operator", "reader", "writer"}},
		{"Keycloaks_roles_of_another_client", nested, claims{"resource_access": claims{"other": claims{"roles": []string{"admin"}}}}, []string{}},
		{"nested_roles_that_are_text", nested, claims{"realm_access": claims{"roles": "operator"}}, nil},
		{"nested_roles_that_are_numbers", nested, claims{"realm_access": claims{"roles": []int{1}}}, nil},
		{"scp_of_a_user", either, claims{"scp": "a b"}, []string{"a", "b"}},
		{"roles_of_an_application", either, claims{"roles": []string{"c"}}, []string{"c"}},
		{"both", either, claims{"scp": "a", "roles": []string{"c"}}, []string{"a", "c"}},
		{"neither", either, nil, []string{}},
		{"roles_as_an_object", either, claims{"roles": claims{"c": true}}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := policy.NewMapping(policy.MappingSource{Permissions: policy.Text{Text: c.expression}})
			if err != nil {
				t.Fatal(err)
			}
			p := tokentest.New(issuer, keyOf("ES256", 1))
			j := inline(t, p, func(config *Config) { config.Identity = m })
			id, err := j.Verify(t.Context(), bearer(p.Mint(c.claims)))
			switch got := outcome(id, err); {
			case c.want == nil && got != policy.Unauthenticated:
				t.Errorf("got %v (%v), want a refusal", got, err)
			case c.want != nil && (got != policy.Allow || !slices.Equal(id.Permissions, c.want)):
				t.Errorf("got %v, %v (%v), want %v", got, id, err, c.want)
			}
		})
	}
}
