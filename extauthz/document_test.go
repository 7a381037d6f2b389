package extauthz

import (
	"strings"
	"testing"

	"github.com/usher-authz/usher/policy"
)

// withDocument is a server whose one policy serves a document and names it in challenges.
func withDocument(t *testing.T) *Server {
	t.Helper()
	text := func(s string) policy.Text { return policy.Text{Text: s} }
	snapshot, err := policy.New(policy.Set{Policies: []policy.Source{{
		Name: "api", Hosts: []policy.Text{text("api.test")}, Providers: []string{"p"},
		ResourceURL: "https://api.test/.well-known/oauth-protected-resource",
		Document:    &policy.Document{Path: "/.well-known/oauth-protected-resource", Body: `{"resource":"https://api.test"}`},
		API:         policy.APISource{Routes: []policy.RouteSource{{Method: text("GET"), Path: text("/v1/items/{id}"), On: text("items:read")}}},
	}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, m, _ := newServer(t)
	state := s.state.Load()
	next := *testStateFor(t, m.jwks(t))
	next.Policies, next.Verifiers = snapshot, state.Verifiers
	if err := next.prepare(); err != nil {
		t.Fatal(err)
	}
	s.Swap(&next)
	return s
}

func TestThe_metadata_of_the_resource_is_answered_to_whoever_asks(t *testing.T) {
	s := withDocument(t)
	for _, path := range []string{"/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource?x=1"} {
		c := check("")
		c.Attributes.Request.Http.Path = path
		r := do(t, s, c)
		denied := r.GetDeniedResponse()
		if statusOf(r) != 200 || r.GetOkResponse() != nil || r.GetStatus().GetCode() == 0 {
			t.Fatalf("%s: got %v, want an answer of Usher's own, which never goes on to the backend", path, r)
		}
		if denied.GetBody() != `{"resource":"https://api.test"}` {
			t.Errorf("%s: body %s", path, denied.GetBody())
		}
		for name, want := range map[string]string{
			"content-type": "application/json", "cache-control": "public, max-age=300", "access-control-allow-origin": "*", "www-authenticate": "",
		} {
			if got := headerOf(denied.GetHeaders(), name); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
	}
}

func TestNothing_beside_the_metadata_is_open(t *testing.T) {
	s := withDocument(t)
	for name, change := range map[string][2]string{
		"another method":     {"POST", "/.well-known/oauth-protected-resource"},
		"a path below":       {"GET", "/.well-known/oauth-protected-resource/v1"},
		"an escaped segment": {"GET", "/.well-known/oauth-protected-resource%2f"},
		"the API":            {"GET", "/v1/items/1"},
		"a dot segment":      {"GET", "/.well-known/oauth-protected-resource/../../v1/items/1"},
	} {
		t.Run(name, func(t *testing.T) {
			c := check("")
			c.Attributes.Request.Http.HeaderMap.Headers = nil
			c.Attributes.Request.Http.Method, c.Attributes.Request.Http.Path = change[0], change[1]
			r := do(t, s, c)
			if got := statusOf(r); got != 401 && got != 400 {
				t.Fatalf("got %v", r)
			} else if got == 401 {
				challenge := headerOf(r.GetDeniedResponse().GetHeaders(), "www-authenticate")
				if !strings.Contains(challenge, `resource_metadata="https://api.test/.well-known/oauth-protected-resource"`) {
					t.Errorf("the challenge %q does not say where the metadata is", challenge)
				}
			}
		})
	}
}
