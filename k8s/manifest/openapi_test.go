package manifest_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/usher-authz/usher/k8s/manifest"
	"github.com/usher-authz/usher/policy"
)

// TestAn_OpenAPI_document_gives_the_routes_that_it_describes reads testdata/openapi.txtar.
func TestAn_OpenAPI_document_gives_the_routes_that_it_describes(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/openapi.txtar")
	if err != nil {
		t.Fatal(err)
	}
	files := slices.DeleteFunc(archive.Files, func(f txtar.File) bool { return f.Name == "want" })
	compiled, problems := load(files)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for _, c := range []struct{ host, method, path, want string }{
		{"shop", "GET", "/v1/healthz", "public GET /v1/healthz"},
		{"shop", "GET", "/healthz", "no route"},
		{"shop", "GET", "/ready", "public GET /ready"},
		{"shop", "GET", "/v1/orders", "GET /v1/orders: orders:list"},
		{"shop", "POST", "/v1/orders", "POST /v1/orders: orders:create stamps [labels]"},
		{"shop", "GET", "/v1/orders/7", "GET /v1/orders/{order_id}: orders:read of /v1/orders/7"},
		{"shop", "HEAD", "/v1/orders/7", "GET /v1/orders/{order_id}: orders:read of /v1/orders/7"},
		{"shop", "PATCH", "/v1/orders/7", "PATCH /v1/orders/{order_id}: orders:update of /v1/orders/7 stamps [labels]"},
		{"shop", "OPTIONS", "/v1/orders/7", "public OPTIONS /v1/orders/{order_id}"},
		{"shop", "DELETE", "/v1/orders/7", "no route"},
		{"shop", "GET", "/v1/x-note", "no route"},
		{"tiny", "GET", "/x/", "public GET /x/"},
		{"tiny", "GET", "/", "no route"},
		{"block", "GET", "/block/a", "public GET /block/a"},
		{"string", "GET", "/b", "public GET /b"},
	} {
		p := compiled.Snapshot.Match(c.host+".example.com", "")
		if got := describeRoute(t, p, c.method, c.path); got != c.want {
			t.Errorf("%s %s %s: got %s, want %s", c.host, c.method, c.path, got, c.want)
		}
	}
}

func describeRoute(t *testing.T, p *policy.Policy, method, path string) string {
	t.Helper()
	route, err := p.Route(method, path)
	switch {
	case err != nil:
		return "no route"
	case route.Public:
		return "public " + route.Pattern
	}
	ops, err := route.Operations("", []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	out := fmt.Sprintf("%s: %s:%s", route.Pattern, ops[0].Resource, ops[0].Action)
	if ops[0].Object.Path != "" {
		out += " of " + ops[0].Object.Path
	}
	if ops[0].Stamps {
		out += fmt.Sprintf(" stamps %v", ops[0].Metadata)
	}
	return out
}

// TestSecurity_of_a_document_opens_nothing: many documents leave it out or say [], as the service has no auth code.
func TestSecurity_of_a_document_opens_nothing(t *testing.T) {
	compiled, problems := load([]txtar.File{{Name: "a.yaml", Data: []byte(`openapi: 3.0.0
security: []
paths: {/a: {get: {operationId: a.read, security: []}}}
`)}, {Name: "b.yaml", Data: []byte(`apiVersion: usher.dev/v1alpha1
kind: IdentityProvider
metadata: {name: p}
spec: {issuer: "https://auth.example.com", audiences: [a]}
---
apiVersion: usher.dev/v1alpha1
kind: AuthPolicy
metadata: {name: a}
spec: {hosts: ["*"], providers: [p], api: {openapi: {file: a.yaml}}, rules: [{on: "*"}]}
`)}})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if route, err := compiled.Snapshot.Match("a", "").Route(http.MethodGet, "/a"); err != nil || route.Public {
		t.Errorf("public %v, %v", route.Public, err)
	}
}

// FuzzOpenAPI: no document makes the reader panic, every problem has a place, and what it makes of a document compiles or is a
// problem.
func FuzzOpenAPI(f *testing.F) {
	for _, name := range []string{"openapi", "openapi_problems", "openapi_references"} {
		archive, err := txtar.ParseFile("testdata/" + name + ".txtar")
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range archive.Files {
			if file.Name != "manifests.yaml" && file.Name != "want" {
				f.Add(string(file.Data))
			}
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		objects, problems := manifest.Parse("a.yaml", []byte(text))
		for _, name := range []string{"file: a.yaml", "configMapRef: {name: m}"} {
			object := "apiVersion: usher.dev/v1alpha1\nkind: AuthPolicy\nmetadata: {name: a}\nspec: {hosts: [\"*\"], providers: [], api: {openapi: {" + name + "}}}\n---\n" +
				"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata:\n  openapi.yaml: |2\n    " + strings.ReplaceAll(text, "\n", "\n    ")
			more, ps := manifest.Parse("b.yaml", []byte(object))
			compiled, last := manifest.Compile(append(slices.Clone(objects), more...), presets())
			if all := slices.Concat(problems, ps, last); compiled == nil && len(all) == 0 {
				t.Fatalf("neither compiled nor a problem: %q", text)
			} else if len(ps) == 0 {
				for _, p := range all {
					if p.Pos.File == "" || p.Pos.Line == 0 && !strings.Contains(p.Found, "bytes") {
						t.Fatalf("%q: no place: %s", text, p.Error())
					}
				}
			}
		}
	})
}
