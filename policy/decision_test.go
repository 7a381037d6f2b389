package policy

import (
	"errors"
	"strings"
	"sync"
	"testing"
)

// one compiles a policy with one route, whose operations are those given.
func one(t testing.TB, rule RuleSource, ops ...Operation) *Policy {
	t.Helper()
	both := Event{Filters: true, Stamps: true}
	preset := Preset{
		Routes: []PresetRoute{{Method: "GET", Path: "/", Map: func(Input) ([]Operation, error) { return ops, nil }}},
		Events: map[string]map[string]Event{"things": {"read": both, "create": both}},
	}
	s, err := New(Set{Policies: []Source{{
		Name: "p", Hosts: []Text{{Text: "*"}}, API: APISource{Preset: Text{Text: "x"}}, Rules: []RuleSource{rule},
		IdentityHeaders: []HeaderSource{{Name: Text{Text: "x-user-id"}, Value: Text{Text: "user.identity"}}},
	}}}, map[string]Preset{"x": preset})
	if err != nil {
		t.Fatal(err)
	}
	return s.Match("any.test", "")
}

var owner = Tree{IsObject: true, Members: []Member{{Name: Text{Text: "owner"}, Value: Tree{Scalar: "user.identity"}}}}

func TestZeroValuesLetNothingPass(t *testing.T) {
	if (Decision{}).Outcome == Allow || Undecided != 0 {
		t.Error("the zero Decision allows")
	}
	if d := (Decision{}).Resolve(nil); d.Outcome != Undecided {
		t.Errorf("the zero Decision resolves to %v", d.Outcome)
	}
	if (Object{}).Found {
		t.Error("the zero Object was found")
	}
	if _, err := (Route{}).Operations("", nil); err == nil || errors.As(err, new(*Refusal)) {
		t.Errorf("the zero Route: %v, want a fault of our own", err)
	}
	if (Route{}).Public {
		t.Error("the zero Route is public")
	}
	var s Snapshot
	if p := s.Match("agents.test", ""); p != nil {
		t.Errorf("the zero Snapshot has %v", p.Name)
	}
	if !(Filter{}).IsZero() || !(Filter{}).Match(nil) {
		t.Error("the zero Filter is no filter")
	}
	if (&filterTerm{}).match(map[string]any{"": nil}) {
		t.Error("a term without an operator matches")
	}
}

func TestDecideWithoutFactsIsUndecided(t *testing.T) {
	p := one(t, RuleSource{On: Text{Text: "*"}})
	op := []Operation{{Resource: "things", Action: "read", Value: map[string]any{}}}
	if d := p.Decide(Facts{}, op); d.Outcome != Undecided {
		t.Errorf("without an identity: %v", d.Outcome)
	}
	if d := p.Decide(Facts{Identity: &Identity{Name: "alice"}}, nil); d.Outcome != Undecided {
		t.Errorf("without an operation: %v", d.Outcome)
	}
	if d := p.Decide(Facts{Identity: &Identity{Name: "alice"}}, op); d.Outcome != Allow {
		t.Errorf("with both: %v (%s)", d.Outcome, d.Reason)
	}
	asks := one(t, RuleSource{On: Text{Text: "*"}, Allow: &Text{Text: `request.method == "GET"`}})
	if d := asks.Decide(Facts{Identity: &Identity{Name: "alice"}}, op); d.Outcome != Forbidden {
		t.Errorf("a rule about the request, without one: %v", d.Outcome)
	}
}

func TestResolveNeedsEveryObject(t *testing.T) {
	ref := func(id string) Ref { return Ref{Resource: "things", ID: id, Path: "/things/" + id} }
	ops := []Operation{
		{Resource: "things", Action: "read", Value: map[string]any{}, Object: ref("1")},
		{Resource: "things", Action: "read", Value: map[string]any{}, Object: ref("2")},
		{Resource: "things", Action: "read", Value: map[string]any{}, Object: ref("1")},
	}
	p := one(t, RuleSource{On: Text{Text: "*"}, Filter: &owner})
	d := p.Decide(Facts{Identity: &Identity{Name: "alice"}}, ops)
	if d.Outcome != Undecided || len(d.Needs) != 2 {
		t.Fatalf("%v with needs %v", d.Outcome, d.Needs)
	}
	hers := Object{Found: true, Metadata: map[string]any{"owner": "alice"}}
	for _, c := range []struct {
		name  string
		found []Object
		want  Outcome
	}{
		{"none", nil, Undecided}, {"one", []Object{hers}, Undecided}, {"three", []Object{hers, hers, hers}, Undecided},
		{"both", []Object{hers, hers}, Allow}, {"the_second_is_missing", []Object{hers, {}}, NotFound},
		{"metadata_without_found", []Object{hers, {Metadata: hers.Metadata}}, NotFound},
		{"the_first_has_no_metadata", []Object{{Found: true}, hers}, NotFound},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := d.Resolve(c.found)
			if got.Outcome != c.want {
				t.Errorf("%v, want %v", got.Outcome, c.want)
			}
			if again := got.Resolve(c.found); again.Outcome != got.Outcome {
				t.Errorf("resolved again: %v", again.Outcome)
			}
			if c.want != Allow && c.want != Undecided && len(got.Headers)+len(got.Edits) > 0 {
				t.Errorf("a denial with %v %v", got.Headers, got.Edits)
			}
		})
	}
}

