package policy

import (
	"encoding/json"
	"strings"
)

// String returns f as people read it: `owner == "alice" and (public == true or readers contains "alice")`. The zero Filter is
// `anything`.
func (f Filter) String() string {
	if f.IsZero() {
		return "anything"
	}
	return f.text(false)
}

func (f Filter) text(nested bool) string {
	parts := make([]string, len(f.terms))
	for i, t := range f.terms {
		parts[i] = t.text(len(f.terms) > 1)
	}
	out := strings.Join(parts, " and ")
	if nested && len(parts) > 1 {
		return "(" + out + ")"
	}
	return out
}

func (t filterTerm) text(nested bool) string {
	word := " or "
	switch t.op {
	case opEqual:
		return t.key + " == " + jsonText(t.value)
	case opContains:
		if _, list := t.value.([]any); list {
			return t.key + " contains all of " + jsonText(t.value)
		}
		return t.key + " contains " + jsonText(t.value)
	case opAnd:
		word = " and "
	}
	parts := make([]string, len(t.sub))
	for i, f := range t.sub {
		parts[i] = f.text(true)
	}
	out := strings.Join(parts, word)
	if nested {
		return "(" + out + ")"
	}
	return out
}

// jsonText writes a value as JSON; names are sorted.
func jsonText(v Value) string {
	text, err := json.Marshal(v)
	if err != nil {
		return "a value that is no JSON"
	}
	return string(text)
}
