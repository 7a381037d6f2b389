package token

import (
	"errors"
	"testing"
	"time"

	"github.com/usher-authz/usher/policy"
)

func TestSuppose(t *testing.T) {
	mapping, err := policy.NewMapping(policy.MappingSource{Permissions: policy.Text{Text: `claims.scope.split(" ")`}})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	base := Config{
		Name: "company", Issuer: "https://auth.example.com", Audiences: []string{"langgraph"}, Identity: mapping,
		Clients: []string{"chat"}, RequiredClaims: map[string][]any{"email_verified": {true}}, MaxAge: time.Hour,
		Now: func() time.Time { return now },
	}
	tenants := base
	tenants.Issuer, tenants.Tenants = "https://login.example.com/{tenantid}/v2.0", []string{"one", "two"}
	asked := base
	asked.Introspection = &Introspection{Endpoint: "https://auth.example.com/introspect"}
	for _, c := range []struct {
		name   string
		config Config
		claims map[string]any
		want   string // the identity; empty: refused as 401
	}{
		{"what every token has is taken for granted", base, map[string]any{"sub": "alice", "scope": "a b"}, "alice"},
		{"another issuer is refused", base, map[string]any{"sub": "alice", "scope": "", "iss": "https://evil.example.com"}, ""},
		{"another audience is refused", base, map[string]any{"sub": "alice", "scope": "", "aud": "mail"}, ""},
		{"another client is refused", base, map[string]any{"sub": "alice", "scope": "", "azp": "mail"}, ""},
		{"a required claim of another value is refused", base, map[string]any{"sub": "alice", "scope": "", "email_verified": false}, ""},
		{"an expired token is refused", base, map[string]any{"sub": "alice", "scope": "", "exp": now.Add(-time.Hour).Unix()}, ""},
		{"a token that is too old is refused", base, map[string]any{"sub": "alice", "scope": "", "iat": now.Add(-2 * time.Hour).Unix()}, ""},
		{"a claim that the mapping needs is not made up", base, map[string]any{"sub": "alice"}, ""},
		{"nor is the subject", base, map[string]any{"scope": ""}, ""},
		{"no claims at all say nothing", base, nil, ""},
		{"a tenant is the first one", tenants, map[string]any{"sub": "alice", "scope": ""}, "alice"},
		{"or the one that is named", tenants, map[string]any{"sub": "alice", "scope": "", "tid": "two"}, "alice"},
		{"but no other", tenants, map[string]any{"sub": "alice", "scope": "", "tid": "three"}, ""},
		{"a binding that is not understood is refused", base, map[string]any{"sub": "alice", "scope": "", "cnf": map[string]any{"x": "y"}}, ""},
		{"an opaque token", asked, map[string]any{"sub": "alice", "scope": ""}, "alice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(c.claims)
			id, err := Suppose(c.config, c.claims)
			var refusal *policy.Refusal
			switch {
			case c.want == "" && (!errors.As(err, &refusal) || refusal.Outcome != policy.Unauthenticated):
				t.Errorf("got %v, %v; want a refusal", id, err)
			case c.want != "" && (err != nil || id.Name != c.want || id.Provider != "company"):
				t.Errorf("got %v, %v", id, err)
			}
			if len(c.claims) != before {
				t.Error("the claims were changed")
			}
		})
	}
	if _, err := Suppose(Config{}, nil); err == nil {
		t.Error("a configuration that is none was accepted")
	}
}
