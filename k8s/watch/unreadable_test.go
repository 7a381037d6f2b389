package watch

import (
	"reflect"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/usher-authz/usher/k8s/api/v1alpha1"
)

// TestUnreadable: a policy that YAML cannot carry guards the hosts that can be read, and watches only if it is a Shadow one.
func TestUnreadable(t *testing.T) {
	for _, c := range []struct {
		name, mode string
		hosts      []any
		also       string
	}{
		{"a_control_character_in_another_host", "Enforce", []any{"two.test", "\x7f"}, ""},
		{"a_line_separator_in_another_host", "Enforce", []any{"a\u0085b", "two.test"}, ""},
		{"one_elsewhere", "Enforce", []any{"two.test"}, "\x7f"},
		{"one_in_a_Shadow_policy", "Shadow", []any{"two.test"}, "\x7f"},
	} {
		t.Run(c.name, func(t *testing.T) {
			seen, err := compact(&unstructured.Unstructured{Object: map[string]any{
				"apiVersion": "usher.dev/v1alpha1", "kind": "AuthPolicy", "metadata": map[string]any{"name": "two", "namespace": "a"},
				"spec": map[string]any{"hosts": c.hosts, "mode": c.mode, "publicURL": c.also},
			}})
			if err != nil {
				t.Fatal(err)
			}
			o := readObject(seen.(*unstructured.Unstructured))
			if len(o.problems) == 0 {
				t.Error("no problem is said")
			}
			p := o.parsed.AuthPolicy
			if p == nil || !reflect.DeepEqual(p.Spec.Hosts, []string{"two.test"}) {
				t.Fatalf("got %+v", p)
			}
			if shadow := p.Spec.Mode == v1alpha1.Shadow; shadow != (c.mode == "Shadow") {
				t.Errorf("mode %q", p.Spec.Mode)
			}
		})
	}
}
