package extauthz

import (
	"context"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/policy"
)

// seen is a verifier that keeps what it was shown.
type seen struct{ last token.Credential }

func (s *seen) Verify(_ context.Context, c token.Credential) (*policy.Identity, error) {
	s.last = c
	return &policy.Identity{Name: "alice", Permissions: []string{"items:read"}}, nil
}

func TestA_proof_is_for_the_URL_that_the_client_sees(t *testing.T) {
	for name, c := range map[string]struct{ public, want string }{
		"as Envoy sees it":      {"", "https://api.test/v1/items/42"},
		"another scheme":        {"http://localhost:8080", "http://localhost:8080/v1/items/42"},
		"behind a path prefix":  {"https://example.com/api", "https://example.com/api/v1/items/42"},
		"the client's own host": {"https://api.example.com", "https://api.example.com/v1/items/42"},
	} {
		t.Run(name, func(t *testing.T) {
			s, _, _ := newServer(t)
			state, v := s.state.Load(), &seen{}
			for _, p := range state.Policies.Policies() {
				p.PublicURL = c.public
			}
			state.Verifiers["p"] = v
			if err := state.prepare(); err != nil {
				t.Fatal(err)
			}
			r := check("abc")
			list := r.Attributes.Request.Http.HeaderMap
			list.Headers = append(list.Headers, &corev3.HeaderValue{Key: "dpop", RawValue: []byte("proof")})
			if got := statusOf(do(t, s, r)); got != 200 || v.last.URL != c.want {
				t.Errorf("%d, the proof must be for %q, want %q", got, v.last.URL, c.want)
			}
		})
	}
}
