package manifest_test

import (
	"os"
	"strings"
	"testing"

	"github.com/usher-authz/usher/k8s/manifest"
)

// TestThe_policy_of_docs_apis_loads joins each whole manifest in docs/apis.md with a provider.
func TestThe_policy_of_docs_apis_loads(t *testing.T) {
	text, err := os.ReadFile("../../docs/apis.md")
	if err != nil {
		t.Fatal(err)
	}
	loaded := 0
	for _, part := range strings.Split(string(text), "```yaml\n")[1:] {
		piece, _, _ := strings.Cut(part, "```")
		if !strings.HasPrefix(piece, "apiVersion:") {
			continue
		}
		loaded++
		objects, problems := manifest.Parse("apis.md", []byte(piece+`---
apiVersion: usher.dev/v1alpha1
kind: IdentityProvider
metadata: {name: keycloak}
spec: {issuer: "https://auth.example.com/realms/a", audiences: [orders]}
`))
		compiled, more := manifest.Compile(objects, presets())
		if problems = append(problems, more...); len(problems) > 0 || len(compiled.Snapshot.Warnings()) > 0 {
			t.Errorf("%v", problems)
		}
	}
	if loaded == 0 {
		t.Error("no manifest in docs/apis.md")
	}
}
