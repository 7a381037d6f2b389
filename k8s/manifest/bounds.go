package manifest

import (
	"fmt"
	"strings"

	"github.com/usher-authz/usher/k8s/api/v1alpha1"
	"github.com/usher-authz/usher/policy"
)

// bound is how many items or names a list or an object of a spec may have. One object must not hold everybody up who waits
// for the same compilation, and what is checked of a policy depends on several of them at once: rules and routes, providers and
// hosts. Each is far beyond what people write.
type bound struct {
	path string
	most int
	what string
	hint string
}

// boundsOf are those of a kind.
func boundsOf(kind string) []bound {
	switch kind {
	case v1alpha1.KindAuthPolicy:
		return []bound{
			{"hosts", 256, "hosts", `"*.example.com" takes in all below; or write a policy for each 256`},
			{"providers", 32, "providers", "a policy asks each of them about a token"},
			{"variables", 1000, "variables", "one may be a list or an object of any length"},
			{"conditions", 256, "conditions", "variables hold lists"},
			{"rules", 2000, "rules", "a rule for a resource, or for *:action, takes in several operations"},
			{"api.routes", 5000, "routes", "{name=**} takes in all below; or write a policy for some of the hosts"},
			{"api.public", 256, "public routes", "{name=**} takes in all below"},
			{"identityHeaders", 64, "identity headers", ""},
			{"protectedResource.scopes", 1000, "scopes", ""},
			{"cors.allowOrigins", 256, "origins", ""},
			{"cors.allowMethods", 64, "methods", ""},
			{"cors.allowHeaders", 256, "headers", ""},
			{"tokenFrom.cookie.allowOrigins", 256, "origins", ""},
			{"backend.headers", 64, "headers", ""},
		}
	case v1alpha1.KindIdentityProvider:
		return []bound{
			{"audiences", 256, "audiences", ""},
			{"tenants", 1000, "tenants", "a provider for each 1000"},
			{"clients", 1000, "clients", ""},
			{"allowedNamespaces", 1000, "namespaces", `"*" allows all of them`},
			{"jwt.algorithms", 32, "algorithms", ""},
			{"jwt.typ", 32, "types", ""},
			{"jwt.keys.keys", 100, "keys", "those that no token is signed with any more can go"},
		}
	}
	return nil
}

// bounds finds lists and objects with more than there may be, and returns the tree without the rest of them, so that nobody
// works through it. Hosts stay, as the hosts of what cannot be read are closed, and do not open to a wildcard's policy.
func (d *decoder) bounds(t policy.Tree, kind string) policy.Tree {
	for _, b := range boundsOf(kind) {
		t = d.bound(t, b, append([]string{"spec"}, strings.Split(b.path, ".")...))
	}
	return t
}

// bound returns the tree with what stands at the path cut.
func (d *decoder) bound(t policy.Tree, b bound, path []string) policy.Tree {
	if len(path) == 0 {
		n := len(t.Items) + len(t.Members)
		if n <= b.most {
			return t
		}
		d.add(t.Pos, fmt.Sprintf("found %d %s", n, b.what), fmt.Sprintf("at most %d", b.most), b.hint)
		if b.path != "hosts" {
			t.Items, t.Members = t.Items[:min(len(t.Items), b.most)], t.Members[:min(len(t.Members), b.most)]
		}
		return t
	}
	for i, m := range t.Members {
		if m.Name.Text != path[0] {
			continue
		}
		cut := d.bound(m.Value, b, path[1:])
		if len(cut.Items) == len(m.Value.Items) && len(cut.Members) == len(m.Value.Members) && len(path) == 1 {
			return t
		}
		members := make([]policy.Member, len(t.Members))
		copy(members, t.Members)
		members[i].Value = cut
		t.Members = members
		return t
	}
	return t
}
