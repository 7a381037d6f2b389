package manifest_test

import (
	"testing"

	"github.com/usher-authz/usher/k8s/manifest"
)

// TestProtectedResource checks the place and the text of the document (RFC 9728, sections 2 and 3.1).
func TestProtectedResource(t *testing.T) {
	for _, c := range []struct{ name, resource, path, url string }{
		{"a_host", "https://agents.example.com", "/.well-known/oauth-protected-resource", "https://agents.example.com/.well-known/oauth-protected-resource"},
		{"a_slash_behind_the_host_does_not_count", "https://agents.example.com/", "/.well-known/oauth-protected-resource", "https://agents.example.com/.well-known/oauth-protected-resource"},
		{"a_path_is_inserted", "https://agents.example.com/mcp", "/.well-known/oauth-protected-resource/mcp", "https://agents.example.com/.well-known/oauth-protected-resource/mcp"},
		{"a_slash_behind_a_path_counts", "https://agents.example.com/mcp/", "/.well-known/oauth-protected-resource/mcp/", "https://agents.example.com/.well-known/oauth-protected-resource/mcp/"},
	} {
		t.Run(c.name, func(t *testing.T) {
			objects, problems := manifest.Parse("a.yaml", []byte(`
apiVersion: usher.dev/v1alpha1
kind: IdentityProvider
metadata: {name: keycloak}
spec: {issuer: "https://auth.example.com/realms/a", audiences: [langgraph]}
---
apiVersion: usher.dev/v1alpha1
kind: AuthPolicy
metadata: {name: agents}
spec:
  hosts: [agents.example.com]
  providers: [keycloak]
  api: {preset: langgraph}
  protectedResource: {resource: "`+c.resource+`", scopes: ["threads:read"], name: Agents, documentation: "https://docs.example.com"}
`))
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			compiled, problems := manifest.Compile(objects, presets())
			if compiled == nil {
				t.Fatal(problems)
			}
			p := compiled.Snapshot.Match("agents.example.com", "")
			if p.ResourceURL != c.url {
				t.Errorf("challenges name %s, want %s", p.ResourceURL, c.url)
			}
			want := `{"resource":"` + c.resource + `","authorization_servers":["https://auth.example.com/realms/a"],"scopes_supported":["threads:read"],` +
				`"bearer_methods_supported":["header"],"resource_name":"Agents","resource_documentation":"https://docs.example.com",` +
				`"dpop_signing_alg_values_supported":["ES256","ES384","ES512","EdDSA","PS256","PS384","PS512","RS256","RS384","RS512"]}`
			for _, method := range []string{"GET", "HEAD"} {
				if got, ok := p.Document(method, c.path); !ok || got != want {
					t.Errorf("%s: got %v %s, want %s", method, ok, got, want)
				}
			}
			for _, other := range [][2]string{{"POST", c.path}, {"GET", c.path + "/x"}, {"GET", "/"}, {"GET", ""}} {
				if _, ok := p.Document(other[0], other[1]); ok {
					t.Errorf("%v is the document too", other)
				}
			}
		})
	}
}
