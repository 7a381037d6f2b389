package watch

import (
	"encoding/json"
	"testing"
)

// A text that the API server has is read as it is, whatever its characters are.
func TestEvery_character_of_a_text_is_read(t *testing.T) {
	for _, r := range []rune{
		0, 1, '\t', '\n', '\r', 0x1f, '"', '\\', '<', '&', 0x7f, 0x80, 0x85, 0x9f, 0xa0, 0x2028, 0x2029, 0xd7ff, 0xe000, 0xfdd0, 0xfeff, 0xfffd, 0xfffe, 0xffff, 0x1fffe, 0x10ffff,
	} {
		want := "a" + string(r) + "b"
		text, err := json.Marshal(map[string]any{
			"apiVersion": "usher.dev/v1alpha1", "kind": "AuthPolicy", "metadata": map[string]any{"name": "one", "namespace": "a"},
			"spec": map[string]any{"hosts": []any{"one.test"}, "rules": []any{map[string]any{"on": "*", "allow": want}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		o := readObject(compactOf(t, string(text)))
		if len(o.problems) > 0 {
			t.Errorf("%U: %v", r, o.problems)
			continue
		}
		if got := o.parsed.AuthPolicy.Spec.Rules[0].Allow; got != want {
			t.Errorf("%U: %q, want %q", r, got, want)
		}
	}
}
