package policy

import "testing"

func TestNobodyOwnsNothing(t *testing.T) {
	expr := func(s string) *Tree {
		return &Tree{IsObject: true, Members: []Member{{Name: Text{Text: "owner"}, Value: Tree{Scalar: s}}}}
	}
	op := Operation{Resource: "things", Action: "create", Creates: true, Stamps: true, Metadata: []string{"metadata"}, Value: map[string]any{}}
	events := map[string]map[string]Event{"things": {"create": {Filters: true, Stamps: true}}}
	presets := map[string]Preset{"p": {Events: events, Routes: []PresetRoute{{Method: "POST", Path: "/x", Map: func(Input) ([]Operation, error) { return []Operation{op}, nil }}}}}
	decide := func(rule RuleSource, id func(*Policy) *Identity, op Operation) Decision {
		t.Helper()
		rule.On = Text{Text: "things:create"}
		s, err := New(Set{Policies: []Source{{Name: "p", Anonymous: true, API: APISource{Preset: Text{Text: "p"}}, Rules: []RuleSource{rule}}}}, presets)
		if err != nil {
			t.Fatal(err)
		}
		p := s.Policies()[0]
		return p.Decide(Facts{Identity: id(p)}, []Operation{op})
	}
	nobody := (*Policy).Anonymous
	if d := decide(RuleSource{}, nobody, op); d.Outcome != Allow {
		t.Errorf("a rule for everybody: %v", d.Outcome)
	}
	if d := decide(RuleSource{Stamp: expr("user.identity")}, nobody, op); d.Outcome != Forbidden || len(d.Edits) > 0 {
		t.Errorf("a stamp of nobody's name: %v with %v", d.Outcome, d.Edits)
	}
	if d := decide(RuleSource{Filter: expr("user.identity")}, nobody, op); d.Outcome != Forbidden {
		t.Errorf("a filter of nobody's name: %v", d.Outcome)
	}
	unruled := op
	unruled.Unruled = true
	if d := decide(RuleSource{}, nobody, unruled); d.Outcome != Forbidden {
		t.Errorf("what every user may do: %v", d.Outcome)
	}
	if d := decide(RuleSource{}, func(*Policy) *Identity { return &Identity{} }, op); d.Outcome != Undecided {
		t.Errorf("the zero identity: %v", d.Outcome)
	}
}
