package policy

import (
	"fmt"
	"slices"
)

// Filter selects objects by their metadata, with LangGraph's operators: it is a rule's filter with its expressions
// evaluated. The zero Filter selects everything.
type Filter struct {
	terms []filterTerm // all must match
}

type filterTerm struct {
	op    filterOp
	key   string
	value Value    // opEqual
	items []Value  // opContains: each must be an element
	sub   []Filter // opOr, opAnd
}

type filterOp uint8

const (
	opEqual filterOp = iota + 1
	opContains
	opOr
	opAnd
)

// IsZero reports whether f selects everything.
func (f Filter) IsZero() bool { return len(f.terms) == 0 }

// Match reports whether the metadata is selected. Values are compared as Python does: 1 equals 1.0 and true, lists and
// objects by their elements, a missing name equals nothing, not even null. $contains looks into lists only.
func (f Filter) Match(metadata map[string]any) bool {
	for _, t := range f.terms {
		if !t.match(metadata) {
			return false
		}
	}
	return true
}

func (t filterTerm) match(metadata map[string]any) bool {
	matches := func(f Filter) bool { return f.Match(metadata) }
	switch t.op {
	case opEqual:
		v, ok := metadata[t.key]
		return ok && Equal(v, t.value)
	case opContains:
		list, ok := metadata[t.key].([]any)
		if !ok {
			return false
		}
		for _, want := range t.items {
			if !slices.ContainsFunc(list, func(v any) bool { return Equal(v, want) }) {
				return false
			}
		}
		return true
	case opOr:
		return slices.ContainsFunc(t.sub, matches)
	case opAnd:
		return !slices.ContainsFunc(t.sub, func(f Filter) bool { return !f.Match(metadata) })
	}
	return false
}

// Equalities returns f as names and the scalar values they must equal, if that is all that f says. Only such a filter
// can narrow a backend's search.
func (f Filter) Equalities() (map[string]Value, bool) {
	out := make(map[string]Value, len(f.terms))
	for _, t := range f.terms {
		switch t.op {
		case opEqual:
			switch t.value.(type) {
			case string, bool, int64, uint64, float64:
			default:
				return nil, false
			}
			if old, ok := out[t.key]; ok && !Equal(old, t.value) {
				return nil, false
			}
			out[t.key] = t.value
		case opAnd:
			for _, sub := range t.sub {
				more, ok := sub.Equalities()
				if !ok {
					return nil, false
				}
				for k, v := range more {
					if old, ok := out[k]; ok && !Equal(old, v) {
						return nil, false
					}
					out[k] = v
				}
			}
		default:
			return nil, false
		}
	}
	return out, true
}

// Equal compares two JSON values as Python's == does.
func Equal(a, b Value) bool {
	if x, ok := number(a); ok {
		y, ok := number(b)
		return ok && x.equal(y)
	}
	switch a := a.(type) {
	case nil:
		return b == nil
	case string:
		b, ok := b.(string)
		return ok && a == b
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, Equal)
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for k, v := range a {
			w, ok := b[k]
			if !ok || !Equal(v, w) {
				return false
			}
		}
		return true
	}
	return false
}

// numeric is an exact integer, or a fraction.
type numeric struct {
	negative  bool
	magnitude uint64
	fraction  float64
	inexact   bool
}

// number reads a JSON number, or a bool as Python counts it. A float past 2^53 may stand for several integers: it
// equals nothing, so that no filter selects what it should not.
func number(v Value) (numeric, bool) {
	const exact = 1 << 53
	switch v := v.(type) {
	case bool:
		if v {
			return numeric{magnitude: 1}, true
		}
		return numeric{}, true
	case int64:
		if v < 0 {
			return numeric{negative: true, magnitude: -uint64(v)}, true
		}
		return numeric{magnitude: uint64(v)}, true
	case uint64:
		return numeric{magnitude: v}, true
	case float64:
		if v >= exact || v <= -exact || v != v {
			return numeric{inexact: true}, true
		}
		if i := int64(v); float64(i) == v {
			return number(i)
		}
		return numeric{fraction: v}, true
	}
	return numeric{}, false
}

