package policy

import (
	"fmt"
	"slices"
	"strings"
)

// Route is what a request is for, before the token is looked at: a public route or a known one.
type Route struct {
	Pattern   string // "GET /threads/{thread_id}", for records
	Public    bool
	NeedsBody bool // Operations reads the body
	route     *compiledRoute
	params    []param
}

// Operations says what the request asks for: at least one operation. query is the raw query without `?`, body the whole
// body, which is looked at only if NeedsBody; nil or empty means that the request has none. The error is a *Refusal
// where the request is wrong.
func (r Route) Operations(query string, body []byte) ([]Operation, error) {
	if r.route == nil || r.route.operations == nil {
		return nil, fmt.Errorf("route %q has no operations", r.Pattern)
	}
	in := Input{params: r.params}
	var err error
	if r.route.readsQuery {
		if in.Query, err = parseQuery(query); err != nil {
			return nil, err
		}
	}
	if r.NeedsBody && len(body) > 0 {
		if in.Body, err = ParseValue(body); err != nil {
			return nil, &Refusal{Outcome: BadRequest, Detail: "The body is not strict JSON (RFC 7493).", Err: fmt.Errorf("read the body: %s", jsonFault(err))}
		}
		if in.Body == nil {
			return nil, &Refusal{Outcome: BadRequest, Detail: "The body is null."}
		}
	}
	ops, err := r.route.operations(in)
	if err == nil && len(ops) == 0 {
		return nil, &Refusal{Outcome: BadRequest, Detail: "The request asks for nothing."}
	}
	return ops, err
}

// Refusal is the body of an answer that refuses the request, whose body is given as it came; empty where clients expect no
// other one than {"detail": ...}.
func (r Route) Refusal(body []byte, o Outcome, detail string) string {
	if r.route == nil || r.route.refusal == nil || len(body) == 0 {
		return ""
	}
	return r.route.refusal(body, o, detail)
}

// jsonFault says what is wrong with a JSON text without showing any of it.
func jsonFault(err error) string {
	text := err.Error()
	for _, known := range []string{"duplicate", "UTF-8", "surrogate", "nested deeper", "more than", "EOF", "after the JSON value", "out of range"} {
		if strings.Contains(text, known) {
			return known
		}
	}
	return "syntax error"
}

type compiledRoute struct {
	method, path string
	public       bool
	needsBody    bool
	readsQuery   bool     // operations may depend on it
	names        []string // of its parameters, in order
	operations   func(Input) ([]Operation, error)
	refusal      func(body []byte, o Outcome, detail string) string
}

// routeTree finds the most specific route of a path: at each segment a literal wins over a parameter, and that over
// the rest, which may be empty: /a/{rest=**} matches /a, /a/ and /a/b/c.
type routeTree struct {
	literal map[string]*routeTree
	param   *routeTree
	here    map[string]*compiledRoute // by method: the path ends here
	rest    map[string]*compiledRoute // by method: {name=**} stands here
}

// find returns the route for the method and the segments, with the values of its parameters.
func (t *routeTree) find(method string, segments []string, values []string) (*compiledRoute, []string) {
	if len(segments) == 0 {
		if r := t.here[method]; r != nil {
			return r, values
		}
	} else {
		if next := t.literal[segments[0]]; next != nil {
			if r, v := next.find(method, segments[1:], values); r != nil {
				return r, v
			}
		}
		if t.param != nil && segments[0] != "" {
			if r, v := t.param.find(method, segments[1:], append(values, segments[0])); r != nil {
				return r, v
			}
		}
	}
	if r := t.rest[method]; r != nil {
		return r, append(values, strings.Join(segments, "/"))
	}
	return nil, nil
}

// add puts a route into the tree; the problem says what is wrong with its template, or which route it repeats.
func (t *routeTree) add(r *compiledRoute) *Problem {
	if !strings.HasPrefix(r.path, "/") {
		return &Problem{Found: fmt.Sprintf("path %q", r.path), Want: "a path that starts with /"}
	}
	segments := strings.Split(r.path[1:], "/")
	at, rest := t, false
	for i, s := range segments {
		name, isParam := strings.CutPrefix(s, "{")
		if !isParam {
			if strings.ContainsAny(s, "{}*?#%\\") || s == "." || s == ".." || s == "" && i < len(segments)-1 {
				return &Problem{Found: fmt.Sprintf("path segment %q", s), Want: "a literal in its decoded form, {name}, or {name=**} at the end"}
			}
			if at.literal == nil {
				at.literal = map[string]*routeTree{}
			}
			if at.literal[s] == nil {
				at.literal[s] = &routeTree{}
			}
			at = at.literal[s]
			continue
		}
		name, closed := strings.CutSuffix(name, "}")
		name, rest = strings.CutSuffix(name, "=**")
		if !closed || !isName(name) || rest && i < len(segments)-1 {
			return &Problem{Found: fmt.Sprintf("path segment %q", s), Want: "{name}, or {name=**} at the end"}
		}
		if slices.Contains(r.names, name) {
			return &Problem{Found: fmt.Sprintf("path %q has {%s} twice", r.path, name), Want: "each name once"}
		}
		r.names = append(r.names, name)
		if rest {
			break
		}
		if at.param == nil {
			at.param = &routeTree{}
		}
		at = at.param
	}
	routes := &at.here
	if rest {
		routes = &at.rest
	}
	if *routes == nil {
		*routes = map[string]*compiledRoute{}
	}
	if other := (*routes)[r.method]; other != nil {
		return &Problem{Found: fmt.Sprintf("%s %s matches the same paths as %s %s", r.method, r.path, other.method, other.path), Hint: "remove one of them"}
	}
	(*routes)[r.method] = r
	return nil
}

func isName(s string) bool {
	for i, c := range s {
		if !(c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || i > 0 && c >= '0' && c <= '9') {
			return false
		}
	}
	return s != ""
}

// ReservedPrefix is where Usher parks edited requests (see envoy/edit): no client may ask for it.
const ReservedPrefix = "/.usher/"

// Route finds the route of a request. path is decoded and without query; the caller has refused what could be read in
// two ways (an encoded slash, a dot segment). A HEAD is its GET. The error is a *Refusal: NotFound for an unknown route.
func (p *Policy) Route(method, path string) (Route, error) {
	if method == "HEAD" {
		method = "GET"
	}
	if !strings.HasPrefix(path, "/") {
		return Route{}, &Refusal{Outcome: BadRequest, Detail: "The path does not start with a slash."}
	}
	if strings.HasPrefix(path, ReservedPrefix) {
		return Route{}, errUnknownRoute
	}
	var buffer [16]string
	segments := appendSegments(buffer[:0], path[1:])
	r, values := p.routes.find(method, segments, nil)
	if r == nil {
		return Route{}, errUnknownRoute
	}
	route := Route{Pattern: r.method + " " + r.path, Public: r.public, NeedsBody: r.needsBody, route: r}
	if len(values) > 0 {
		route.params = make([]param, len(values))
		for i, v := range values {
			route.params[i] = param{r.names[i], v}
		}
	}
	return route, nil
}

var errUnknownRoute = &Refusal{Outcome: NotFound, Detail: "Not Found"}

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
