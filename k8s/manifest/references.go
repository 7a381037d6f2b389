package manifest

import (
	"fmt"
	"reflect"

	"github.com/usher-authz/usher/k8s/api/v1alpha1"
)

// maxReferences bounds the Secrets and ConfigMaps that one object refers to, each once: in a cluster each is a request to the
// API server, which others wait for.
const maxReferences = 32

// isReference reports whether a type names a Secret or a ConfigMap.
func isReference(t reflect.Type) bool {
	return t == reflect.TypeFor[v1alpha1.SecretKeyRef]() || t == reflect.TypeFor[v1alpha1.ConfigMapKeyRef]()
}

// checkReferences demands names that an object of Kubernetes can have, and not too many of them. One with a slash would be a
// request for something else.
func (d *decoder) checkReferences() {
	seen := map[string]bool{}
	for _, r := range d.references {
		if r.Text != "" && !isSubdomain(r.Text) {
			d.add(r.Pos, fmt.Sprintf("found name %q", r.Text), "lower-case letters, digits, hyphens and dots", "it is the name of an object in the same namespace")
		}
		if seen[r.Text] = true; len(seen) == maxReferences+1 {
			d.add(r.Pos, fmt.Sprintf("found more than %d Secrets and ConfigMaps", maxReferences), fmt.Sprintf("at most %d", maxReferences), "one Secret may have several keys")
			return
		}
	}
}
