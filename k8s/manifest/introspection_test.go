package manifest_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/usher-authz/usher/extauthz/token"
)

// TestTheDocumentedIntrospectionLoads joins the piece of docs/introspection.md to a provider and a key.
func TestTheDocumentedIntrospectionLoads(t *testing.T) {
	text, err := os.ReadFile("../../docs/introspection.md")
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(text), "```yaml\n")
	if len(parts) != 2 {
		t.Fatalf("%d pieces, want 1", len(parts)-1)
	}
	piece, _, _ := strings.Cut(parts[1], "```")
	key, err := json.Marshal(string(pemKey(t)))
	if err != nil {
		t.Fatal(err)
	}
	compiled, problems := load([]txtar.File{{Name: "a.yaml", Data: []byte(`
apiVersion: usher.dev/v1alpha1
kind: IdentityProvider
metadata: {name: a}
spec:
  issuer: https://auth.example.com
  audiences: [a]
  ` + strings.ReplaceAll(piece, "\n", "\n  ") + `
---
apiVersion: v1
kind: Secret
metadata: {name: usher-client}
stringData: {privateKey: ` + string(key) + `}
`)}})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if _, err := token.New(compiled.Providers["a"]); err != nil {
		t.Error(err)
	}
}
