package edit

import (
	"testing"

	"github.com/usher-authz/usher/policy"
)

func TestApply(t *testing.T) {
	owner := []policy.EditMember{{Name: "owner", Value: "alice"}}
	for _, c := range []struct {
		name, in, want string
		at             []string
	}{
		{"empty_body", ``, `{"metadata":{"owner":"alice"}}`, []string{"metadata"}},
		{"missing_parent", `{ "a" : 1 }`, `{"metadata":{"owner":"alice"}, "a" : 1 }`, []string{"metadata"}},
		{"null_parent", `{"metadata":null,"z":1}`, `{"metadata":{"owner":"alice"},"z":1}`, []string{"metadata"}},
		{"replaced_in_place", `{"metadata":{"n":12345678901234567890123,"z":1,"owner":"bob","a":2}}`, `{"metadata":{"n":12345678901234567890123,"z":1,"owner":"alice","a":2}}`, []string{"metadata"}},
		{"escaped_name", `{"metadata":{"\u006fwner":"bob"}}`, `{"metadata":{"\u006fwner":"alice"}}`, []string{"metadata"}},
		{"object_replaced", `{"metadata":{"owner":{"$eq":"bob"} , "x":[]}}`, `{"metadata":{"owner":"alice" , "x":[]}}`, []string{"metadata"}},
		{"in_a_list", `[{"a":1},{"metadata":{}}]`, `[{"a":1},{"metadata":{"owner":"alice"}}]`, []string{"1", "metadata"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Apply([]byte(c.in), []policy.Edit{{At: c.at, Set: owner}})
			if err != nil || string(got) != c.want {
				t.Errorf("got %s, %v\nwant %s", got, err, c.want)
			}
		})
	}
	for name, in := range map[string]string{
		"string_parent": `{"metadata":"x"}`, "list_parent": `{"metadata":[]}`, "duplicate": `{"metadata":{},"metadata":{}}`,
		"trailing": `{} {}`, "cut_off": `{"metadata":{`, "invalid_utf8": "{\"a\":\"\xff\"}", "top_list": `[]`,
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := Apply([]byte(in), []policy.Edit{{At: []string{"metadata"}, Set: owner}}); err == nil {
				t.Errorf("got %s, want an error", got)
			}
		})
	}
}
