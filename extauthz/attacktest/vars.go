package attacktest

import (
	"fmt"
)

// variables gives what {{name}} stands for: the case's tokens, minted once each, a step's own one, minted for each of its
// requests, and parts of the request.
type variables struct {
	request *Request
	own     *Recipe // of the step
	current string  // own, minted for this request
	made    map[string]string
}

func (v *variables) value(g *lab, c *Case, name string) (string, error) {
	switch name {
	case "method":
		return g.text(v.request.Method)
	case "host":
		return g.text(v.request.Host)
	case "path_without_query":
		path, err := g.text(v.request.Path)
		return bare(path), err
	case "token":
		if v.own != nil {
			if v.current == "" {
				if err := v.mintCase(g, c); v.own.sameAsCaseToken && err != nil {
					return "", err
				}
				m, err := g.mint(v.own)
				if err != nil {
					return "", fmt.Errorf("mint the step's token: %w", err)
				}
				v.current = m.text
			}
			return v.current, nil
		}
		err := v.mintCase(g, c)
		return v.made["token"], err
	}
	recipe := c.Tokens[name]
	if recipe == nil {
		return "", fmt.Errorf("unknown variable {{%s}}", name)
	}
	if text, ok := v.made[name]; ok {
		return text, nil
	}
	m, err := g.mint(recipe)
	if err != nil {
		return "", fmt.Errorf("mint {{%s}}: %w", name, err)
	}
	v.keep(name, m.text)
	return m.text, nil
}

// mintCase mints the case's token, once.
func (v *variables) mintCase(g *lab, c *Case) error {
	if g.caseToken != nil {
		return nil
	}
	if c.Token == nil {
		return fmt.Errorf("{{token}}, but the case has no token")
	}
	m, err := g.mint(c.Token)
	if err != nil {
		return fmt.Errorf("mint the token: %w", err)
	}
	g.caseToken = &m
	v.keep("token", m.text)
	return nil
}

func (v *variables) keep(name, text string) {
	if v.made == nil {
		v.made = map[string]string{}
	}
	v.made[name] = text
}
