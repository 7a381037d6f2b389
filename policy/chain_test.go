package policy

import (
	"fmt"
	"strings"
	"testing"
)

// chained are conditions each of which says what it says of the one before.
func chained(n int, first, each string) (out []Condition) {
	for i := range n {
		text := first
		if i > 0 {
			text = strings.ReplaceAll(each, "LAST", fmt.Sprintf("conditions.c%d", i-1))
		}
		if i > 1 {
			text = strings.ReplaceAll(text, "OTHER", fmt.Sprintf("conditions.c%d", i-2))
		}
		text = strings.ReplaceAll(text, "OTHER", "true")
		out = append(out, Condition{Name: Text{Text: fmt.Sprintf("c%d", i)}, Value: Text{Text: text}})
	}
	return out
}

// TestConditions_that_name_each_other_twice_cost_what_they_are: what is read, asked for and estimated would double with each of
// them, to 2^30 of everything; and so would the evaluations, were a condition not evaluated once for each operation.
func TestConditions_that_name_each_other_twice_cost_what_they_are(t *testing.T) {
	const first = `"a" in user.permissions && value.body.x == "b" && value.query.y == "c"`
	for name, each := range map[string]string{
		"twice_the_last":       "LAST && LAST",
		"either_of_the_last":   "LAST || OTHER || LAST",
		"the_last_two":         "LAST && OTHER",
		"denied_and_not":       "LAST && !OTHER || !LAST",
		"the_last_in_a_choice": "LAST ? LAST : OTHER",
	} {
		t.Run(name, func(t *testing.T) {
			p := compileOne(t, Source{
				Conditions: chained(maxChain, first, each),
				Rules:      []RuleSource{{On: Text{Text: "x:y"}, Allow: &Text{Text: fmt.Sprintf("conditions.c%d && conditions.c%[1]d", maxChain-1)}}},
			})
			e := p.rules.find("x", "y").allow
			if got := fmt.Sprint(e.reads.fields, e.scopes); got != "[body query] [a]" {
				t.Errorf("fields and scopes: %s", got)
			}
			if len(e.reads.names) > 20 || len(e.reads.others) > maxChain+2 {
				t.Errorf("%d names, %d others", len(e.reads.names), len(e.reads.others))
			}
			d := p.Decide(Facts{Identity: &Identity{Name: "ada"}, Request: &Request{}}, []Operation{{Resource: "x", Action: "y", Value: map[string]any{"body": map[string]any{}}}})
			if d.Outcome == Undecided {
				t.Error("undecided")
			}
		})
	}
}

func TestConditions_are_bounded(t *testing.T) {
	texts := func(n int) string {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf(`"%d"`, i))
		}
		return "value.body.x in [" + strings.Join(list, ",") + "]"
	}
	wide := func(n int) (out []Condition) {
		for i := range n {
			out = append(out, Condition{Name: Text{Text: fmt.Sprintf("c%d", i)}, Value: Text{Text: "true"}})
		}
		return out
	}
	for _, c := range []struct {
		name       string
		conditions []Condition
		allow      string
		want       string // a problem; empty: none
	}{
		{"as_many_as_there_may_be", wide(256), "conditions.c255", ""},
		{"one_more", wide(257), "conditions.c256", "257 conditions, expected at most 256"},
		{"as_deep_as_they_may_be", chained(32, "true", "LAST"), "conditions.c31", ""},
		{"one_deeper", chained(33, "true", "LAST"), "conditions.c32", `condition "c32", which needs others 33 deep, expected at most 32`},
		{"much_deeper", chained(256, "true", "LAST"), "conditions.c255", `condition "c32", which needs others 33 deep, expected at most 32`},
		{"as_many_texts_as_there_may_be", nil, texts(1000), ""},
		{"more_with_those_of_conditions", func() (out []Condition) {
			for i := range 5 {
				out = append(out, Condition{Name: Text{Text: fmt.Sprintf("c%d", i)}, Value: Text{Text: strings.ReplaceAll(texts(1000), `,"`, fmt.Sprintf(`,"%d`, i+1))}})
			}
			return out
		}(), "conditions.c0 || conditions.c1 || conditions.c2 || conditions.c3 || conditions.c4", "expression that looks for"},
	} {
		t.Run(c.name, func(t *testing.T) {
			source := Source{Name: "p", Hosts: []Text{{Text: "*"}}, Conditions: c.conditions, Rules: []RuleSource{{On: Text{Text: "x:y"}, Allow: &Text{Text: c.allow}}}}
			source.API = APISource{Routes: []RouteSource{{Method: Text{Text: "POST"}, Path: Text{Text: "/"}, On: Text{Text: "x:y"}}}}
			_, err := New(Set{Policies: []Source{source}}, nil)
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), c.want) || strings.Contains(err.Error(), "\n")):
				t.Errorf("got %v\nwant %s", err, c.want)
			}
		})
	}
}
