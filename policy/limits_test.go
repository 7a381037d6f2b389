package policy

import (
	"bytes"
	"testing"
)

func TestTextsOfNothingButSmallValuesAreRefused(t *testing.T) {
	list := func(n int) []byte {
		return append(append([]byte("[0"), bytes.Repeat([]byte(",0"), n-1)...), ']')
	}
	if _, err := ParseValue(list(maxValues - 1)); err != nil {
		t.Errorf("%d values: %v", maxValues, err)
	}
	if _, err := ParseValue(list(maxValues)); err == nil {
		t.Errorf("%d values are accepted", maxValues+1)
	}
}

func TestABackendThatRemembersHeadersIsSentAnEmptyOne(t *testing.T) {
	preset := func(remembers bool) map[string]Preset {
		return map[string]Preset{"p": {
			Routes: []PresetRoute{{Method: "GET", Path: "/x", Map: func(Input) ([]Operation, error) {
				return []Operation{{Resource: "things", Action: "read", Value: map[string]any{}}}, nil
			}}},
			Events:         map[string]map[string]Event{"things": {"read": {}}},
			IdentityPrefix: "x-", RemembersHeaders: remembers,
		}}
	}
	source := func(header string) Source {
		return Source{
			Name: "p", API: APISource{Preset: Text{Text: "p"}}, Rules: []RuleSource{{On: Text{Text: "*"}}},
			IdentityHeaders: []HeaderSource{{Name: Text{Text: header}, Value: Text{Text: `user.permissions.join(",")`}}},
		}
	}
	for _, remembers := range []bool{true, false} {
		s, err := New(Set{Policies: []Source{source("x-user-permissions")}}, preset(remembers))
		if err != nil {
			t.Fatal(err)
		}
		p := s.Policies()[0]
		route, err := p.Route("GET", "/x")
		if err != nil {
			t.Fatal(err)
		}
		ops, err := route.Operations("", nil)
		if err != nil {
			t.Fatal(err)
		}
		d := p.Decide(Facts{Identity: &Identity{Name: "bob"}}, ops)
		if want := (Header{Name: "x-user-permissions", Keep: remembers}); d.Outcome != Allow || len(d.Headers) != 1 || d.Headers[0] != want {
			t.Errorf("%v with %v, want %v", d.Outcome, d.Headers, want)
		}
	}
	if _, err := New(Set{Policies: []Source{source("from-user")}}, preset(true)); err == nil {
		t.Error("an identity header that a body could stand in for is accepted")
	}
}
