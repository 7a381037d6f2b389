package policy

import (
	"math/rand/v2"
	"testing"
)

// Whatever a search below a prefix finds must match the filter: tried with random filters, prefixes and objects.
func TestWhat_a_narrowed_search_finds_matches_the_filter(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	labels := []any{"alice", "bob", "notes", "*", ""}
	list := func(most int) []any {
		out := []any{}
		for range r.IntN(most + 1) {
			out = append(out, labels[r.IntN(len(labels))])
		}
		return out
	}
	var random func(depth int) Filter
	random = func(depth int) Filter {
		var f Filter
		for range 1 + r.IntN(2) {
			switch n := r.IntN(8); {
			case n < 3:
				f.terms = append(f.terms, filterTerm{op: opContains, key: "namespace", items: []Value{labels[r.IntN(len(labels))]}})
			case n == 3:
				f.terms = append(f.terms, filterTerm{op: opContains, key: "namespace", items: list(2)})
			case n == 4:
				f.terms = append(f.terms, filterTerm{op: opEqual, key: "namespace", value: list(2)})
			case n == 5:
				f.terms = append(f.terms, filterTerm{op: opEqual, key: []string{"key", "owner"}[r.IntN(2)], value: "alice"})
			case depth > 0:
				f.terms = append(f.terms, filterTerm{op: opOr + filterOp(r.IntN(2)), sub: []Filter{random(depth - 1), random(depth - 1)}})
			}
		}
		return f
	}
	narrowed := 0
	for range 20_000 {
		f := random(2)
		p := Prefix{Name: "namespace", Value: list(2), Other: []string{"key"}}
		begin, rest, ok := f.below(&p)
		equal, isEqual := rest.Equalities()
		if !ok || !isEqual {
			continue
		}
		if begin == nil {
			begin = p.Value
		} else if len(p.Value) > 0 {
			t.Fatalf("prefix %v became %v", p.Value, begin)
		}
		narrowed++
		for range 10 {
			found := map[string]any{"namespace": append(append([]any{}, begin...), list(3)...), "key": "k", "owner": "nobody"}
			for name, v := range equal {
				found[name] = v
			}
			if !f.Match(found) {
				t.Fatalf("%+v: a search below %v with %v finds %v, which does not match", f, begin, equal, found)
			}
		}
	}
	if narrowed < 1000 {
		t.Errorf("only %d of the filters could narrow", narrowed)
	}
}

// The vectors again, for an operation of which the request says everything: allowed exactly where the filter matches.
func TestA_filter_is_compared_with_what_the_request_says(t *testing.T) {
	var vectors []vector
	readJSON(t, "testdata/filter-vectors.json", &vectors)
	c, err := ruleCompiler()
	if err != nil {
		t.Fatal(err)
	}
	allowed, denied := 0, 0
	for _, v := range vectors {
		filter, problems := compileVector(t, c, v.Filters)
		metadata, isObject := parse(t, v.Metadata).(map[string]any)
		if len(problems) > 0 || !isObject {
			continue
		}
		p := &Policy{rules: &rules{all: &rule{filter: filter}}}
		bound, err := filter.bind(&scope{})
		if err != nil {
			t.Fatal(err)
		}
		d := p.Decide(Facts{Identity: &Identity{Name: "alice", Permissions: []string{}, Claims: map[string]any{}}}, []Operation{{Resource: "store", Action: "get", Given: metadata}})
		want := Forbidden
		if bound.Match(metadata) {
			want = Allow
			allowed++
		} else {
			denied++
		}
		if d.Outcome != want || len(d.Needs) > 0 {
			t.Errorf("%s: %v, want %v, without a look-up", v.Name, d.Outcome, want)
		}
	}
	if allowed < 10 || denied < 10 {
		t.Errorf("%d allowed and %d denied: too few to tell", allowed, denied)
	}
}
