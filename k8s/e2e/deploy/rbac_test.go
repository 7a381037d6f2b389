package deploy

import (
	"fmt"
	"strings"
	"testing"
)

// right is one that a ServiceAccount has or lacks: verb, resource and name, and in which namespace.
type right struct {
	do        string // as `kubectl auth can-i` takes it
	namespace string
}

func (r right) has(t *testing.T, account string) bool {
	t.Helper()
	args := append([]string{"auth", "can-i"}, strings.Fields(r.do)...)
	args = append(args, "--as", account, "--namespace", r.namespace)
	out, _ := shared.Kubectl(t.Context(), "", args...) // "no" is an error for its exit code too
	lines := strings.Split(strings.TrimSpace(out), "\n")
	switch lines[len(lines)-1] {
	case "yes":
		return true
	case "no":
		return false
	}
	t.Fatalf("%s: %s", r.do, out)
	return false
}

// work is what Usher does where policies are.
var work = []string{
	"get authpolicies.usher.dev", "list authpolicies.usher.dev", "watch authpolicies.usher.dev",
	"get identityproviders.usher.dev", "list identityproviders.usher.dev", "watch identityproviders.usher.dev",
	"get authpolicies.usher.dev/any --subresource=status", "patch authpolicies.usher.dev/any --subresource=status", "update authpolicies.usher.dev/any --subresource=status",
	"get identityproviders.usher.dev/any --subresource=status", "patch identityproviders.usher.dev/any --subresource=status", "update identityproviders.usher.dev/any --subresource=status",
	"get secrets/any", "get configmaps/any", "create events", "patch events", "create events.events.k8s.io", "patch events.events.k8s.io",
}

// election is what it does in its own namespace besides.
var election = []string{"create leases.coordination.k8s.io", "get leases.coordination.k8s.io/usher", "update leases.coordination.k8s.io/usher"}

// barred is what it must not do anywhere.
var barred = []string{
	"list secrets", "watch secrets", "create secrets", "update secrets/any", "patch secrets/any", "delete secrets/any",
	"create authpolicies.usher.dev", "update authpolicies.usher.dev/any", "patch authpolicies.usher.dev/any", "delete authpolicies.usher.dev/any", "deletecollection authpolicies.usher.dev",
	"create identityproviders.usher.dev", "update identityproviders.usher.dev/any", "patch identityproviders.usher.dev/any", "delete identityproviders.usher.dev/any",
	"create pods", "get pods", "list pods", "create pods/any --subresource=exec", "get pods/any --subresource=log",
	"create deployments.apps", "update deployments.apps/usher", "patch deployments.apps/usher", "list configmaps", "watch configmaps", "create configmaps", "update configmaps/any", "patch configmaps/any", "delete configmaps/any",
	"create serviceaccounts/usher --subresource=token", "impersonate serviceaccounts", "impersonate users",
	"create roles.rbac.authorization.k8s.io", "update roles.rbac.authorization.k8s.io/usher", "bind roles.rbac.authorization.k8s.io", "escalate roles.rbac.authorization.k8s.io",
	"create rolebindings.rbac.authorization.k8s.io", "create clusterrolebindings.rbac.authorization.k8s.io", "bind clusterroles.rbac.authorization.k8s.io",
	"update leases.coordination.k8s.io/other", "get leases.coordination.k8s.io/other", "list leases.coordination.k8s.io", "delete leases.coordination.k8s.io/usher",
	"list events", "delete events/any", "get nodes", "list namespaces", "patch customresourcedefinitions.apiextensions.k8s.io",
	"patch validatingwebhookconfigurations.admissionregistration.k8s.io", "* *",
}

func checkRights(t *testing.T, account, namespace string, does, doesNot []string) {
	t.Helper()
	for _, do := range does {
		eventually(t, func() error { // the API server goes by what it watches, a moment behind what is stored
			if !(right{do, namespace}).has(t, account) {
				return fmt.Errorf("in %s it cannot %s", namespace, do)
			}
			return nil
		})
	}
	for _, do := range doesNot {
		if (right{do, namespace}).has(t, account) {
			t.Errorf("in %s it can %s", namespace, do)
		}
	}
}

// applyRights stores what the overlay says about rights, and namespaces.
func applyRights(t *testing.T, all []object) {
	t.Helper()
	var rights []object
	for _, o := range all {
		switch o.text("kind") {
		case "Namespace", "ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding":
			rights = append(rights, o)
		}
	}
	if out, err := apply(t, rights); err != nil {
		t.Fatalf("%s, %v", out, err)
	}
	forget(t, rights)
}

func TestTheServiceAccountOfOneNamespaceCanDoItsWorkAndNothingElse(t *testing.T) {
	applyRights(t, inNamespace(t, "namespace", "own"))
	const account = "system:serviceaccount:own:usher"
	checkRights(t, account, "own", append(work, election...), barred)
	checkRights(t, account, "default", nil, append(append(work, election...), barred...))
}

func TestTheServiceAccountOfTheClusterCanDoItsWorkAndNothingElse(t *testing.T) {
	applyRights(t, inNamespace(t, "cluster", "wide"))
	const account = "system:serviceaccount:wide:usher"
	checkRights(t, account, "wide", append(work, election...), barred)
	checkRights(t, account, "default", work, append(election, barred...))
}
