package policy

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
)

// BenchmarkRoute finds a route among many: its time must not depend on how many there are.
func BenchmarkRoute(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000} {
		p := &Policy{}
		for i := range n / 2 {
			for _, path := range []string{fmt.Sprintf("/api/v%d/things%d/{id}", i%10, i), fmt.Sprintf("/api/v%d/things%d/{id}/parts/{part}", i%10, i)} {
				if problem := p.routes.add(&compiledRoute{method: "GET", path: path}); problem != nil {
					b.Fatal(problem)
				}
			}
		}
		path := fmt.Sprintf("/api/v%d/things%d/5B2C/parts/7", (n/2-1)%10, n/2-1)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.Route("GET", path); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// FuzzRewriteQuery: whatever the query, no parameter that could be taken for the one that is set remains beside it, and it
// is there once, with its value; what remains stands there as it was.
func FuzzRewriteQuery(f *testing.F) {
	f.Add("a=1&owner=bob&Owner=x&owner%5B%5D=y", "alice")
	f.Add("=&&owner", "a&b =%+;")
	f.Add("o%77ner=1&x=%20+", "ü")
	f.Fuzz(func(t *testing.T, query, value string) {
		pairs, err := readPairs(query)
		if err != nil {
			return
		}
		got := rewriteQuery(pairs, []memberText{{"owner", value}})
		values, err := url.ParseQuery(got)
		if err != nil {
			t.Fatalf("%q: %q: %v", query, got, err)
		}
		if list := values["owner"]; len(list) != 1 || list[0] != value {
			t.Fatalf("%q: %q", query, got)
		}
		for name := range values {
			if name != "owner" && (strings.EqualFold(name, "owner") || strings.HasPrefix(strings.ToLower(name), "owner[") || strings.TrimSpace(strings.ToLower(name)) == "owner") {
				t.Fatalf("%q: %q remains", query, name)
			}
		}
		for piece := range strings.SplitSeq(got, "&") {
			if !strings.HasPrefix(piece, "owner=") && !strings.Contains("&"+query+"&", "&"+piece+"&") {
				t.Fatalf("%q: %q was not there", query, piece)
			}
		}
	})
}

// FuzzParameters compares the set of names with each name against each other.
func FuzzParameters(f *testing.F) {
	f.Add("a\nA")
	f.Add("a[b]\na[c]\na")
	f.Add("a.b\na_b\n\n[]")
	f.Fuzz(func(t *testing.T, text string) {
		names := strings.Split(text, "\n")
		if len(names) > 20 {
			return
		}
		set := parameterSet{}
		for i, name := range names {
			want := true
			for _, other := range names[:i] {
				want = want && !sameParameter(name, other)
			}
			if got := set.add(name); got != want {
				t.Fatalf("%q after %q: %v, want %v", name, names[:i], got, want)
			}
		}
	})
}

func TestAnswers_of_a_backend(t *testing.T) {
	c, err := ruleCompiler()
	if err != nil {
		t.Fatal(err)
	}
	at := func(text string) *Text { return &Text{Text: text} }
	reader, problems := c.reader(&ObjectSource{Metadata: at("body.labels"), AnswerID: at("body.id")})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if again, _ := c.reader(&ObjectSource{Metadata: at("body.labels"), AnswerID: at("body.id")}); again != reader {
		t.Error("the same texts give two readers: their objects would be cached apart")
	}
	for body, want := range map[string]string{
		`{"id":"1","labels":{"owner":"alice"}}`: "map[owner:alice]",
		`{"id":1,"labels":{}}`:                  "map[]",
		`{"id":"1","labels":null}`:              "map[]",
		`{"id":"1"}`:                            "map[]", // it exists, and no filter selects it
		`{"id":"01","labels":{}}`:               "it is about another object",
		`{"labels":{}}`:                         "its id: no such key",
		`{"id":"1","labels":"alice"}`:           "its metadata is no object",
		`[]`:                                    "its id: ",
		`"1"`:                                   "its id: ",
	} {
		v, err := ParseValue([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		o, err := reader.Read(v, "1")
		got := fmt.Sprint(o.Metadata)
		if err != nil {
			if got = err.Error(); o.Found || o.Metadata != nil {
				t.Errorf("%s: found in spite of an error", body)
			}
		}
		if !strings.HasPrefix(got, want) || err == nil && !o.Found {
			t.Errorf("%s: got %q, want %q", body, got, want)
		}
	}
}
