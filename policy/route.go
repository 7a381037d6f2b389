package policy

import (
	"fmt"
	"strings"
)

// Route is what a request is for, before the token is looked at: a public route or a known one.
type Route struct {
	Pattern   string // "GET /threads/{thread_id}", for records
	Public    bool
	NeedsBody bool // Operations reads the body
	WebSocket bool // an upgrade may be allowed; elsewhere it is not
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
	in := Input{params: r.params, query: query}
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
	webSocket    bool
	readsQuery   bool // operations may depend on it
	operations   func(Input) ([]Operation, error)
	refusal      func(body []byte, o Outcome, detail string) string

	pattern string   // method and path
	names   []string // of its parameters, in order
	rest    bool     // the last one is {name=**}
	pos     Position
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
	var values [maxParams]string
	r := p.routes.match(&values, method, path)
	if r == nil {
		return Route{}, errUnknownRoute
	}
	route := Route{Pattern: r.pattern, Public: r.public, NeedsBody: r.needsBody, WebSocket: r.webSocket, route: r}
	if len(r.names) > 0 {
		route.params = make([]param, len(r.names))
		for i, name := range r.names {
			route.params[i] = param{name, values[i]}
		}
	}
	return route, nil
}

var errUnknownRoute = &Refusal{Outcome: NotFound, Detail: "Not Found"}
