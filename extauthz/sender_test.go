package extauthz

import (
	"context"
	"strings"
	"testing"

	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/policy"
)

// says is a verifier that answers always the same.
type says struct {
	err  error
	next string
}

func (s says) Verify(_ context.Context, c token.Credential) (*policy.Identity, error) {
	if c.NextNonce != nil {
		*c.NextNonce = s.next
	}
	if s.err != nil {
		return nil, s.err
	}
	return &policy.Identity{Name: "alice"}, nil
}

func saying(t *testing.T, v says, change func(*policy.Source)) *Server {
	t.Helper()
	s, _ := serverFor(t, change)
	state := s.state.Load()
	state.Verifiers["p"] = v
	if err := state.prepare(); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestA_challenge_is_of_the_scheme_that_was_used(t *testing.T) {
	bad := &policy.Refusal{Outcome: policy.Unauthenticated, Challenge: `error="invalid_token"`}
	scope := func(p *policy.Source) { p.Rules[0].Require = []string{"items:write"} }
	login := func(p *policy.Source) { p.Rules[0].Login = policy.Login{ACRValues: []string{"gold"}} }
	metadata := func(p *policy.Source) { p.ResourceURL = "https://api.test/m" }
	both := ", DPoP " + token.ProofAlgs
	for _, c := range []struct {
		name, authorization string
		err                 error
		change              func(*policy.Source)
		status              int
		want                string
	}{
		{"nothing shown", "", nil, nil, 401, "Bearer" + both},
		{"nothing shown, with metadata", "", nil, metadata, 401, `Bearer resource_metadata="https://api.test/m"` + both},
		{"another scheme", "Basic YTpi", nil, nil, 401, "Bearer" + both},
		{"a bad bearer token", "Bearer x", bad, nil, 401, `Bearer error="invalid_token"` + both},
		{"a bad token with DPoP", "DPoP x", bad, nil, 401, `DPoP error="invalid_token", ` + token.ProofAlgs},
		{"a bad token with DPoP in another case", "dPOP x", bad, nil, 401, `DPoP error="invalid_token", ` + token.ProofAlgs},
		{"a bad token with DPoP, with metadata", "DPoP x", bad, metadata, 401, `DPoP error="invalid_token", ` + token.ProofAlgs + `, resource_metadata="https://api.test/m"`},
		{"a scope missing", "Bearer x", nil, scope, 403, `Bearer error="insufficient_scope", scope="items:write"`},
		{"a scope missing with DPoP", "DPoP x", nil, scope, 403, `DPoP error="insufficient_scope", scope="items:write", ` + token.ProofAlgs},
		{"another login with DPoP", "DPoP x", nil, login, 401, `DPoP error="insufficient_user_authentication", error_description="Another login is needed.", acr_values="gold", ` + token.ProofAlgs},
		{"a token that is elsewhere", "", nil, func(p *policy.Source) { p.TokenFrom.Header = "x-token" }, 401, "Bearer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.change == nil {
				c.change = func(*policy.Source) {}
			}
			var headers [][2]string
			if c.authorization != "" {
				headers = append(headers, [2]string{"authorization", c.authorization})
			}
			r := do(t, saying(t, says{err: c.err}, c.change), ask("GET", "/items", false, headers...))
			if got := headerOf(r.GetDeniedResponse().GetHeaders(), "www-authenticate"); statusOf(r) != c.status || got != c.want {
				t.Errorf("%d %s\nwant %d %s", statusOf(r), got, c.status, c.want)
			}
		})
	}
}

func TestTheNextNonceComesWithWhateverAnswer(t *testing.T) {
	authorization := func(scheme string) [2]string { return [2]string{"authorization", scheme + " x"} }
	open, shut := func(*policy.Source) {}, func(p *policy.Source) { p.Rules[0].Allow = &policy.Text{Text: "false"} }
	t.Run("a good one", func(t *testing.T) {
		r := do(t, saying(t, says{next: "n2"}, open), ask("GET", "/items", false, authorization("DPoP")))
		got := r.GetOkResponse().GetResponseHeadersToAdd()
		if statusOf(r) != 200 || headerOf(got, "dpop-nonce") != "n2" || headerOf(got, "cache-control") != "no-store" {
			t.Error(r)
		}
		for _, h := range r.GetOkResponse().GetHeaders() {
			if strings.EqualFold(h.GetHeader().GetKey(), "dpop-nonce") {
				t.Error("the backend gets it")
			}
		}
	})
	t.Run("a denial", func(t *testing.T) {
		r := do(t, saying(t, says{next: "n2"}, shut), ask("GET", "/items", false, authorization("DPoP")))
		if got := r.GetDeniedResponse().GetHeaders(); statusOf(r) != 403 || headerOf(got, "dpop-nonce") != "n2" || headerOf(got, "cache-control") != "no-store" {
			t.Error(r)
		}
	})
	t.Run("a route that is not there", func(t *testing.T) {
		r := do(t, saying(t, says{next: "n2"}, open), ask("GET", "/nothing", false, authorization("DPoP")))
		if got := r.GetDeniedResponse().GetHeaders(); statusOf(r) != 404 || headerOf(got, "dpop-nonce") != "n2" {
			t.Error(r)
		}
	})
	t.Run("not without one", func(t *testing.T) {
		r := do(t, saying(t, says{}, open), ask("GET", "/items", false, authorization("DPoP")))
		if got := r.GetOkResponse().GetResponseHeadersToAdd(); statusOf(r) != 200 || len(got) > 0 {
			t.Error(r)
		}
	})
	t.Run("not to a bearer token", func(t *testing.T) {
		r := do(t, saying(t, says{next: "n2"}, open), ask("GET", "/items", false, authorization("Bearer")))
		if got := r.GetOkResponse().GetResponseHeadersToAdd(); statusOf(r) != 200 || len(got) > 0 {
			t.Error(r)
		}
	})
}
