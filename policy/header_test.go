package policy

import (
	"fmt"
	"strings"
	"testing"
)

func TestHeaderValue(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"visible_ASCII", "alice <a@b.c>", "alice <a@b.c>"},
		{"another_script", "Zoë", "Zo%C3%AB"},
		{"the_percent_sign", "100%", "100%25"},
		{"the_longest", strings.Repeat("a", maxHeaderValue), strings.Repeat("a", maxHeaderValue)},
	} {
		if got, err := headerValue(c.text); err != nil || got != c.want {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
	}
	for name, text := range map[string]string{
		"a_line_break": "a\r\nx-admin: 1", "a_zero": "a\x00", "a_tab": "a\tb", "delete": "a\x7f", "not_UTF-8": "\xff",
		"a_space_at_the_end": "a ", "too_long": strings.Repeat("a", maxHeaderValue+1), "too_long_once_encoded": strings.Repeat("é", maxHeaderValue/4),
	} {
		if got, err := headerValue(text); err == nil {
			t.Errorf("%s: %q is accepted", name, got)
		}
	}
}

func TestIdentity_headers_are_bounded_in_all(t *testing.T) {
	source := Source{
		Name: "p", Rules: []RuleSource{{On: Text{Text: "*"}}},
		API: APISource{Routes: []RouteSource{{Method: Text{Text: "GET"}, Path: Text{Text: "/x"}, On: Text{Text: "x:read"}}}},
	}
	for i := range 3 {
		source.IdentityHeaders = append(source.IdentityHeaders, HeaderSource{Name: Text{Text: fmt.Sprint("x-", i)}, Value: Text{Text: "user.identity"}})
	}
	s, err := New(Set{Policies: []Source{source}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ops := []Operation{{Resource: "x", Action: "read", Unfilterable: true}}
	for n, want := range map[int]Outcome{2700: Allow, 2800: Forbidden} {
		if d := s.Policies()[0].Decide(Facts{Identity: &Identity{Name: strings.Repeat("a", n)}}, ops); d.Outcome != want || want != Allow && d.Headers != nil {
			t.Errorf("three of %d bytes: %v, want %v", n, d.Outcome, want)
		}
	}
}
