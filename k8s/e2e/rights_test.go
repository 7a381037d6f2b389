package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// grant is one verb of one resource.
type grant struct{ group, resource, verb string }

// grants are what a Role of Usher's gives.
var grants = []grant{
	{"usher.dev", "authpolicies", "list"}, {"usher.dev", "authpolicies", "watch"},
	{"usher.dev", "identityproviders", "list"}, {"usher.dev", "identityproviders", "watch"},
	{"usher.dev", "authpolicies/status", "patch"}, {"usher.dev", "identityproviders/status", "patch"},
	{"", "secrets", "get"}, {"", "configmaps", "get"}, {"events.k8s.io", "events", "create"},
	{"coordination.k8s.io", "leases", "get"}, {"coordination.k8s.io", "leases", "create"}, {"coordination.k8s.io", "leases", "update"},
}

// give lets the ServiceAccount `gate` do all of that but what lacks.
func give(t *testing.T, ns string, lacks ...grant) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: gate, namespace: %s}\nrules:\n", ns)
	for _, g := range grants {
		if !slices.Contains(lacks, g) {
			fmt.Fprintf(&b, "- {apiGroups: [%q], resources: [%q], verbs: [%q]}\n", g.group, g.resource, g.verb)
		}
	}
	kubectl(t, b.String(), "apply", "-f", "-")
}

