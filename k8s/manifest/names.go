package manifest

import (
	"strings"

	"github.com/usher-authz/usher/policy"
)

// variables converts the variables and conditions of a policy; the policy package checks them.
func (c *compiler) variables(o *Object) (variables []policy.Member, conditions []policy.Condition) {
	if t, ok := o.find("spec", "variables"); ok {
		variables = t.Members
	}
	t, _ := o.find("spec", "conditions")
	for _, m := range t.Members {
		if e := c.expression(o, "spec", "conditions", m.Name.Text); e != nil {
			conditions = append(conditions, policy.Condition{Name: m.Name, Value: *e})
		}
	}
	return variables, conditions
}

// unfiltered converts the expression that lifts a rule's filter; nil if there is none.
func (c *compiler) unfiltered(o *Object, i int) *policy.Text {
	if _, given := o.find("spec", "rules", i, "unfiltered"); !given {
		return nil
	}
	return c.expression(o, "spec", "rules", i, "unfiltered")
}

// expression returns the text of an expression that gives a bool; nil if there is none to compile.
func (c *compiler) expression(o *Object, path ...any) *policy.Text {
	t := o.text(path...)
	if strings.TrimSpace(t.Text) != "" {
		return &t
	}
	if !o.broken {
		c.add(t.Pos, "found an empty expression", "CEL that gives a bool", "")
	}
	return nil
}

// message converts what the client reads where the rule denies.
func (c *compiler) message(o *Object, i int) policy.Text {
	t := o.text("spec", "rules", i, "message")
	if _, given := o.find("spec", "rules", i, "message"); given && t.Text == "" && !o.broken {
		c.add(t.Pos, "found an empty message", "what the client reads where the rule denies", "leave it out")
	}
	return t
}
