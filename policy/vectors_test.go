package policy

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// vector is one filter and the metadata that LangGraph compared it with.
type vector struct {
	Name     string
	Metadata json.RawMessage
	Filters  json.RawMessage
	Python   any `json:"python_inmem"` // true, false, or an error
	JS       any `json:"js_1_5_1"`     // not compared: it fails open
}

// refusal says why a vector has another outcome here: a problem at load, or a match where Python has an error.
type refusal struct {
	Name, Problem, Reason string
	Match                 *bool
}

func readJSON(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("read %s: %v", path, err)
	}
}

// TestFilterVectors compares every vector with Python's result. What differs is in filter-refused.json, and what is
// there must differ.
func TestFilterVectors(t *testing.T) {
	var vectors []vector
	readJSON(t, "testdata/filter-vectors.json", &vectors)
	if len(vectors) != 54 {
		t.Fatalf("%d vectors, want 54", len(vectors))
	}
	var refusals []refusal
	readJSON(t, "testdata/filter-refused.json", &refusals)
	refused := map[string]refusal{}
	for _, r := range refusals {
		if r.Reason == "" {
			t.Errorf("%s: refused without a reason", r.Name)
		}
		refused[r.Name] = r
	}
	c, err := ruleCompiler()
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range vectors {
		t.Run(v.Name, func(t *testing.T) {
			r, listed := refused[v.Name]
			delete(refused, v.Name)
			filter, problems := compileVector(t, c, v.Filters)
			if r.Problem != "" {
				if len(problems) == 0 || !strings.Contains(problems[0].Found, r.Problem) {
					t.Fatalf("problems %v, want %q", problems, r.Problem)
				}
				return
			}
			if len(problems) > 0 {
				t.Fatalf("problems %v, want none", problems)
			}
			bound, err := filter.bind(&scope{})
			if err != nil {
				t.Fatal(err)
			}
			metadata, _ := parse(t, v.Metadata).(map[string]any)
			got := bound.Match(metadata)
			if listed {
				if got != *r.Match || v.Python == any(got) {
					t.Errorf("Match gives %v; listed as %v where Python has %v", got, *r.Match, v.Python)
				}
				return
			}
			if v.Python != any(got) {
				t.Errorf("Match gives %v, want Python's %v", got, v.Python)
			}
		})
	}
	for name := range refused {
		t.Errorf("filter-refused.json has %q, which is no vector", name)
	}
}

func parse(t testing.TB, text []byte) Value {
	t.Helper()
	v, err := ParseValue(text)
	if err != nil {
		t.Fatalf("parse %s: %v", text, err)
	}
	return v
}

// compileVector compiles a filter that stands as JSON; null is no filter.
func compileVector(t testing.TB, c *compiler, text []byte) (filterSource, Problems) {
	v := parse(t, text)
	if v == nil {
		return filterSource{}, nil
	}
	return c.compileFilter(treeOf(v))
}

// treeOf writes a JSON value as a manifest would hold it: a text is a CEL literal.
func treeOf(v Value) Tree {
	switch v := v.(type) {
	case nil:
		return Tree{IsNull: true}
	case string:
		return Tree{Scalar: literal(v)}
	case []any:
		t := Tree{IsList: true}
		for _, item := range v {
			t.Items = append(t.Items, treeOf(item))
		}
		return t
	case map[string]any:
		t := Tree{IsObject: true}
		for _, name := range names(v) {
			t.Members = append(t.Members, Member{Name: Text{Text: name}, Value: treeOf(v[name])})
		}
		return t
	}
	return Tree{Scalar: v}
}

// literal writes text as a CEL string.
func literal(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range text {
		if r < 0x80 && strconv.IsPrint(r) && r != '"' && r != '\\' {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