// account makes the ServiceAccount, and returns its kubeconfig.
func account(t *testing.T, ns string) string {
	t.Helper()
	kubectl(t, fmt.Sprintf(`
apiVersion: v1
kind: ServiceAccount
metadata: {name: gate, namespace: %[1]s}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: gate, namespace: %[1]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: gate}
subjects: [{kind: ServiceAccount, name: gate, namespace: %[1]s}]
`, ns), "apply", "-f", "-")
	token, err := shared.ServiceAccountToken(t.Context(), ns, "gate")
	if err != nil {
		t.Fatal(err)
	}
	config, err := shared.Kubeconfig("gate-"+ns, token)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// wantReadyz waits until /readyz answers so, and says all of that.
func (u *usher) wantReadyz(t *testing.T, status string, says ...string) {
	t.Helper()
	eventually(t, func() error {
		got := u.readyz(t)
		for _, want := range says {
			if !strings.Contains(strings.ReplaceAll(got, `\"`, `"`), want) {
				return fmt.Errorf("want %q in %s", want, got)
			}
		}
		if !strings.HasPrefix(got, status) {
			return fmt.Errorf("want %s: %s", status, got)
		}
		return nil
	})
}

// A right that lacks is named by verb, resource and namespace, once in the log and for as long as it lacks in /readyz; what does
// not need it goes on; once it is given, nothing needs a restart.
func TestARightThatLacksIsNamed(t *testing.T) {
	const usherDev = "usher.dev"
	for _, c := range []struct {
		name     string
		lacks    []grant
		says     []string // of which " in namespace NS" is added
		serves   bool     // all the same
		reports  bool     // so does the status
		provider string   // more of its spec
		policy   string   // another policy
		after    func(t *testing.T, u *usher, ns string)
	}{
		{
			name: "list-and-watch", lacks: []grant{{usherDev, "authpolicies", "list"}, {usherDev, "authpolicies", "watch"}},
			says: []string{"list authpolicies of usher.dev", "watch authpolicies of usher.dev"},
		},
		{
			name: "providers", lacks: []grant{{usherDev, "identityproviders", "list"}, {usherDev, "identityproviders", "watch"}},
			says: []string{"list identityproviders of usher.dev", "watch identityproviders of usher.dev"},
		},
		{name: "watch", lacks: []grant{{usherDev, "authpolicies", "watch"}}, says: []string{"watch authpolicies of usher.dev"}, serves: true, reports: true},
		{
			name: "secrets", lacks: []grant{{"", "secrets", "get"}}, says: []string{`get secrets "nonces"`}, serves: true, reports: true,
			policy: `apiVersion: usher.dev/v1alpha1
kind: IdentityProvider
metadata: {name: other, namespace: NS}
spec: {issuer: "https://other.example.com", audiences: [api], proofOfPossession: {nonces: true, nonceKeyRef: {name: nonces}}}
---
`,
			after: func(t *testing.T, _ *usher, ns string) {
				wantCondition(t, ns, "identityprovider/other", "Accepted", "True", "Accepted", "")
			},
		},
		{
			name: "configmaps", lacks: []grant{{"", "configmaps", "get"}}, says: []string{`get configmaps "docs"`}, serves: true, reports: true,
			policy: `apiVersion: usher.dev/v1alpha1
kind: AuthPolicy
metadata: {name: other, namespace: NS}
spec: {hosts: [other.test], providers: [idp], api: {openapi: {configMapRef: {name: docs}}}, rules: [{"on": items}]}
---
`,
			after: func(t *testing.T, _ *usher, ns string) {
				wantCondition(t, ns, "authpolicy/other", "Accepted", "True", "Accepted", "")
			},
		},
		{
			name: "status", lacks: []grant{{usherDev, "authpolicies/status", "patch"}}, says: []string{"patch authpolicies/status of usher.dev"}, serves: true,
		},
		{
			name: "events", lacks: []grant{{"events.k8s.io", "events", "create"}}, says: []string{"create events of events.k8s.io"}, serves: true, reports: true,
			after: func(t *testing.T, _ *usher, ns string) {
				kubectl(t, guard(ns, "late", "late.test", "idp", ", allow: '1'"), "apply", "-f", "-")
				eventually(t, func() error {
					if out := kubectl(t, "", "describe", "authpolicy", "late", "-n", ns); !strings.Contains(out, "Warning  Invalid") {
						return fmt.Errorf("no event:\n%s", out)
					}
					return nil
				})
			},
		},
		{name: "lease-get", lacks: []grant{{"coordination.k8s.io", "leases", "get"}}, says: []string{`get leases of coordination.k8s.io "usher"`}, serves: true},
		{name: "lease-create", lacks: []grant{{"coordination.k8s.io", "leases", "create"}}, says: []string{"create leases of coordination.k8s.io"}, serves: true},
		// Whoever makes the lease holds it until it must be renewed: a status may be there.
		{name: "lease-update", lacks: []grant{{"coordination.k8s.io", "leases", "update"}}, says: []string{`update leases of coordination.k8s.io`}, serves: true, reports: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ns := namespace(t, "lacks-"+c.name)
			p := newProvider(t)
			config := account(t, ns)
			give(t, ns, c.lacks...)
			kubectl(t, "", "create", "secret", "generic", "nonces", "-n", ns, "--from-literal=nonceKey="+strings.Repeat("k", 32))
			kubectl(t, "", "create", "configmap", "docs", "-n", ns, `--from-literal=openapi.yaml={openapi: 3.1.0, paths: {/items: {get: {operationId: items.read, responses: {200: {description: x}}}}}}`)
			kubectl(t, p.manifest(ns, "idp", "")+guard(ns, "one", "one.test", "idp", "")+strings.ReplaceAll(c.policy, "NS", ns), "apply", "-f", "-")
			var lines []string
			for _, s := range c.says {
				lines = append(lines, "permission is missing: "+s+" in namespace "+ns)
			}
			u := startUsher(t, ns, config)
			ready := "503"
			if c.serves {
				ready = "200"
				u.wantStatus(t, 200, "one.test", "GET", "/items", p.Mint())
			}
			u.wantReadyz(t, ready, lines...)
			if got := u.status(t.Context(), "one.test", "GET", "/items", p.Mint()); !c.serves && got != 503 {
				t.Errorf("answered %d, want 503", got)
			}
			if c.reports {
				wantCondition(t, ns, "authpolicy/one", "Accepted", "True", "Accepted", "")
				if c.policy != "" {
					object := "identityprovider/other"
					if strings.Contains(c.policy, "AuthPolicy") {
						object = "authpolicy/other"
					}
					wantCondition(t, ns, object, "Accepted", "False", "Invalid", lines[0])
				}
			} else if _, err := conditionOf(t, ns, "authpolicy/one", "Accepted"); err == nil {
				t.Error("a status was written")
			}
			for _, line := range lines {
				if n := strings.Count(strings.ReplaceAll(u.part.Log(), `\"`, `"`), `"problem":"`+line); n != 1 {
					t.Errorf("%q stands %d times in the log", line, n)
				}
			}
			give(t, ns)
			u.wantStatus(t, 200, "one.test", "GET", "/items", p.Mint())
			wantCondition(t, ns, "authpolicy/one", "Accepted", "True", "Accepted", "")
			if c.after != nil {
				c.after(t, u, ns)
			}
			eventually(t, func() error {
				if got := u.readyz(t); strings.Contains(got, "missing") || !strings.Contains(got, `"connected": true`) {
					return fmt.Errorf("still missing: %s", got)
				}
				return nil
			})
		})
	}
}
