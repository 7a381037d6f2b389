package manifest_test

import (
	"encoding/pem"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"
)

// TestTheDocumentedRevocationListLoads: the manifests of docs/revocation.md, with the Secret that they speak of.
func TestTheDocumentedRevocationListLoads(t *testing.T) {
	page, err := os.ReadFile("../../docs/revocation.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := yamlBlock.FindAllSubmatch(page, -1)
	if len(blocks) != 1 {
		t.Fatalf("%d manifests, want 1", len(blocks))
	}
	server := httptest.NewTLSServer(nil) // for its certificate
	defer server.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	secret := "apiVersion: v1\nkind: Secret\nmetadata: {name: redis}\nstringData:\n  password: hunter2\n  ca.crt: |\n    " +
		strings.ReplaceAll(string(ca), "\n", "\n    ") + "\n"
	compiled, problems := load([]txtar.File{{Name: "a.yaml", Data: blocks[0][1]}, {Name: "secret.yaml", Data: []byte(secret)}})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	r := compiled.Providers["keycloak"].Revocation
	if r == nil || r.URL != "rediss://redis.agents.svc:6379/0" || r.Username != "usher" || r.Password != "hunter2" || len(r.CA) == 0 ||
		!slices.Equal(r.LogoutClients, []string{"chat"}) || r.TokenLifetime != 24*time.Hour {
		t.Errorf("got %+v", r)
	}
	if p := compiled.Snapshot.Match("agents.example.com", ""); p == nil || !p.RevocationMayLag {
		t.Errorf("the policy is %+v, and must go on without the list", p)
	}
}
