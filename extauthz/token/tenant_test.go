package token

import (
	"strings"
	"testing"

	"github.com/usher-authz/usher/extauthz/token/tokentest"
	"github.com/usher-authz/usher/policy"
)

// TestAKeyOfOneTenantSignsForNoOther: a JWK set for all tenants has keys of which each says whose tokens it may sign, as
// Microsoft documents: https://learn.microsoft.com/en-us/entra/identity-platform/access-tokens#validate-the-issuer
func TestAKeyOfOneTenantSignsForNoOther(t *testing.T) {
	const template = "https://login.example/{tenantid}/v2.0"
	of := func(tenant string) string { return strings.ReplaceAll(template, tenantMark, tenant) }
	keys := map[string]any{ // by kid; the value is its member issuer
		"any": template, "a": of("a"), "b": of("b"), "silent": nil, "number": 7, "list": []any{of("a")}, "elsewhere": "https://evil.example/{tenantid}/v2.0",
		"group": of("common"), "empty": "", "two": "https://login.example/{tenantid}/{tenantid}/v2.0",
	}
	p := tokentest.New("https://login.example")
	signers := map[string]*tokentest.Key{}
	for kid, issuer := range keys {
		k := keyOf("ES256", 100+len(signers))
		signers[kid] = &tokentest.Key{ID: kid, Alg: k.Alg, Private: k.Private}
		p.PublishRaw(tokentest.With(signers[kid].JWK(), claims{"issuer": issuer}))
	}
	tenants := inline(t, p, func(c *Config) { c.Issuer, c.Tenants = template, []string{"a", "b"} })
	one := inline(t, p, func(c *Config) { c.Issuer = of("a") })
	for _, c := range []struct {
		kid, iss, tid string
		tenants, one  bool
	}{
		{"any", of("a"), "a", true, true},
		{"any", of("b"), "b", true, false},
		{"any", of("c"), "c", false, false},
		{"any", of("a"), "b", false, false},
		{"any", of("a"), "", false, true},
		{"a", of("a"), "a", true, true},
		{"a", of("b"), "b", false, false}, // the key of tenant a signs for tenant b
		{"a", of("b"), "a", false, false},
		{"a", of("a"), "b", false, true}, // iss alone counts for an issuer without tenants
		{"b", of("b"), "b", true, false},
		{"b", of("a"), "a", false, false},
		{"b", of("a"), "", false, false},
		{"silent", of("a"), "a", true, true},
		{"empty", of("a"), "a", true, true},
		{"number", of("a"), "a", false, false},
		{"list", of("a"), "a", false, false},
		{"elsewhere", of("a"), "a", false, false},
		{"group", of("a"), "a", false, false},
		{"two", of("a"), "a", false, false},
	} {
		tok := tokentest.Token{Header: claims{"alg": "ES256", "kid": c.kid}, Claims: p.Good(claims{"iss": c.iss, "tid": c.tid}), Key: signers[c.kid]}
		if c.tid == "" {
			delete(tok.Claims, "tid")
		}
		for name, v := range map[string]struct {
			*JWT
			want bool
		}{"tenants": {tenants, c.tenants}, "one": {one, c.one}} {
			got := verify(v.JWT, bearer(tok.String()))
			if (got == policy.Allow) != v.want || got != policy.Allow && got != policy.Unauthenticated {
				t.Errorf("%s: key %q, iss %q, tid %q: %v, want %v", name, c.kid, c.iss, c.tid, got, v.want)
			}
			// Without a kid every key that fits is tried, and the same ones count.
			delete(tok.Header, "kid")
			if verify(v.JWT, bearer(tok.String())) == policy.Allow && !v.want {
				t.Errorf("%s: key %q, iss %q, tid %q, without kid: accepted", name, c.kid, c.iss, c.tid)
			}
			tok.Header["kid"] = c.kid
		}
	}
}
