package policy

import (
	"fmt"
	"slices"
	"strings"
)

// segment is one part of a path template: a literal, {name}, or {name=**}.
type segment struct {
	text  string // the literal, or the name
	param bool
	rest  bool // with param
}

// parseTemplate reads "/orders/{id}" or "/reports/{rest=**}".
func parseTemplate(path string) ([]segment, *Problem) {
	if !strings.HasPrefix(path, "/") {
		return nil, &Problem{Found: fmt.Sprintf("path %q", path), Want: "a path that starts with /"}
	}
	texts := strings.Split(path[1:], "/")
	out := make([]segment, 0, len(texts))
	for i, s := range texts {
		name, isParam := strings.CutPrefix(s, "{")
		if !isParam {
			if !isLiteral(s) || s == "" && i < len(texts)-1 {
				return nil, &Problem{Found: fmt.Sprintf("path segment %q", s), Want: "a literal in its decoded form, {name}, or {name=**} at the end"}
			}
			out = append(out, segment{text: s})
			continue
		}
		name, closed := strings.CutSuffix(name, "}")
		name, rest := strings.CutSuffix(name, "=**")
		if !closed || !isName(name) || rest && i < len(texts)-1 {
			return nil, &Problem{Found: fmt.Sprintf("path segment %q", s), Want: "{name}, or {name=**} at the end"}
		}
		if slices.ContainsFunc(out, func(o segment) bool { return o.param && o.text == name }) {
			return nil, &Problem{Found: fmt.Sprintf("path %q has {%s} twice", path, name), Want: "each name once"}
		}
		out = append(out, segment{text: name, param: true, rest: rest})
	}
	return out, nil
}

// isLiteral reports whether a path can have s as a segment once it is decoded: see extauthz, which refuses the rest.
func isLiteral(s string) bool {
	return !strings.ContainsAny(s, "{}*?#%\\;") && s != "." && s != ".." && !strings.ContainsFunc(s, isControl)
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }

func isName(s string) bool {
	for i, c := range s {
		if !(c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || i > 0 && c >= '0' && c <= '9') {
			return false
		}
	}
	return s != ""
}

// routeTree finds the most specific route of a path: at each segment, from the left, a literal wins over a parameter, and
// that over the rest, which may be empty: /a/{rest=**} matches /a, /a/ and /a/b/c.
//
// Two spellings that many backends take for one path are never two routes: a path is of no route at all if it would be of
// another one with its letters in another case, or, where only a rest matches, with or without a slash at its end. Else
// /orders/Export would be decided as the order of that name, and served as the export.
type routeTree struct {
	literal map[string]*routeTree // by the folded literal
	text    string                // the literal that leads here
	param   *routeTree
	here    map[string]*compiledRoute // by method: the path ends here
	rest    map[string]*compiledRoute // by method: {name=**} stands here
	mixed   bool                      // at the root: a literal is not its own folded form
}

// maxParams bounds the parameters of a template.
const maxParams = 16

// lookup is one search of the tree. It is handed on by value, so that the segments need not be allocated.
type lookup struct {
	method   string
	segments []string // as they are
	folded   []string
	loose    bool // literals in whatever case
}

// find returns the route for the segments from the i-th on; the values of its parameters go to values, from the n-th on.
func (t *routeTree) find(l lookup, values *[maxParams]string, i, n int) *compiledRoute {
	if i == len(l.segments) {
		if r := t.here[l.method]; r != nil {
			return r
		}
	} else {
		if next := t.literal[l.folded[i]]; next != nil && (l.loose || next.text == l.segments[i]) {
			if r := next.find(l, values, i+1, n); r != nil {
				return r
			}
		}
		if t.param != nil && l.segments[i] != "" {
			values[n] = l.segments[i]
			if r := t.param.find(l, values, i+1, n+1); r != nil {
				return r
			}
		}
	}
	r := t.rest[l.method]
	if r != nil {
		values[n] = strings.Join(l.segments[i:], "/")
	}
	return r
}

// match finds the route of a path that starts with a slash, and the values of its parameters.
func (t *routeTree) match(values *[maxParams]string, method, path string) *compiledRoute {
	var exact, folded [16]string
	var ignored [maxParams]string
	l := lookup{method: method, segments: appendSegments(exact[:0], path[1:])}
	other := fold(path)
	if other == path {
		l.folded = l.segments
	} else {
		l.folded = appendSegments(folded[:0], other[1:])
	}
	r := t.find(l, values, 0, 0)
	if r == nil {
		return nil
	}
	if other != path || t.mixed {
		if t.find(lookup{method: method, segments: l.folded, folded: l.folded, loose: true}, &ignored, 0, 0) != r {
			return nil
		}
	}
	if r.rest {
		if toggled, ok := strings.CutSuffix(other, "/"); ok || other == "" {
			other = toggled
		} else {
			other += "/"
		}
		if other != "" {
			segments := appendSegments(folded[:0], other[1:])
			if found := t.find(lookup{method: method, segments: segments, folded: segments, loose: true}, &ignored, 0, 0); found != nil && found != r {
				return nil
			}
		}
	}
	return r
}

// add puts a route into the tree; the problem says what is wrong with its template, or which route it repeats.
func (t *routeTree) add(r *compiledRoute) *Problem {
	segments, problem := parseTemplate(r.path)
	if problem != nil {
		return problem
	}
	if strings.HasPrefix(r.path, ReservedPrefix) {
		return &Problem{Found: fmt.Sprintf("path %q, which no client may ask for", r.path), Hint: "what is below " + ReservedPrefix + " is Usher's own, and never reaches a route"}
	}
	at := t
	for _, s := range segments {
		if s.param {
			if r.names = append(r.names, s.text); len(r.names) > maxParams {
				return &Problem{Found: fmt.Sprintf("path %q has more than %d parameters", r.path, maxParams), Want: "fewer"}
			}
			if r.rest = s.rest; s.rest {
				break
			}
			if at.param == nil {
				at.param = &routeTree{}
			}
			at = at.param
			continue
		}
		if at.literal == nil {
			at.literal = map[string]*routeTree{}
		}
		key := fold(s.text)
		next := at.literal[key]
		if next == nil {
			next = &routeTree{text: s.text}
			at.literal[key] = next
			t.mixed = t.mixed || key != s.text
		}
		if next.text != s.text {
			return &Problem{Found: fmt.Sprintf("path segment %q, which differs only by case from %q of another route", s.text, next.text), Want: "one spelling", Hint: "many backends take them for one path"}
		}
		at = next
	}
	routes := &at.here
	if r.rest {
		routes = &at.rest
	}
	if *routes == nil {
		*routes = map[string]*compiledRoute{}
	}
	if other := (*routes)[r.method]; other != nil {
		return &Problem{Found: fmt.Sprintf("%s %s matches the same paths as %s %s", r.method, r.path, other.method, other.path), Hint: "remove one of them"}
	}
	r.pattern = r.method + " " + r.path
	(*routes)[r.method] = r
	return nil
}

// appendSegments splits a path without its first slash.
func appendSegments(out []string, path string) []string {
	for {
		head, tail, found := strings.Cut(path, "/")
		out = append(out, head)
		if !found {
			return out
		}
		path = tail
	}
}
