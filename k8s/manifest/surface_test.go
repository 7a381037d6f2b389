package manifest_test

import (
	"os"
	"strings"
	"testing"

	"github.com/usher-authz/usher/k8s/manifest"
)

// TestThe_docs_pieces_of_a_policy_load joins each piece of YAML in docs/tokens.md and docs/mcp-login.md to a policy.
func TestThe_docs_pieces_of_a_policy_load(t *testing.T) {
	for file, want := range map[string]int{"tokens.md": 2, "mcp-login.md": 1, "langgraph.md": 1} {
		text, err := os.ReadFile("../../docs/" + file)
		if err != nil {
			t.Fatal(err)
		}
		parts := strings.Split(string(text), "```yaml\n")[1:]
		if len(parts) != want {
			t.Errorf("%s: %d pieces, want %d", file, len(parts), want)
		}
		for _, part := range parts {
			piece, _, _ := strings.Cut(part, "```")
			if !strings.Contains(piece, "api:\n") {
				piece = "api: {preset: langgraph}\n" + piece
			}
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
  anonymous: Allow
  `+strings.ReplaceAll(piece, "\n", "\n  ")))
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			compiled, problems := manifest.Compile(objects, presets())
			if compiled == nil {
				t.Fatal(problems)
			}
			p := compiled.Snapshot.Match("agents.example.com", "")
			if p.Anonymous() == nil {
				t.Error("anonymous is lost")
			}
			if from := p.TokenFrom; file == "tokens.md" && from.Header != "x-access-token" && (from.Cookie != "__Host-token" || len(from.Origins) != 1) {
				t.Errorf("got %+v of\n%s", from, piece)
			}
		}
	}
}