// An identity is shared by every request of its token, and by every policy that accepts its provider.
func TestIdentityHeadersAreEachPolicysOwn(t *testing.T) {
	a, b := one(t, RuleSource{On: Text{Text: "*"}}), one(t, RuleSource{On: Text{Text: "*"}})
	b.headers[0].name = "x-other"
	id := &Identity{Name: "alice"}
	op := []Operation{{Resource: "things", Action: "read", Value: map[string]any{}}}
	var wg sync.WaitGroup
	for i := range 64 {
		p, want := a, "x-user-id"
		if i%2 == 1 {
			p, want = b, "x-other"
		}
		wg.Go(func() {
			d := p.Decide(Facts{Identity: id}, op)
			if d.Outcome != Allow || len(d.Headers) != 1 || d.Headers[0] != (Header{Name: want, Value: "alice"}) {
				t.Errorf("%v with %v, want %s", d.Outcome, d.Headers, want)
			}
		})
	}
	wg.Wait()
}

func TestOutcomeNames(t *testing.T) {
	seen := map[string]bool{}
	for o := Undecided; o <= Unavailable; o++ {
		if s := o.String(); s == "" || strings.ContainsAny(s, " (") || seen[s] {
			t.Errorf("outcome %d is %q", o, s)
		} else {
			seen[s] = true
		}
	}
	if s := Outcome(200).String(); s != "outcome(200)" {
		t.Errorf("%q", s)
	}
}

func TestMapping(t *testing.T) {
	for _, c := range []struct {
		name, identity, display, permissions string
		claims                               string
		want                                 string // name|display name|permissions
		fails                                string
	}{
		{name: "defaults", claims: `{"sub":"alice"}`, want: "alice|alice|"},
		{name: "all", identity: "claims.email", display: "claims.name", permissions: `claims.scope.split(" ")`, claims: `{"email":"a@b","name":"Alice","scope":"x y"}`, want: "a@b|Alice|x y"},
		{name: "list_claim", permissions: "claims.roles", claims: `{"sub":"alice","roles":["x","y"]}`, want: "alice|alice|x y"},
		{name: "optional", display: "claims.?name.orValue(claims.sub)", permissions: "claims.?roles.orValue([])", claims: `{"sub":"alice"}`, want: "alice|alice|"},
		{name: "no_sub", claims: `{}`, fails: "identity"},
		{name: "sub_is_a_number", claims: `{"sub":5}`, fails: "identity"},
		{name: "sub_is_null", claims: `{"sub":null}`, fails: "identity"},
		{name: "sub_is_empty", claims: `{"sub":""}`, fails: "identity"},
		{name: "sub_is_a_list", claims: `{"sub":["secret-value"]}`, fails: "identity"},
		{name: "name_is_missing", display: "claims.name", claims: `{"sub":"alice"}`, fails: "displayName"},
		{name: "permissions_are_a_string", permissions: "claims.scope", claims: `{"sub":"alice","scope":"secret-value"}`, fails: "permissions"},
		{name: "permissions_are_mixed", permissions: "claims.scope", claims: `{"sub":"alice","scope":["x",5]}`, fails: "permissions"},
		{name: "no_such_key", permissions: "claims.teams[claims.team]", claims: `{"sub":"alice","team":"secret-value","teams":{}}`, fails: "permissions"},
		{name: "scope_is_missing", permissions: `claims.scope.split(" ")`, claims: `{"sub":"alice"}`, fails: "permissions"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := NewMapping(MappingSource{Text{Text: c.identity}, Text{Text: c.display}, Text{Text: c.permissions}})
			if err != nil {
				t.Fatal(err)
			}
			id, err := m.Identity(parse(t, []byte(c.claims)).(map[string]any))
			if c.fails != "" {
				if err == nil || !strings.Contains(err.Error(), "map claims to "+c.fails) || strings.Contains(err.Error(), "secret-value") {
					t.Errorf("%v, want a failure of %s that shows no claim", err, c.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := id.Name + "|" + id.DisplayName + "|" + strings.Join(id.Permissions, " "); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestMappingProblems(t *testing.T) {
	at := Position{File: "idp.yaml", Line: 3, Column: 5}
	_, err := NewMapping(MappingSource{Identity: Text{"user.identity", at}, DisplayName: Text{"5", at}, Permissions: Text{`"a"`, at}})
	var ps Problems
	if !errors.As(err, &ps) || len(ps) != 3 {
		t.Fatalf("%v, want three problems", err)
	}
	for _, want := range []string{"undeclared reference to 'user'", "expression gives int, expected string", "expression gives string, expected list(string)"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v: want %q", err, want)
		}
	}
	if _, err := NewMapping(MappingSource{}); err != nil {
		t.Errorf("the zero MappingSource: %v", err)
	}
}
