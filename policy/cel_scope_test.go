package policy

import (
	"testing"

	"cel.dev/cel-go/common/types"
)

// The rule that looks for one scope is decided without CEL: it must come out as CEL has it.
func TestA_rule_of_one_scope_is_decided_as_CEL_decides_it(t *testing.T) {
	c, err := ruleCompiler()
	if err != nil {
		t.Fatal(err)
	}
	users := map[string]*Identity{
		"nobody":  {anonymous: true},
		"none":    {Name: "a"},
		"it":      {Name: "a", Permissions: []string{"read"}},
		"another": {Name: "a", Permissions: []string{"write", "reader", "Read", ""}},
		"both":    {Name: "a", Permissions: []string{"write", "read"}},
	}
	for text, short := range map[string]bool{
		`'read' in user.permissions`:                                true,
		`('read' in user.permissions)`:                              true,
		`'' in user.permissions`:                                    false,
		`!('read' in user.permissions)`:                             false,
		`'read' in ['read']`:                                        false,
		`user.identity in ['read', 'a']`:                            false,
		`'read' in user.permissions && 'write' in user.permissions`: false,
	} {
		e, problems := c.compile(Text{Text: text}, wantBool, false)
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		if got := e.scope != ""; got != short {
			t.Errorf("%s: decided without CEL: %v, want %v", text, got, short)
		}
		for name, user := range users {
			want, _, err := e.program.Eval(&scope{user: user})
			got, gotErr := e.bool(&scope{user: user})
			if (err == nil) != (gotErr == nil) || err == nil && types.Bool(got) != want {
				t.Errorf("%s for %s: %v, %v; CEL has %v, %v", text, name, got, gotErr, want, err)
			}
		}
	}
}
