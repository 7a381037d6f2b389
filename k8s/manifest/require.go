package manifest

import (
	"fmt"
	"strings"
	"time"

	"github.com/usher-authz/usher/policy"
)

// require checks the scopes that a rule asks for.
func (c *compiler) require(o *Object, i int) []string {
	scopes := o.AuthPolicy.Spec.Rules[i].Require
	c.list(o, "spec", "rules", i, "require")
	c.strings(o, scopes, "scope", "spec", "rules", i, "require")
	for j, scope := range scopes {
		c.challengeable(o, scope, "scope", "spec", "rules", i, "require", j)
	}
	return scopes
}

// login checks what a rule asks of the login behind a token (RFC 9470).
func (c *compiler) login(o *Object, i int) policy.Login {
	in := o.AuthPolicy.Spec.Rules[i].StepUp
	if in == nil {
		return policy.Login{}
	}
	out := policy.Login{ACRValues: in.ACRValues}
	c.list(o, "spec", "rules", i, "stepUp", "acrValues")
	c.strings(o, in.ACRValues, "acr value", "spec", "rules", i, "stepUp", "acrValues")
	for j, value := range in.ACRValues {
		c.challengeable(o, value, "acr value", "spec", "rules", i, "stepUp", "acrValues", j)
	}
	if in.MaxAge != nil {
		out.MaxAge = in.MaxAge.Duration
		if (out.MaxAge < time.Second || out.MaxAge%time.Second != 0) && !o.broken {
			c.add(o.at("spec", "rules", i, "stepUp", "maxAge"), "found "+out.MaxAge.String(), "whole seconds, at least 1s", "clients are told it in seconds (RFC 9470, section 3)")
		}
	}
	if in.MaxAge == nil {
		if _, given := o.find("spec", "rules", i, "stepUp", "acrValues"); !given {
			c.missing(o, "acrValues or maxAge", "spec", "rules", i, "stepUp")
		}
	}
	return out
}

// list refuses a list that is given and empty.
func (c *compiler) list(o *Object, path ...any) {
	if t, given := o.find(path...); given && t.IsList && len(t.Items) == 0 {
		c.add(o.at(path...), "found an empty list", "at least one item", "leave the field out")
	}
}

// challengeable refuses what a challenge cannot carry as one of several values (RFC 6749, section 3.3).
func (c *compiler) challengeable(o *Object, text, what string, path ...any) {
	if text != "" && (!isVisible(text) || strings.ContainsAny(text, `"\`)) {
		c.add(o.at(path...), fmt.Sprintf("found %s %q", what, text), "visible characters without spaces, quotes and backslashes", "a list has one an item")
	}
}
