package edit

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/usher-authz/usher/policy"
)

// FuzzApply compares Apply with the same edit made on parsed values, and looks at the bytes around it.
func FuzzApply(f *testing.F) {
	for _, body := range []string{
		``, `null`, `{}`, `{"metadata":{"owner":"bob"}}`, `{"metadata":{"\u006fwner":[1,{"a":"}"}]} , "x" : 1e2}`, `{"metadata":null}`,
		`[{"metadata":{}}]`, `{"metadata":"x"}`, `{"a":1,"a":2}`, "{ \"a\"\n:\t[ ] , \"metadata\": { \"owner\" : null } }\r\n", `{"a":"\ud83d\ude00"}`,
	} {
		f.Add([]byte(body), "metadata", "owner", "alice")
		f.Add([]byte(body), "0/metadata", "owner", "\"")
		f.Add([]byte(body), "", "x", "")
		f.Add([]byte(body), "", "namespace_prefix", "alice")
	}
	f.Fuzz(func(t *testing.T, body []byte, at, name, value string) {
		e := set(at, name, value)
		var written any = value
		if strings.HasSuffix(name, "prefix") { // as a search of a store is narrowed
			written = []any{value}
			e.Set[0].Value = written
		}
		before := bytes.Clone(body)
		got, err := Apply(body, []policy.Edit{e})
		if !bytes.Equal(body, before) {
			t.Fatal("the caller's body was changed")
		}
		parsed, bad := policy.ParseValue(body)
		if len(bytes.TrimLeft(body, " \t\r\n")) == 0 {
			parsed, bad = map[string]any{}, nil
		}
		if bad != nil && strings.Contains(bad.Error(), "out of range") {
			return // Apply keeps numbers that a Value cannot hold
		}
		want, old, possible := byValue(parsed, e.At, name, written)
		if err != nil {
			if got != nil {
				t.Error("an error and a body")
			}
			if bad == nil && possible && depth(want) < maxDepth && utf8.ValidString(name) && utf8.ValidString(value) && allValid(e.At) {
				t.Errorf("%q is refused: %v", body, err)
			}
			return
		}
		if bad != nil || !possible {
			t.Fatalf("%q is edited to %q, though it is not strict or has no such place (%v)", body, got, bad)
		}
		result, err := policy.ParseValue(got)
		if err != nil {
			t.Fatalf("the result is not strict: %v: %q", err, got)
		}
		if !reflect.DeepEqual(result, want) {
			t.Errorf("%q became %q", body, got)
		}
		// Nothing but one piece differs. Where the member was not there, that piece is only added; else it is the old value.
		if len(bytes.TrimLeft(body, " \t\r\n")) > 0 {
			lost := len("null")
			if old {
				lost = len(rawAt(t, body, append(e.At[:len(e.At):len(e.At)], name)))
			}
			if kept := prefix(body, got) + suffix(body, got); kept < len(body)-lost {
				t.Errorf("of %q only %d bytes are left in %q", body, kept, got)
			}
		}
		again, err := Apply(got, []policy.Edit{e})
		if err != nil || !bytes.Equal(again, got) {
			t.Errorf("a second time %q becomes %q (%v)", got, again, err)
		}
	})
}

// rawAt is the text of the value at a path of a strict body.
func rawAt(t *testing.T, body []byte, at []string) []byte {
	t.Helper()
	for _, name := range at {
		var object map[string]json.RawMessage
		var list []json.RawMessage
		if json.Unmarshal(body, &object) == nil {
			body = object[name]
		} else if i, err := strconv.Atoi(name); err == nil && json.Unmarshal(body, &list) == nil && i < len(list) {
			body = list[i]
		} else {
			t.Fatalf("no value at %q", at)
		}
	}
	return bytes.TrimSpace(body)
}

// byValue makes the edit on a parsed value. old says that the member was there.
func byValue(v any, at []string, name string, value any) (_ any, old, ok bool) {
	if v == nil {
		v = map[string]any{}
	}
	if len(at) == 0 {
		o, ok := v.(map[string]any)
		if !ok {
			return nil, false, false
		}
		_, old = o[name]
		o[name] = value
		return o, old, true
	}
	switch v := v.(type) {
	case map[string]any:
		v[at[0]], old, ok = byValue(v[at[0]], at[1:], name, value)
		return v, old, ok
	case []any:
		for i := range v {
			if digits(i) == at[0] {
				v[i], old, ok = byValue(v[i], at[1:], name, value)
				return v, old, ok
			}
		}
	}
	return nil, false, false
}

func allValid(at []string) bool {
	return !slices.ContainsFunc(at, func(s string) bool { return !utf8.ValidString(s) })
}

func digits(i int) string {
	if i < 10 {
		return string(rune('0' + i))
	}
	return digits(i/10) + digits(i%10)
}

func depth(v any) int {
	deepest := 0
	switch v := v.(type) {
	case map[string]any:
		for _, e := range v {
			deepest = max(deepest, depth(e)+1)
		}
	case []any:
		for _, e := range v {
			deepest = max(deepest, depth(e)+1)
		}
	}
	return deepest
}

func prefix(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

func suffix(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[len(a)-1-n] == b[len(b)-1-n] {
		n++
	}
	return n
}

func BenchmarkApply(b *testing.B) {
	run := `{"assistant_id":"agent","input":{"messages":[{"role":"user","content":"hello"}]},"metadata":{"owner":"bob"}}`
	for _, c := range []struct {
		name, body string
		edits      []policy.Edit
	}{
		{"small", run, []policy.Edit{owner}},
		{"picture_of_4MiB", `{"input":{"image":"` + strings.Repeat("iVBORw0K", 4<<20/8) + `"},"metadata":{}}`, []policy.Edit{owner}},
		{"numbers_of_4MiB", `{"input":[` + strings.Repeat(`1,`, 2<<20) + `1],"metadata":{}}`, []policy.Edit{owner}},
		{"objects_of_4MiB", `{"input":[` + strings.Repeat(`{"a":"b"},`, 4<<20/10) + `{}],"metadata":{}}`, []policy.Edit{owner}},
		{"batch_of_256", "[" + strings.Repeat(run+",", 255) + run + "]", batch(256)},
	} {
		b.Run(c.name, func(b *testing.B) {
			body := []byte(c.body)
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				if _, err := Apply(body, c.edits); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func batch(n int) []policy.Edit {
	edits := make([]policy.Edit, n)
	for i := range edits {
		edits[i] = set(digits(i)+"/metadata", "owner", "alice")
	}
	return edits
}
