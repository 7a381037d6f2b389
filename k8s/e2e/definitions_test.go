package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/usher-authz/usher/k8s/e2e/cluster"
)

const crds = "../deploy/crds"

// ownCluster is an API server of the test's own, without definitions.
func ownCluster(t *testing.T) *cluster.Cluster {
	t.Helper()
	c, err := cluster.Start(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	return c
}

// Without the definitions Usher waits, refuses all, and says what to apply, for as long as it takes; when they are deleted while
// it runs, their objects are gone, and it says the same.
func TestDefinitionsThatAreMissing(t *testing.T) {
	c := ownCluster(t)
	run := func(stdin string, args ...string) {
		t.Helper()
		if _, err := c.Kubectl(t.Context(), stdin, args...); err != nil {
			t.Fatal(err)
		}
	}
	config, err := c.Kubeconfig("admin", "")
	if err != nil {
		t.Fatal(err)
	}
	p := newProvider(t)
	u := startUsher(t, "default", config)
	ask := func(want int) { t.Helper(); u.wantStatus(t, want, "one.test", "GET", "/items", p.Mint()) }
	definitions := func() {
		t.Helper()
		run("", "apply", "--server-side", "-f", crds)
		run("", "wait", "--for", "condition=Established", "--timeout", "3m", "crd/authpolicies.usher.dev", "crd/identityproviders.usher.dev")
		eventually(t, func() error { // that they are served comes a moment later
			_, err := c.Kubectl(t.Context(), "", "get", "authpolicies.usher.dev,identityproviders.usher.dev")
			return err
		})
	}
	objects := p.manifest("default", "idp", "") + guard("default", "one", "one.test", "idp", "")
	const apply = "kubectl apply --server-side -f k8s/deploy/crds"

	const none = "the CustomResourceDefinitions of usher.dev/v1alpha1 are missing: " + apply
	u.wantReadyz(t, "503", none, `"connected": false`)
	ask(503)
	if _, err := c.Kubectl(t.Context(), objects, "apply", "-f", "-"); err == nil || !strings.Contains(err.Error(), "no matches for kind") {
		t.Errorf("objects without definitions: %v", err)
	}
	run("", "apply", "--server-side", "-f", crds+"/usher.dev_identityproviders.yaml")
	u.wantReadyz(t, "503", "the CustomResourceDefinition of AuthPolicy is missing: "+apply)
	ask(503)
	definitions()
	run(objects, "apply", "-f", "-")
	ask(200)
	u.wantReadyz(t, "200", `"connected": true`)
	if n := strings.Count(u.part.Log(), `"waiting for the API server","problem":"`+none); n != 1 {
		t.Errorf("the log says %d times that the definitions are missing", n)
	}

	run("", "delete", "crd", "authpolicies.usher.dev")
	ask(404) // nothing guards the host any more, and nothing passes
	u.wantReadyz(t, "200", "the CustomResourceDefinition of AuthPolicy is missing: "+apply, `"connected": false`)
	definitions()
	run(objects, "apply", "-f", "-")
	ask(200)

	run("", "delete", "crd", "identityproviders.usher.dev")
	ask(503) // the policy is there, and nobody who could verify a token
	u.wantReadyz(t, "200", "the CustomResourceDefinition of IdentityProvider is missing: "+apply)
	definitions()
	run(objects, "apply", "-f", "-")
	ask(200)
	u.wantReadyz(t, "200", `"connected": true`)
}

// An Usher that is newer than the definitions goes on, and knows the fields that they do not have, which the API server keeps.
// A mode that only a newer Usher knows leaves the last good version in force, and closes the hosts of a policy that has none.
func TestDefinitionsOfAnotherVersion(t *testing.T) {
	c := ownCluster(t)
	if _, err := c.Kubectl(t.Context(), "", "apply", "--server-side", "-f", crds); err != nil {
		t.Fatal(err)
	}
	const mode = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/mode/enum"
	const rules = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/rules/items/properties/message"
	for _, args := range [][]string{
		{"wait", "--for", "condition=Established", "--timeout", "3m", "crd/authpolicies.usher.dev", "crd/identityproviders.usher.dev"},
		{"patch", "crd", "authpolicies.usher.dev", "--type=json", "-p", fmt.Sprintf(`[{"op": "remove", "path": %q}, {"op": "remove", "path": %q}]`, rules, mode)},
	} {
		if _, err := c.Kubectl(t.Context(), "", args...); err != nil {
			t.Fatal(err)
		}
	}
	config, err := c.Kubeconfig("admin", "")
	if err != nil {
		t.Fatal(err)
	}
	p := newProvider(t)
	newer := guard("default", "one", "one.test", "idp", ", message: ask ada")
	canary := func(name, host string) string {
		return strings.Replace(guard("default", name, host, "idp", ""), "spec:\n", "spec:\n  mode: Canary\n", 1)
	}
	eventually(t, func() error { // until the API server has taken the changed definition
		_, err := c.Kubectl(t.Context(), canary("one", "one.test"), "apply", "--dry-run=server", "-f", "-")
		return err
	})
	u := startUsher(t, "default", config)
	apply := func(text string) {
		t.Helper()
		if _, err := c.Kubectl(t.Context(), text, "apply", "--validate=ignore", "-f", "-"); err != nil {
			t.Fatal(err)
		}
	}
	apply(p.manifest("default", "idp", "") + newer)
	u.wantStatus(t, 200, "one.test", "GET", "/items", p.Mint())
	apply(canary("one", "two.test") + canary("three", "three.test"))
	eventually(t, func() error {
		out, err := c.Kubectl(t.Context(), "", "get", "authpolicy", "one", "three", "-o", `jsonpath={range .items[*].status.conditions[*]}{.type} {.reason}: {.message}{"\n"}{end}`)
		for _, want := range []string{`Accepted Invalid: spec.mode: found mode "Canary", expected Enforce or Shadow`, "Programmed LastGoodInForce", "Programmed HostsClosed"} {
			if err == nil && !strings.Contains(out, want) {
				err = fmt.Errorf("want %q in %s", want, out)
			}
		}
		return err
	})
	u.wantStatus(t, 200, "one.test", "GET", "/items", p.Mint())
	u.wantStatus(t, 404, "two.test", "GET", "/items", p.Mint())
	u.wantStatus(t, 503, "three.test", "GET", "/items", p.Mint())
}
