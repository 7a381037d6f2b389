package manifest_test

import (
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// TestEvery_piece_of_docs_policies_loads joins each block of YAML to a policy for LangGraph, unless it names its own routes.
func TestEvery_piece_of_docs_policies_loads(t *testing.T) {
	text, err := os.ReadFile("../../docs/policies.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(text), "```yaml\n")[1:]
	if len(blocks) < 9 {
		t.Errorf("%d blocks", len(blocks))
	}
	for _, block := range blocks {
		piece, _, _ := strings.Cut(block, "```")
		spec := "  hosts: [agents.example.com]\n  providers: [idp]\n  backend: {url: \"http://langgraph:8000\"}\n"
		if !strings.Contains(piece, "api:") {
			spec += "  api: {preset: langgraph}\n"
		}
		compiled, problems := load([]txtar.File{{Name: "policy.yaml", Data: []byte(`apiVersion: usher.dev/v1alpha1
kind: IdentityProvider
metadata: {name: idp}
spec: {issuer: "https://auth.example.com", audiences: [langgraph]}
---
apiVersion: usher.dev/v1alpha1
kind: AuthPolicy
metadata: {name: agents}
spec:
` + spec + "  " + strings.ReplaceAll(piece, "\n", "\n  "))}})
		if len(problems) > 0 {
			t.Errorf("%s\n%v", piece, problems)
		} else if w := compiled.Snapshot.Warnings(); len(w) > 0 {
			t.Errorf("%s\n%v", piece, w)
		}
	}
}
