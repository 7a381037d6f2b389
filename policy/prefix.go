package policy

import "slices"

// Prefix is what a search says of one list of each object that it can find: how the list begins.
type Prefix struct {
	Name  string   // of the list in an object, such as "namespace"
	Value []any    // what the request asks for; empty: any beginning
	At    []string // where in the body the object stands that has it
	As    string   // its name there
	Other []string // names of an object's that the search cannot be narrowed by
}

// below divides a filter for a search below a prefix. What it says of the list must hold for every object there: begin says
// how the list must begin so that it does, nil where the request's own prefix is enough. rest is what the filter says of other
// names. ok is false where no beginning is enough.
func (f Filter) below(p *Prefix) (begin []any, rest Filter, ok bool) {
	for _, t := range f.terms {
		switch {
		case t.op == opAnd:
			for _, sub := range t.sub {
				first, more, ok := sub.below(p)
				if !ok || !agree(&begin, first) {
					return nil, Filter{}, false
				}
				rest.terms = append(rest.terms, more.terms...)
			}
		case t.op == opOr:
			// One branch that holds for all of them is enough; else nothing is known of any.
			if !slices.ContainsFunc(t.sub, func(sub Filter) bool {
				first, more, ok := sub.below(p)
				return ok && first == nil && more.IsZero()
			}) {
				return nil, Filter{}, false
			}
		case slices.Contains(p.Other, t.key):
			return nil, Filter{}, false
		case t.key != p.Name:
			rest.terms = append(rest.terms, t)
		case t.op != opContains || len(t.items) == 0:
			return nil, Filter{}, false // a longer list would be another one
		default:
			first, ok := t.beginning(p.Value)
			if !ok || !agree(&begin, first) {
				return nil, Filter{}, false
			}
		}
	}
	return begin, rest, true
}

// beginning says how a list must begin so that it contains what t wants: as it does by itself, or, where nothing is asked
// for, with the one label that t wants. A * is no label: some stores take it for any.
func (t filterTerm) beginning(prefix []any) (begin []any, ok bool) {
	wild := func(v any) bool { return v == any("*") || v == any("") }
	if slices.ContainsFunc(t.items, wild) {
		return nil, false
	}
	missing := slices.ContainsFunc(t.items, func(want any) bool {
		return !slices.ContainsFunc(prefix, func(have any) bool { return Equal(have, want) })
	})
	if !missing {
		return nil, true
	}
	label, isText := t.items[0].(string)
	if len(prefix) > 0 || len(t.items) != 1 || !isText {
		return nil, false
	}
	return []any{label}, true
}

// agree joins two beginnings; nil asks for none.
func agree(begin *[]any, more []any) bool {
	if *begin == nil {
		*begin = more
		return true
	}
	return more == nil || Equal(*begin, more)
}
