package extauthz

import (
	"slices"
	"strings"
	"testing"

	"github.com/usher-authz/usher/policy"
)

func TestAnonymous(t *testing.T) {
	for _, c := range []struct {
		name, allow string
		headers     [][2]string
		want        int
	}{
		{"a_rule_that_asks_for_nobody", "!user.isAuthenticated", nil, 200},
		{"a_rule_that_asks_for_somebody", "user.isAuthenticated", nil, 401},
		{"a_name_equals_nothing", "user.identity == ''", nil, 401},
		{"a_name_differs_from_nothing", "user.identity != 'alice'", nil, 401},
		{"there_is_no_name", "has(user.identity)", nil, 401},
		{"there_is_no_display_name", "user.displayName == ''", nil, 401},
		{"there_are_no_claims", "size(user.claims) == 0 && size(user.permissions) == 0", nil, 200},
		{"a_scope_is_lacking", "'items:read' in user.permissions", nil, 401},
		{"a_bad_token", "true", [][2]string{{"authorization", "Bearer x.y.z"}}, 401},
		{"a_malformed_header", "true", [][2]string{{"authorization", "Bearer"}}, 401},
		{"an_empty_header", "true", [][2]string{{"authorization", ""}}, 401},
		{"another_scheme", "true", [][2]string{{"authorization", "Basic YTpi"}}, 401},
		{"two_headers", "true", [][2]string{{"authorization", "Bearer x"}, {"authorization", "Bearer x"}}, 401},
		{"a_proof_without_a_token", "true", [][2]string{{"dpop", "x.y.z"}}, 401},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, _ := serverFor(t, func(p *policy.Source) {
				p.Anonymous = true
				p.Rules[0].Allow = &policy.Text{Text: c.allow}
			})
			r := do(t, s, ask("GET", "/items", false, c.headers...))
			if statusOf(r) != c.want {
				t.Fatalf("status %d, want %d: %v", statusOf(r), c.want, r)
			}
			if ok := r.GetOkResponse(); ok != nil && (headerOf(ok.GetHeaders(), "x-user") != "" || !slices.Contains(ok.GetHeadersToRemove(), "x-user")) {
				t.Errorf("the backend gets a client's own x-user: %v", ok)
			}
			if c.want == 401 && !strings.HasPrefix(headerOf(r.GetDeniedResponse().GetHeaders(), "www-authenticate"), "Bearer") {
				t.Errorf("no challenge: %v", r)
			}
		})
	}
	t.Run("somebody_is_somebody", func(t *testing.T) {
		s, m := serverFor(t, func(p *policy.Source) {
			p.Anonymous = true
			p.Rules[0].Allow = &policy.Text{Text: "user.isAuthenticated && has(user.identity)"}
		})
		r := do(t, s, ask("GET", "/items", false, [2]string{"authorization", "Bearer " + m.mint(t, nil)}))
		if statusOf(r) != 200 || headerOf(r.GetOkResponse().GetHeaders(), "x-user") == "" {
			t.Error(r)
		}
	})
	t.Run("not_where_the_policy_does_not_say_so", func(t *testing.T) {
		s, _ := serverFor(t, func(*policy.Source) {})
		if r := do(t, s, ask("GET", "/items", false)); statusOf(r) != 401 {
			t.Error(r)
		}
	})
	t.Run("no_cookie", func(t *testing.T) {
		s, _ := serverFor(t, func(p *policy.Source) {
			p.Anonymous, p.TokenFrom = true, policy.TokenFrom{Cookie: "t", Origins: []string{"https://chat.example.com"}}
		})
		for cookie, want := range map[string]int{"a=1": 200, "t=": 401, "t=x": 401, "T=x": 401} {
			if r := do(t, s, ask("GET", "/items", false, [2]string{"cookie", cookie})); statusOf(r) != want {
				t.Errorf("%s: status %d, want %d", cookie, statusOf(r), want)
			}
		}
	})
}
