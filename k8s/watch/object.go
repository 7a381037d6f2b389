package watch

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/usher-authz/usher/k8s/manifest"
	"github.com/usher-authz/usher/policy"
)

// ReadObject reads an object of the API server as a [Watcher] does: what its spec says is read as a file is, by the same reader.
func ReadObject(u *unstructured.Unstructured) (manifest.Object, policy.Problems) {
	o := readObject(compacted(u))
	return o.parsed, o.problems
}
