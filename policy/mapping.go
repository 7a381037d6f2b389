package policy

import (
	"errors"
	"fmt"
)

// MappingSource is the `identity` of an IdentityProvider: CEL expressions over `claims`. An empty Text takes the
// default: claims.sub, the identity, and no permissions.
type MappingSource struct {
	Identity, DisplayName, Permissions Text
}

// Mapping turns the claims of a verified token into an [Identity]. It is immutable and safe for concurrent use.
type Mapping struct {
	identity, displayName, permissions *expression
}

// NewMapping compiles the expressions; the error is [Problems] where one of them is wrong.
func NewMapping(source MappingSource) (*Mapping, error) {
	c, err := claimCompiler()
	if err != nil {
		return nil, err
	}
	if source.Identity.Text == "" {
		source.Identity.Text = "claims.sub"
	}
	m := &Mapping{}
	var problems Problems
	compile := func(t Text, want result) *expression {
		if t.Text == "" {
			return nil
		}
		e, ps := c.compile(t, want, true)
		for i := range ps {
			if ps[i].Hint != "" {
				ps[i].Hint = "an identity mapping sees only claims"
			}
		}
		problems = append(problems, ps...)
		return e
	}
	m.identity = compile(source.Identity, wantString)
	m.displayName = compile(source.DisplayName, wantString)
	m.permissions = compile(source.Permissions, wantStrings)
	if len(problems) > 0 {
		return nil, problems.Sort()
	}
	return m, nil
}

// Identity maps the claims. An error (a claim is missing or of another type, or the identity is empty) means that the
// token says too little to know who it speaks for: it never grants anything. The error holds no claim's value.
// Provider and Expires are left for the caller.
func (m *Mapping) Identity(claims map[string]any) (*Identity, error) {
	s := &scope{claims: claims}
	id := &Identity{Claims: claims}
	var err error
	if id.Name, err = m.identity.string(s); err != nil {
		return nil, fmt.Errorf("map claims to identity: %s", fault(err))
	}
	if id.Name == "" {
		return nil, errors.New("map claims to identity: it is empty")
	}
	id.DisplayName = id.Name
	if m.displayName != nil {
		if id.DisplayName, err = m.displayName.string(s); err != nil {
			return nil, fmt.Errorf("map claims to displayName: %s", fault(err))
		}
	}
	if m.permissions != nil {
		if id.Permissions, err = m.permissions.strings(s); err != nil {
			return nil, fmt.Errorf("map claims to permissions: %s", fault(err))
		}
	}
	return id, nil
}
