package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// A misspelt field is no field that is left out. Sent by whoever does not ask the API server for strict validation, it is stored
// as it is; Usher names it, and opens nothing.
func TestAMisspeltFieldIsSeen(t *testing.T) {
	ns := namespace(t, "misspelt")
	p := newProvider(t)
	u := startUsher(t, ns, admin(t))
	kubectl(t, p.manifest(ns, "idp", ""), "apply", "-f", "-")
	for _, c := range []struct{ name, from, to, want string }{
		{"of-a-rule", "message: m", "fillter: {owner: user.identity}", `spec.rules[0].fillter: found unknown field "fillter" (did you mean "filter"?)`},
		{"in-capitals", "message: m", "Filter: {owner: user.identity}", `spec.rules[0].Filter: found unknown field "Filter" (did you mean "filter"?)`},
		{"of-a-route", "path: /ok,", "path: /ok, boddy: {}, ", `spec.api.routes[1].boddy: found unknown field "boddy"`},
		{"of-the-api", "api: {routes", "api: {openApi: {}, routes", `spec.api.openApi: found unknown field "openApi"`},
		{"of-the-spec", "  rules:", "  require: {}\n  rules:", `spec.require: found unknown field "require"`},
		{"beside-the-spec", "  rules:", "rules:", `rules: found unknown field "rules"`},
		{"of-the-other-kind", "  rules:", "  audiences: [a]\n  rules:", `spec.audiences: found unknown field "audiences"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			host := c.name + ".test"
			text := replaced(t, guard(ns, c.name, host, "idp", ", message: m"), c.from, c.to)
			kubectl(t, text, "apply", "--validate=ignore", "-f", "-")
			wantCondition(t, ns, "authpolicy/"+c.name, "Accepted", "False", "Invalid", c.want)
			wantCondition(t, ns, "authpolicy/"+c.name, "Programmed", "False", "HostsClosed", "")
			u.wantStatus(t, 503, host, "GET", "/items", p.Mint())
			u.wantStatus(t, 503, host, "GET", "/ok", "")
		})
	}
	for _, c := range []struct{ name, from, to, want string }{
		{"of-a-provider", "{issuer:", "{requiredClaim: {hd: example.com}, issuer:", `spec.requiredClaim: found unknown field "requiredClaim" (did you mean "requiredClaims"?)`},
		{"beside-a-provider", "\nspec:", "\nrequiredClaims: {hd: example.com}\nspec:", `requiredClaims: found unknown field "requiredClaims"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := replaced(t, p.manifest(ns, c.name, ""), c.from, c.to)
			kubectl(t, text+guard(ns, c.name, c.name+".test", c.name, ""), "apply", "--validate=ignore", "-f", "-")
			wantCondition(t, ns, "identityprovider/"+c.name, "Accepted", "False", "Invalid", c.want)
			u.wantStatus(t, 503, c.name+".test", "GET", "/items", p.Mint())
		})
	}
}

func replaced(t *testing.T, text, from, to string) string {
	t.Helper()
	if !strings.Contains(text, from) {
		t.Fatalf("no %q in %s", from, text)
	}
	return strings.Replace(text, from, to, 1)
}

// Wherever the definitions name fields, the API server keeps others: at the top, and everywhere in spec.
func TestNothingIsPruned(t *testing.T) {
	for _, file := range []string{"usher.dev_authpolicies.yaml", "usher.dev_identityproviders.yaml"} {
		text, err := os.ReadFile(crds + "/" + file)
		if err != nil {
			t.Fatal(err)
		}
		versions, _, err := unstructured.NestedSlice(objects(t, string(text))[0].Object, "spec", "versions")
		if err != nil || len(versions) != 1 {
			t.Fatal(file, err)
		}
		root, _, err := unstructured.NestedMap(versions[0].(map[string]any), "schema", "openAPIV3Schema")
		if err != nil {
			t.Fatal(file, err)
		}
		pruned, seen := pruning("", root)
		if len(pruned) > 0 {
			t.Errorf("%s: unknown fields are pruned at %q", file, pruned)
		}
		if seen < 15 {
			t.Errorf("%s: only %d objects have been looked at", file, seen)
		}
	}
}

// pruning returns the paths at which a schema prunes what it does not name, and how many objects it has looked at.
func pruning(path string, schema map[string]any) (out []string, seen int) {
	if path == ".status" || path == ".metadata" { // of the API server, and not Usher's to read
		return nil, 0
	}
	below := func(path string, schema map[string]any) {
		more, n := pruning(path, schema)
		out, seen = append(out, more...), seen+n
	}
	properties, _ := schema["properties"].(map[string]any)
	if len(properties) > 0 {
		seen++
		if schema["x-kubernetes-preserve-unknown-fields"] != true {
			out = append(out, path)
		}
	}
	for name, p := range properties {
		below(fmt.Sprintf("%s.%s", path, name), p.(map[string]any))
	}
	for _, name := range []string{"items", "additionalProperties"} {
		if s, ok := schema[name].(map[string]any); ok {
			below(path+"[]", s)
		}
	}
	return out, seen
}