func (a numeric) equal(b numeric) bool { return !a.inexact && a == b }

// filterSource is a compiled filter whose expressions are still to be evaluated.
type filterSource struct {
	terms []termSource
}

type termSource struct {
	op    filterOp
	key   string
	value valueSource
	sub   []filterSource
}

// valueSource gives a value at run time: an expression, a constant, or a list or object of such.
type valueSource struct {
	expression *expression
	constant   Value
	list       []valueSource
	isList     bool
	object     []memberSource
	isObject   bool
}

type memberSource struct {
	name  string
	value valueSource
}

// maxFilterDepth is how deep $or and $and may nest (LangGraph 0.5.28 and later refuse more).
const maxFilterDepth = 2

// compileFilter compiles a filter of the manifest.
func (c *compiler) compileFilter(t Tree) (filterSource, Problems) {
	if !t.IsObject {
		return filterSource{}, Problems{{Pos: t.Pos, Found: "filter is not an object", Want: "names and values, such as {owner: user.identity}"}}
	}
	return c.compileFilterObject(t, 0)
}

func (c *compiler) compileFilterObject(t Tree, depth int) (filterSource, Problems) {
	var f filterSource
	var problems Problems
	for _, m := range t.Members {
		name := m.Name.Text
		switch {
		case name == "$or" || name == "$and":
			term, ps := c.compileBranches(m, depth)
			f.terms, problems = append(f.terms, term), append(problems, ps...)
		case len(name) > 0 && name[0] == '$':
			problems = append(problems, unknownOperator(m.Name, "$or or $and, or a metadata name"))
		case m.Value.IsObject:
			term, ps := c.compileOperator(m)
			f.terms, problems = append(f.terms, term), append(problems, ps...)
		default:
			v, ps := c.compileValue(m.Value)
			f.terms, problems = append(f.terms, termSource{op: opEqual, key: name, value: v}), append(problems, ps...)
		}
	}
	return f, problems
}

func (c *compiler) compileBranches(m Member, depth int) (termSource, Problems) {
	term := termSource{op: opOr}
	if m.Name.Text == "$and" {
		term.op = opAnd
	}
	if depth == maxFilterDepth {
		return term, Problems{{Pos: m.Name.Pos, Found: fmt.Sprintf("%s is nested too deep", m.Name.Text), Want: fmt.Sprintf("at most %d levels of $or and $and", maxFilterDepth), Hint: "LangGraph refuses such a filter too; use a rule's allow"}}
	}
	if !m.Value.IsList || len(m.Value.Items) < 2 {
		return term, Problems{{Pos: m.Value.Pos, Found: m.Name.Text + " without at least two filters", Want: "a list of two or more filters"}}
	}
	var problems Problems
	for _, item := range m.Value.Items {
		if !item.IsObject {
			problems = append(problems, Problem{Pos: item.Pos, Found: m.Name.Text + " with something else than a filter", Want: "an object, such as {owner: user.identity}"})
			continue
		}
		if len(item.Members) == 0 {
			problems = append(problems, Problem{Pos: item.Pos, Found: m.Name.Text + " with an empty filter", Want: "names and values", Hint: "an empty filter selects everything"})
			continue
		}
		sub, ps := c.compileFilterObject(item, depth+1)
		term.sub, problems = append(term.sub, sub), append(problems, ps...)
	}
	return term, problems
}

