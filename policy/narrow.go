package policy

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// narrowing is the query parameters of a list, with their expressions.
type narrowing struct {
	parameters []memberSource // value: an expression
}

// compileNarrow compiles `narrow` of a route.
func (c *compiler) compileNarrow(source *NarrowSource) (*narrowing, Problems) {
	n := &narrowing{}
	var problems Problems
	if len(source.Query) == 0 {
		return nil, Problems{{Pos: source.Pos, Found: "narrow without query", Want: "query parameters and expressions, such as {query: {owner: user.identity}}"}}
	}
	if many := len(source.Query); many > maxNarrow {
		return nil, Problems{{Pos: source.Pos, Found: fmt.Sprintf("narrow with %d query parameters", many), Want: fmt.Sprintf("at most %d", maxNarrow)}}
	}
	for _, m := range source.Query {
		name := m.Name.Text
		if name == "" || strings.ContainsFunc(name, func(r rune) bool { return isControl(r) || r == '%' || r == '&' || r == ';' }) || len(parameterPath(name)) == 0 {
			problems = append(problems, Problem{Pos: m.Name.Pos, Found: fmt.Sprintf("query parameter %q", name), Want: "its decoded name, such as owner or filter[owner]"})
			continue
		}
		if i := slices.IndexFunc(n.parameters, func(o memberSource) bool { return sameParameter(o.name, name) }); i >= 0 {
			problems = append(problems, Problem{Pos: m.Name.Pos, Found: fmt.Sprintf("query parameter %q, which a backend could take for %q", name, n.parameters[i].name), Want: "one of them"})
			continue
		}
		e, ps := c.compile(m.Value, wantText, true)
		problems = append(problems, ps...)
		n.parameters = append(n.parameters, memberSource{name, valueSource{expression: e}})
	}
	return n, problems
}

// carries reports whether each value that the filter asks for is one that the query now asks for.
func carries(query []memberText, want map[string]Value) bool {
	for name, v := range want {
		text, ok := parameterText(v)
		if !ok {
			return false
		}
		i := slices.IndexFunc(query, func(m memberText) bool { return m.name == name })
		if i >= 0 && query[i].text != text || i < 0 && !slices.ContainsFunc(query, func(m memberText) bool { return m.text == text }) {
			return false
		}
	}
	return true
}

type memberText struct{ name, text string }

// narrowQuery sets the parameters that narrow a list, whatever the client says of them, and denies a list whose filter
// they do not carry.
func (d *Decision) narrowQuery(op *Operation, s *scope, filter Filter, deny func(string) *Decision) *Decision {
	var set []memberText
	for _, p := range op.narrow.parameters {
		v, given, err := p.value.expression.optional(s)
		if err != nil {
			return deny("narrow: " + fault(err))
		}
		if !given {
			continue
		}
		text, ok := parameterText(v)
		if !ok || text == "" {
			return deny("narrow: a value that is empty or no text, which would narrow nothing")
		}
		set = append(set, memberText{p.name, text})
	}
	if !filter.IsZero() {
		want, ok := filter.Equalities()
		if !ok {
			s.trace.narrowed(filter, "its filter cannot narrow this list")
			return deny("its filter cannot narrow this list")
		}
		if !carries(set, want) {
			s.trace.narrowed(filter, "its filter asks for what narrow does not set")
			return deny("its filter asks for what narrow does not set")
		}
	}
	s.trace.narrowed(filter, "")
	query := rewriteQuery(op.pairs, set)
	d.Query = &query
	return nil
}

// rewriteQuery returns the pairs without those that some backend could take for one of the set, and the set behind them.
func rewriteQuery(pairs []pair, set []memberText) string {
	var out []string
	for _, p := range pairs {
		if !slices.ContainsFunc(set, func(m memberText) bool { return sameParameter(p.name, m.name) }) {
			out = append(out, p.raw)
		}
	}
	for _, m := range set {
		out = append(out, escapeQuery(m.name)+"="+escapeQuery(m.text))
	}
	return strings.Join(out, "&")
}

// escapeQuery encodes a space as %20, which every reader understands.
func escapeQuery(text string) string {
	return strings.ReplaceAll(url.QueryEscape(text), "+", "%20")
}

// parameterText writes a scalar as a query has it.
func parameterText(v Value) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case int64:
		return strconv.FormatInt(v, 10), true
	case uint64:
		return strconv.FormatUint(v, 10), true
	}
	return "", false
}
