package policy

import (
	"fmt"
	"strings"
	"testing"
)

// decideOn decides one operation of that value by an expression, as allow.
func decideOn(t testing.TB, expression string, value map[string]any) Decision {
	t.Helper()
	p := compileOne(t, Source{Rules: []RuleSource{{On: Text{Text: "x:y"}, Allow: &Text{Text: expression}}}})
	return p.Decide(Facts{Identity: &Identity{Name: "eve", Permissions: []string{"a"}, Claims: map[string]any{}}, Request: &Request{}}, []Operation{{Resource: "x", Action: "y", Value: map[string]any{"body": value}}})
}

// compileOne compiles one policy with a route for x:y.
func compileOne(t testing.TB, source Source) *Policy {
	t.Helper()
	source.Name, source.Hosts = "p", []Text{{Text: "*"}}
	source.API = APISource{Routes: []RouteSource{{Method: Text{Text: "POST"}, Path: Text{Text: "/"}, On: Text{Text: "x:y"}}}}
	s, err := New(Set{Policies: []Source{source}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s.Match("any", "")
}

// TestLarge_values_end_in_a_refusal_and_never_in_a_hang: without limits, each of these takes minutes at least, or all memory.
func TestLarge_values_end_in_a_refusal_and_never_in_a_hang(t *testing.T) {
	list := make([]any, 60_000)
	for i := range list {
		list[i] = fmt.Sprintf("item-%d", i)
	}
	numbers := make([]any, 60_000)
	for i := range numbers {
		numbers[i] = int64(i)
	}
	long := strings.Repeat("a", 4<<20)
	for name, c := range map[string]struct{ expression, reason string }{
		"an_item_in_a_list_for_each_item":             {"value.body.list.all(a, a in value.body.list)", "cost limit exceeded"},
		"a_list_made_of_lists_compared":               {"value.body.list.map(a, value.body.list) == value.body.list.map(b, value.body.list)", "cost limit exceeded"},
		"a_list_in_a_list_made_of_lists":              {"value.body.numbers in value.body.list.map(b, value.body.list)", "more values than there may be"},
		"a_set_in_a_set":                              {"sets.contains(value.body.list, value.body.numbers)", "cost limit exceeded"},
		"sets_that_intersect":                         {"sets.intersects(value.body.list, value.body.numbers)", "cost limit exceeded"},
		"equal_sets":                                  {"sets.equivalent(value.body.list, value.body.list)", "cost limit exceeded"},
		"a_text_that_replaces_each_letter":            {"value.body.long.replace('a', value.body.long) == 'b'", "text too long"},
		"a_text_that_replaces_nothing":                {"value.body.long.replace('', value.body.long, 3) == 'b'", "text too long"},
		"texts_joined_by_a_long_one":                  {"value.body.list.join(value.body.long) == 'b'", "text too long"},
		"a_long_text_for_each_item":                   {"value.body.list.map(a, value.body.long).join() == 'b'", "text too long"},
		"a_pattern_on_a_long_text":                    {`value.body.long.matches("(a|aa)+b(c?d?e?f?g?h?)+")`, "text too long"},
		"a_letter_of_a_long_text_for_each_number":     {"value.body.numbers.all(i, value.body.long.charAt(i) == 'a')", "cost limit exceeded"},
		"a_long_text_changed_for_each_item":           {"value.body.list.all(a, value.body.long.lowerAscii() != a)", "cost limit exceeded"},
		"a_long_text_added_to_each_item":              {"value.body.list.map(a, a + value.body.long).size() > 0 && false", "cost limit exceeded"},
		"a_long_text_split_for_each_item":             {"value.body.list.all(a, value.body.long.split('a').size() > 1)", "cost limit exceeded"},
		"a_long_text_added_to_itself_again_and_again": {"value.body.long" + strings.Repeat(" + value.body.long", 100) + " == 'b'", "cost limit exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			d := decideOn(t, c.expression, map[string]any{"list": list, "numbers": numbers, "long": long})
			if d.Outcome != Forbidden || !strings.HasSuffix(d.Reason, "allow: "+c.reason) {
				t.Errorf("%v: %s", d.Outcome, d.Reason)
			}
		})
	}
}

func TestThe_limits_leave_room_for_what_policies_do(t *testing.T) {
	list := make([]any, 5000)
	for i := range list {
		list[i] = map[string]any{"role": "user", "content": "hello", "tags": []any{"a", "b"}}
	}
	for _, expression := range []string{
		"value.body.list.all(m, m.role in ['user', 'system'])",
		"value.body.list.all(m, m.tags.all(t, t.startsWith('a') || t == 'b'))",
		"value.body.list.map(m, m.role).size() == 5000",
		"value.body.list == value.body.list",
		"!sets.intersects(user.permissions, ['b'])",
		"'x,y'.split(',').join('/').replace('/', '::') == 'x::y' && 'aXbXc'.replace('X', '-', 1) == 'a-bXc'",
		"'ada@example.com'.matches('^[a-z]+@example[.]com$')",
		"['b', 'a'].join() == 'ba' && [].join(',') == '' && ''.replace('a', 'b') == ''",
		"sets.contains(['a', 'b'], ['a']) && sets.equivalent(['a', 'b'], ['b', 'a', 'a']) && !sets.equivalent(['a'], ['b']) && sets.contains([], [])",
	} {
		if d := decideOn(t, expression, map[string]any{"list": list}); d.Outcome != Allow {
			t.Errorf("%s: %s", expression, d.Reason)
		}
	}
}

func TestThe_operations_of_one_request_share_a_limit(t *testing.T) {
	list := make([]any, 20_000)
	for i := range list {
		list[i] = "a"
	}
	p := compileOne(t, Source{Rules: []RuleSource{{On: Text{Text: "x:y"}, Allow: &Text{Text: "value.body.list.all(a, a == 'a')"}}}})
	ops := make([]Operation, maxOperations)
	for i := range ops {
		ops[i] = Operation{Resource: "x", Action: "y", Value: map[string]any{"body": map[string]any{"list": list}}}
	}
	facts := Facts{Identity: &Identity{Name: "eve"}, Request: &Request{}}
	if d := p.Decide(facts, ops[:4]); d.Outcome != Allow {
		t.Errorf("four operations: %s", d.Reason)
	}
	if d := p.Decide(facts, ops); d.Outcome != Forbidden || !strings.HasSuffix(d.Reason, "cost limit exceeded") {
		t.Errorf("%d operations: %v: %s", len(ops), d.Outcome, d.Reason)
	}
}

func TestWhat_a_stamp_makes_is_bounded(t *testing.T) {
	list := make([]any, 60_000)
	p := compileOne(t, Source{Rules: []RuleSource{{On: Text{Text: "x:y"}, Allow: &Text{Text: "true"}}}, IdentityHeaders: []HeaderSource{{Name: Text{Text: "x-a"}, Value: Text{Text: "user.permissions.map(a, user.permissions[0]).join()"}}}})
	id := &Identity{Name: "eve"}
	for range 1000 {
		id.Permissions = append(id.Permissions, strings.Repeat("a", 100))
	}
	if d := p.Decide(Facts{Identity: id, Request: &Request{}}, []Operation{{Resource: "x", Action: "y"}}); d.Outcome != Forbidden || !strings.Contains(d.Reason, "text too long") {
		t.Errorf("%v: %s", d.Outcome, d.Reason)
	}
	c, err := ruleCompiler()
	if err != nil {
		t.Fatal(err)
	}
	c.names = &vocabulary{}
	e, ps := c.compile(Text{Text: "value.body.list.map(a, value.body.list)"}, wantAny, true)
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	if _, err := e.value(&scope{value: map[string]any{"list": list}}); err == nil {
		t.Error("a stamp of 3,600,000,000 values")
	}
}
