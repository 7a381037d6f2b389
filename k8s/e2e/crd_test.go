package e2e

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/usher-authz/usher/k8s/e2e/cluster"
)

// shared is one API server for all tests, with the definitions applied.
var shared *cluster.Cluster

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "usher-k8s")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if shared, err = cluster.Start(context.Background(), dir); err != nil {
		panic(err)
	}
	defer shared.Stop()
	if _, err := shared.Kubectl(context.Background(), "", "apply", "--server-side", "-f", "../deploy/crds"); err != nil {
		panic(err)
	}
	if _, err := shared.Kubectl(context.Background(), "", "wait", "--for", "condition=Established", "--timeout", "30s", "crd/authpolicies.usher.dev", "crd/identityproviders.usher.dev"); err != nil {
		panic(err)
	}
	return m.Run()
}

// Each example's objects are taken by the API server as they stand in the file, with `on` without quotes.
func TestTheExamplesAreAccepted(t *testing.T) {
	for _, file := range []string{"../../examples/langgraph/policy.yaml"} {
		out, err := shared.Kubectl(t.Context(), "", "apply", "--dry-run=server", "--validate=strict", "-f", file)
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
		if !strings.Contains(out, "authpolicy") {
			t.Errorf("%s: %s", file, out)
		}
	}
}

func TestTheSchemaRefuses(t *testing.T) {
	const provider = "apiVersion: usher.dev/v1alpha1\nkind: IdentityProvider\nmetadata: {name: p}\nspec: "
	const policy = "apiVersion: usher.dev/v1alpha1\nkind: AuthPolicy\nmetadata: {name: p}\nspec: "
	for _, c := range []struct{ name, object, want string }{
		{"an_unknown_field", provider + `{issuer: "https://a.example.com", audiences: [a], jwtt: {}}`, "unknown field \"spec.jwtt\""},
		{"a_wrong_type", provider + `{issuer: 1, audiences: [a]}`, "spec.issuer"},
		{"a_rule_without_on", policy + `{providers: [p], api: {preset: langgraph}, rules: [{allow: "true"}]}`, "on is required, once"},
		{"a_rule_with_on_twice", policy + `{providers: [p], api: {preset: langgraph}, rules: [{"on": a, "true": b}]}`, "on is required, once"},
		{"another_version", strings.Replace(provider, "v1alpha1", "v1", 1) + "{}", "no matches for kind"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := shared.Kubectl(t.Context(), c.object, "apply", "--dry-run=server", "--validate=strict", "-f", "-")
			if err == nil || !strings.Contains(out, c.want) {
				t.Errorf("got %q, %v; want %q", out, err, c.want)
			}
		})
	}
}
