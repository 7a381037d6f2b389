package attacktest

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

func attacks(t testing.TB) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/attacks.json")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// free are the places where any member is right: what goes into manifests, tokens and documents.
func free(path string) bool {
	for _, place := range []string{
		".manifests[]", "$json", ".set", ".metadata_context", ".add_raw[]", ".claims.append", ".claims.prepend", ".header.append", ".header.prepend",
		".opaque_tokens.*", ".threads.*", ".assistants.*", "token_recipes.*.header", "token_recipes.*.claims", ".set_on", ".backend_body", ".upstream_body",
	} {
		if strings.Contains(path, place) {
			return true
		}
	}
	// Names that the file gives itself.
	for _, names := range []string{".groups", ".keys", ".certs", ".opaque_tokens", ".threads", ".assistants", ".runs", ".token_recipes", ".tokens"} {
		if strings.HasSuffix(path, names) {
			return true
		}
	}
	return false
}

// objects calls f for each object of the tree with its path, in which indexes and the names of maps are stars.
func objects(path string, f func(path string, v *Value), at *Value) {
	maps := []string{".token_recipes", ".groups", ".environment.keys", ".environment.certs", ".environment.opaque_tokens", ".tokens", ".fixture", ".context_extensions", ".hits_max", ".threads", ".assistants", ".runs", ".set_on"}
	if at.kind == '{' {
		f(path, at)
	}
	star := slices.ContainsFunc(maps, func(m string) bool { return strings.HasSuffix(path, m) })
	for i := range at.members {
		m := &at.members[i]
		name := "." + m.name
		if star {
			name = ".*"
		}
		objects(path+name, f, &m.value)
	}
	for i := range at.items {
		objects(path+"[]", f, &at.items[i])
	}
}

func TestUnknownMembersFail(t *testing.T) {
	tree, err := parseValue(attacks(t))
	if err != nil {
		t.Fatal(err)
	}
	tried := map[string]bool{}
	objects("", func(path string, v *Value) {
		if free(path) || tried[path] {
			return
		}
		tried[path] = true
		t.Run("in_"+strings.TrimPrefix(path, "."), func(t *testing.T) {
			kept := v.members
			defer func() { v.members = kept }()
			for _, value := range []Value{{kind: '0', text: "1"}, {kind: '{'}} {
				v.members = append(slices.Clone(kept), member{"unheard_of", value})
				if _, err := read([]byte(tree.String())); err == nil {
					t.Errorf("a member unheard_of: %s in %s is accepted", value, path)
				}
			}
		})
	}, &tree)
	if len(tried) < 60 {
		t.Errorf("only %d kinds of objects were tried", len(tried))
	}
}

func TestBrokenFilesFail(t *testing.T) {
	text := string(attacks(t))
	for _, c := range []struct{ name, old, new, want string }{
		{"another_version", `"version": 1`, `"version": 2`, "version 2"},
		{"unknown_generator", `{"$now_fraction": 300.5}`, `{"$tomorrow": 1}`, "$tomorrow"},
		{"member_of_a_generator", `{"$now_fraction": 300.5}`, `{"$now_fraction": 300.5, "set": 1}`, "set"},
		{"unknown_recipe", `"token": {"base": "good_es"}`, `"token": {"base": "better"}`, "better"},
		{"unknown_key", `"key": "evil"`, `"key": "worse"`, "worse"},
		{"unknown_operation", `{"op": "flip_bit", "bit": 5}`, `{"op": "flip_byte", "bit": 5}`, "flip_byte"},
		{"operation_without_its_member", `{"op": "flip_bit", "bit": 5}`, `{"op": "flip_bit"}`, "bit"},
		{"member_of_another_operation", `{"op": "flip_bit", "bit": 5}`, `{"op": "flip_bit", "bit": 5, "n": 1}`, "bit"},
		{"unknown_endpoint", `"hits_max": {"canary": 0}`, `"hits_max": {"canaries": 0}`, "canaries"},
		{"unknown_level", `"level": "check"`, `"level": "grpc"`, "grpc"},
		{"unknown_encoding", `"encode": "raw"`, `"encode": "json"`, "json"},
		{"a_case_twice", `"id": "ctl-02-good-es256"`, `"id": "ctl-01-good-rs256"`, "second"},
		{"a_name_twice", `"version": 1`, `"version": 1, "version": 1`, "duplicate"},
		{"no_expectation", `"expect": {"status": 200, "must_forward": [["x-user-id", "alice"]]}}`, `"note": ""}`, "expected"},
		{"http_expectation_at_level_check", `"expect": {"status": 200, "must_forward": [["x-user-id", "alice"]]}}`, `"expect": {"status": 200, "upstream_hits": 1}}`, "level http"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !strings.Contains(text, c.old) {
				t.Fatalf("the file lacks %s", c.old)
			}
			_, err := read([]byte(strings.Replace(text, c.old, c.new, 1)))
			if err == nil || !strings.Contains(fmt.Sprint(err), c.want) {
				t.Errorf("got %v, expected an error about %q", err, c.want)
			}
		})
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"version":1}`))
	f.Add([]byte(`{"version":1,"token_recipes":{"a":{"base":"a"},"b":{"header":{"alg":{"$upper":"rs256"}},"key":{"hmac":{"$hex":"00"}}}}}`))
	f.Add([]byte(`{"version":1,"cases":[{"id":"a","group":"g","why":"w","level":"check","request":{"path":{"$repeat":["a",3]}},"expect":{"status":[400]}}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := read(text)
		if (s == nil) == (err == nil) {
			t.Errorf("suite %v, error %v", s, err)
		}
	})
}
