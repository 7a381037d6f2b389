package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// place is where in a body a stamp goes: names from the root, and each, which stands for every element of a list.
type place struct {
	steps []step
	lists bool // one of them is each
}

type step struct {
	name string
	each bool
}

// parsePlace reads "labels", "order.labels", "orders[].labels", "[].labels", "." (the body itself), or a JSON Pointer
// (RFC 6901) that starts with a slash.
func parsePlace(t Text) (*place, *Problem) {
	const want = `a place such as labels, order.labels, orders[].labels, "." (the body itself), or a JSON Pointer`
	bad := &Problem{Pos: t.Pos, Found: fmt.Sprintf("stampAt %q", t.Text), Want: want}
	p := &place{}
	if pointer, ok := strings.CutPrefix(t.Text, "/"); ok {
		for part := range strings.SplitSeq(pointer, "/") {
			name := strings.NewReplacer("~1", "/", "~0", "~").Replace(part)
			if strings.Contains(strings.NewReplacer("~0", "", "~1", "").Replace(part), "~") {
				return nil, bad
			}
			if _, err := strconv.Atoi(name); err == nil || name == "-" {
				bad.Hint = "a number would be an element of a list; orders[].labels means every element"
				return nil, bad
			}
			p.steps = append(p.steps, step{name: name})
		}
		return p, p.check(bad)
	}
	if t.Text == "." {
		return p, nil
	}
	for i, part := range strings.Split(t.Text, ".") {
		name, each := strings.CutSuffix(part, "[]")
		if name == "" && (!each || i > 0) || strings.ContainsAny(name, "[]/{}*$ ") {
			return nil, bad
		}
		if name != "" {
			p.steps = append(p.steps, step{name: name})
		}
		if each {
			p.steps, p.lists = append(p.steps, step{each: true}), true
		}
	}
	return p, p.check(bad)
}

func (p *place) check(bad *Problem) *Problem {
	switch {
	case len(p.steps) > 16:
		bad.Want = "at most 16 steps"
		return bad
	case slices.ContainsFunc(p.steps, func(s step) bool { return s.name == "__proto__" || !s.each && s.name == "" }):
		return bad
	}
	return nil
}

// spot is one object of a body that a stamp is for.
type spot struct {
	at       []string // never nil
	metadata map[string]any
}

// find walks the body and returns every object at the place; one that is missing has no metadata. What stands in the way
// is refused, and so is what some backends would read as another spelling of the place. update says that the object
// exists at the backend, where a null could remove what is there.
func (p *place) find(body Value, stamped []string, update bool) ([]spot, error) {
	if body == nil {
		body = map[string]any{}
	}
	return p.walk(nil, body, make([]string, 0, len(p.steps)), 0, stamped, update)
}

func (p *place) walk(out []spot, v Value, at []string, i int, stamped []string, update bool) ([]spot, error) {
	here := strings.Join(at, ".")
	if here == "" {
		here = "The body"
	}
	if i < len(p.steps) && p.steps[i].each {
		list, ok := v.([]any)
		if !ok || len(list) == 0 {
			return nil, &Refusal{Outcome: BadRequest, Detail: here + " must be a list with at least one element."}
		}
		if len(out)+len(list) > maxOperations {
			return nil, &Refusal{Outcome: BadRequest, Detail: fmt.Sprintf("%s has more than %d elements.", here, maxOperations)}
		}
		for j, item := range list {
			var err error
			if out, err = p.walk(out, item, append(slices.Clip(at), strconv.Itoa(j)), i+1, stamped, update); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	object, ok := v.(map[string]any)
	if v == nil && len(at) > 0 && !update {
		ok = true
	}
	if !ok {
		return nil, &Refusal{Outcome: BadRequest, Detail: here + " must be a JSON object."}
	}
	names := stamped
	if i < len(p.steps) {
		names = []string{p.steps[i].name}
	}
	for name := range object {
		if name == "__proto__" || slices.ContainsFunc(names, func(want string) bool { return alias(name, want) }) {
			return nil, &Refusal{Outcome: BadRequest, Detail: here + " has a member that is another spelling of the gate's own."}
		}
	}
	if i == len(p.steps) {
		return append(out, spot{slices.Clip(at), object}), nil
	}
	next, given := object[p.steps[i].name]
	if !given && i+1 < len(p.steps) && p.steps[i+1].each {
		return nil, &Refusal{Outcome: BadRequest, Detail: "The body lacks " + p.steps[i].name + "."}
	}
	if !given {
		next = map[string]any{} // made by the edit
	}
	return p.walk(out, next, append(at, p.steps[i].name), i+1, stamped, update)
}

// alias reports whether some backend takes a member for another one although their names differ: in another case
// (encoding/json of Go), or as a path into it (labels.owner or labels[owner], where a database or a framework expands names).
func alias(name, want string) bool {
	if name == want {
		return false
	}
	folded, target := fold(name), fold(want)
	if folded == target {
		return true
	}
	if rest, ok := strings.CutPrefix(folded, target); ok && (rest[0] == '.' || rest[0] == '[') {
		return true
	}
	return false
}
