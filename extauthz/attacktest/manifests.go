package attacktest

import "strings"

// Manifests returns a file of the environment's manifests for servers at those base URLs, and the Secret that they name.
func (s *Suite) Manifests(urls map[string]string) ([]byte, error) {
	g := &lab{suite: s, urls: urls}
	var b strings.Builder
	for _, m := range s.Environment.Manifests {
		filled, err := g.fillAll(m)
		if err != nil {
			return nil, err
		}
		b.WriteString("---\n" + filled.String() + "\n")
	}
	b.WriteString("---\n" + `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"test"},"stringData":{"clientSecret":"` + ClientSecret + `"}}` + "\n")
	return []byte(b.String()), nil
}

// fillAll fills placeholders in every string; what looks like a generator is none here, but an operator of a filter.
func (g *lab) fillAll(v Value) (Value, error) {
	var err error
	if v.kind == '"' {
		v.text, err = g.fill(v.text)
		return v, err
	}
	out := Value{kind: v.kind, text: v.text}
	for _, m := range v.members {
		// A policy without hosts is reached by name only; Usher has that said by leaving hosts out.
		if m.name == "hosts" && m.value.kind == '[' && len(m.value.items) == 0 {
			continue
		}
		filled, err := g.fillAll(m.value)
		if err != nil {
			return v, err
		}
		// A reference is the name of a Secret there; Usher has it be an object.
		if strings.HasSuffix(m.name, "SecretRef") && filled.kind == '"' {
			filled = Value{kind: '{', members: []member{{"name", filled}}}
		}
		out.members = append(out.members, member{m.name, filled})
	}
	for _, item := range v.items {
		filled, err := g.fillAll(item)
		if err != nil {
			return v, err
		}
		out.items = append(out.items, filled)
	}
	return out, nil
}
