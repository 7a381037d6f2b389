package manifest

import (
	"bytes"
	"strings"
	"testing"

	"github.com/usher-authz/usher/policy"
)

// FuzzPositions demands that a text whose place is exact stands there, and that every place is within the file.
func FuzzPositions(f *testing.F) {
	f.Add("a: b\n---\n- 'c': \"d\"\n  \"é\": x y\n  e: >-\n    f\n    g\n")
	f.Add("{\"a\": [1, \"b\\u0041\", {\"é\": null}], 'it''s': !x y}\r\n...\r\n{}")
	f.Add("\ufeffa:   'b\n  c'\nd: |\n  e\n\nf: plain\n  folded")
	f.Fuzz(func(t *testing.T, text string) {
		objects, _ := Parse("f", []byte(text))
		src, _, problem := read("f", []byte(text))
		if problem != nil {
			return
		}
		var check func(policy.Tree)
		place := func(p policy.Position, text string) {
			if p.Line < 1 || p.Line > len(src.lines) || p.Column < 1 || p.Column > len(src.lines[p.Line-1])+1 {
				t.Fatalf("%v is outside", p)
			}
			if !p.Inexact && !strings.HasPrefix(src.lines[p.Line-1][p.Column-1:], text) {
				t.Fatalf("%v: %q does not stand there", p, text)
			}
		}
		check = func(tree policy.Tree) {
			text, _ := tree.Scalar.(string)
			place(tree.Pos, text)
			for _, m := range tree.Members {
				place(m.Name.Pos, m.Name.Text)
				check(m.Value)
			}
			for _, item := range tree.Items {
				check(item)
			}
		}
		for _, o := range objects {
			if o.tree.IsObject || o.tree.IsList {
				check(o.tree)
			}
		}
	})
}

// FuzzJSON compares with the strict JSON reader: where both take a text, they read the same.
func FuzzJSON(f *testing.F) {
	f.Add([]byte(`{"a": [1, -2.5e3, true, null, "b\n\u00e9\/"], "on": {"x": ""}}`))
	f.Add([]byte(`{"a": 9223372036854775807, "b": 1.0, "c": 0.1, "d": "\ud83d\ude00"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		want, err := policy.ParseValue(text)
		if err != nil || !bytes.HasPrefix(text, []byte("{")) {
			return
		}
		src, chunks, problem := read("f", text)
		if problem != nil || len(chunks) != 1 {
			return
		}
		objects, problems := parseChunk(&src, chunks[0])
		for _, p := range problems {
			if strings.Contains(p.Found, "YAML") || strings.Contains(p.Found, "number") || strings.Contains(p.Found, "too deep") {
				return // refused, which is safe
			}
		}
		if len(objects) != 1 {
			t.Fatalf("%d objects", len(objects))
		}
		if got := (&decoder{}).any(objects[0].tree); !policy.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}