func (c *compiler) compileOperator(m Member) (termSource, Problems) {
	term := termSource{key: m.Name.Text}
	if len(m.Value.Members) != 1 {
		return term, Problems{{Pos: m.Value.Pos, Found: fmt.Sprintf("%d operators", len(m.Value.Members)), Want: "exactly one of $eq and $contains", Hint: "combine conditions on one name with $and"}}
	}
	operator := m.Value.Members[0]
	switch operator.Name.Text {
	case "$eq":
		term.op = opEqual
	case "$contains":
		term.op = opContains
	default:
		return term, Problems{unknownOperator(operator.Name, "$eq, $contains, $or or $and")}
	}
	v, ps := c.compileValue(operator.Value)
	term.value = v
	return term, ps
}

func unknownOperator(name Text, want string) Problem {
	return Problem{Pos: name.Pos, Found: fmt.Sprintf("unknown operator %q", name.Text), Want: want, Hint: "a filter selects what is allowed; refuse with `allow`"}
}

// compileValue compiles a value of a filter or a stamp: a string is an expression, any other scalar itself.
func (c *compiler) compileValue(t Tree) (valueSource, Problems) {
	var problems Problems
	switch {
	case t.IsNull:
		return valueSource{}, nil
	case t.IsList:
		v := valueSource{isList: true}
		for _, item := range t.Items {
			sub, ps := c.compileValue(item)
			v.list, problems = append(v.list, sub), append(problems, ps...)
		}
		return v, problems
	case t.IsObject:
		v := valueSource{isObject: true}
		for _, m := range t.Members {
			sub, ps := c.compileValue(m.Value)
			v.object, problems = append(v.object, memberSource{m.Name.Text, sub}), append(problems, ps...)
		}
		return v, problems
	}
	text, ok := t.Scalar.(string)
	if !ok {
		return valueSource{constant: t.Scalar}, nil
	}
	e, ps := c.compile(Text{Text: text, Pos: t.Pos}, wantAny, true)
	return valueSource{expression: e}, ps
}

func (v valueSource) eval(s *scope) (Value, error) {
	switch {
	case v.expression != nil:
		return v.expression.value(s)
	case v.isList:
		out := make([]any, len(v.list))
		for i, item := range v.list {
			var err error
			if out[i], err = item.eval(s); err != nil {
				return nil, err
			}
		}
		return out, nil
	case v.isObject:
		out := make(map[string]any, len(v.object))
		for _, m := range v.object {
			var err error
			if out[m.name], err = m.value.eval(s); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	return v.constant, nil
}

// bind evaluates the filter's expressions.
func (f filterSource) bind(s *scope) (Filter, error) {
	if len(f.terms) == 0 {
		return Filter{}, nil
	}
	out := Filter{terms: make([]filterTerm, len(f.terms))}
	for i, t := range f.terms {
		bound := filterTerm{op: t.op, key: t.key}
		for _, sub := range t.sub {
			b, err := sub.bind(s)
			if err != nil {
				return Filter{}, err
			}
			bound.sub = append(bound.sub, b)
		}
		if t.op == opEqual || t.op == opContains {
			v, err := t.value.eval(s)
			if err != nil {
				return Filter{}, fmt.Errorf("filter.%s: %w", t.key, err)
			}
			bound.value = v
			if list, ok := v.([]any); ok {
				bound.items = list
			} else {
				bound.items = []Value{v}
			}
		}
		out.terms[i] = bound
	}
	return out, nil
}

// names are the metadata names that the filter looks at.
func (f filterSource) names() []string {
	var out []string
	for _, t := range f.terms {
		if t.op == opEqual || t.op == opContains {
			out = append(out, t.key)
		}
		for _, sub := range t.sub {
			out = append(out, sub.names()...)
		}
	}
	return out
}

// narrows reports whether the filter can narrow a search, as far as its shape tells: see Filter.Equalities.
func (f filterSource) narrows() bool {
	return !slices.ContainsFunc(f.terms, func(t termSource) bool {
		return t.op == opContains || t.op == opOr || t.value.isList || t.value.isObject ||
			t.op == opAnd && slices.ContainsFunc(t.sub, func(s filterSource) bool { return !s.narrows() })
	})
}
