package watch

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/usher-authz/usher/k8s/manifest"
)

// TestUnreadable: a policy with something in it that cannot be read closes the hosts that can be, and none if it is a Shadow one.
func TestUnreadable(t *testing.T) {
	var deep any = "x"
	for range 100 {
		deep = []any{deep}
	}
	for _, c := range []struct {
		name, mode string
		hosts      []any
		also       any
	}{
		{"a_control_character_in_another_host", "Enforce", []any{"two.test", "\x7f"}, nil},
		{"a_line_separator_in_another_host", "Enforce", []any{"a\u0085b", "two.test"}, nil},
		{"another_host_is_no_text", "Enforce", []any{"two.test", int64(2)}, nil},
		{"a_value_that_is_nested_too_deep", "Enforce", []any{"two.test"}, deep},
		{"one_in_a_Shadow_policy", "Shadow", []any{"two.test"}, deep},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := readObject(compacted(&unstructured.Unstructured{Object: map[string]any{
				"apiVersion": "usher.dev/v1alpha1", "kind": "AuthPolicy", "metadata": map[string]any{"name": "two", "namespace": "a"},
				"spec": map[string]any{"hosts": c.hosts, "mode": c.mode, "variables": map[string]any{"deep": c.also}},
			}}))
			compiled, verdicts := manifest.NewKeeper(nil).Compile([]manifest.Object{o.parsed})
			if len(o.problems)+len(verdicts[o.file].Problems) == 0 {
				t.Error("no problem is said")
			}
			p := compiled.Snapshot.Match("two.test", "")
			if c.mode == "Shadow" {
				if p != nil {
					t.Errorf("%s guards the host", p.Name)
				}
				return
			}
			if p == nil || !p.Unavailable {
				t.Fatalf("the host is guarded by %+v", p)
			}
			if other := compiled.Snapshot.Match("other.test", ""); other != nil {
				t.Errorf("%s guards another host", other.Name)
			}
		})
	}
}
