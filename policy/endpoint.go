package policy

import (
	"fmt"
	"slices"
	"strings"
)

// endpoint is one route of api.routes: what a request for it asks for.
type endpoint struct {
	source           RouteSource
	route            *compiledRoute
	resource, action string
	object           *objectSource
	stampAt          *place
	narrow           *narrowing

	// What the rule that applies needs to know, found when the policy is compiled.
	stamped    []string // names in an object at stampAt that the rule's stamp or filter are about
	readsPath  bool     // value.path
	readsQuery bool
	readsBody  bool     // value.body
	stamps     bool     // the body at stampAt
	asked      []*asked // by the route itself, and by its rule
}

// hasBody are the methods whose requests carry a body (RFC 9110, section 9.3).
func hasBody(method string) bool { return method == "POST" || method == "PUT" || method == "PATCH" }

// compileEndpoint compiles one route, apart from what depends on the rules.
func (c *compiler) compileEndpoint(source RouteSource) (*endpoint, Problems) {
	var problems Problems
	resource, action, ok := strings.Cut(source.On.Text, ":")
	if !ok || !isName(strings.ReplaceAll(resource, "-", "_")) || !isName(strings.ReplaceAll(action, "-", "_")) {
		return nil, Problems{{Pos: source.On.Pos, Found: fmt.Sprintf("on: %q", source.On.Text), Want: "resource:action, or public: true"}}
	}
	e := &endpoint{source: source, resource: resource, action: action}
	e.route = &compiledRoute{method: source.Method.Text, path: source.Path.Text, pos: source.Path.Pos, operations: e.operations}
	template, broken := parseTemplate(source.Path.Text)
	if o := source.Object; o != nil && broken == nil {
		var ps Problems
		e.object, ps = c.compileObject(o, template)
		problems = append(problems, ps...)
	}
	if at := source.StampAt; at != nil {
		if !hasBody(source.Method.Text) {
			problems = append(problems, Problem{Pos: at.Pos, Found: fmt.Sprintf("stampAt on a %s, which has no body", source.Method.Text), Want: "POST, PUT or PATCH"})
		}
		p, problem := parsePlace(*at)
		if problem != nil {
			problems = append(problems, *problem)
		} else if e.stampAt = p; p.lists && source.Object != nil {
			problems = append(problems, Problem{Pos: at.Pos, Found: "stampAt with a list beside object", Want: "one of them", Hint: "which element belongs to which object is not known"})
		}
	}
	if n := source.Narrow; n != nil {
		if source.Object != nil || source.StampAt != nil {
			problems = append(problems, Problem{Pos: n.Pos, Found: "narrow beside object or stampAt", Want: "one of them", Hint: "narrow is for a list; object and stampAt are for what a request touches or makes"})
		}
		var ps Problems
		e.narrow, ps = c.compileNarrow(n)
		problems = append(problems, ps...)
	}
	return e, problems
}

// event says what a rule can do here.
func (e *endpoint) event() Event {
	s := e.source
	return Event{Filters: s.Object != nil || s.StampAt != nil || s.Narrow != nil, Stamps: s.StampAt != nil}
}

// link notes what the rule of the endpoint needs of a request; a rule that can never hold here is a problem.
func (e *endpoint) link(r *rule) (problems, warnings Problems) {
	s := &e.source
	var read []*expression // the route's own ones first
	if e.object != nil && e.object.id != nil {
		read = append(read, e.object.id)
	}
	if e.narrow != nil {
		for _, p := range e.narrow.parameters {
			read = append(read, p.value.expression)
		}
	}
	var names []string
	for _, x := range read {
		if x != nil { // else it did not compile
			problems = append(problems, e.checkReads(x, true)...)
			e.readsPath = e.readsPath || x.reads.field("path")
			e.readsBody, e.readsQuery = e.readsBody || x.reads.field("body"), e.readsQuery || x.reads.field("query")
			names = append(names, x.reads.names...)
		}
	}
	e.asked = []*asked{newAsked(names)}
	if r != nil {
		reads := r.summary()
		own := r.ref.On == e.source.On.Text
		for i := 0; i < len(reads.expressions) && len(problems) < maxReadProblems && (own || !reads.checked); i++ {
			problems = append(problems, e.checkReads(reads.expressions[i], own)...)
		}
		reads.checked = true
		e.readsPath = e.readsPath || reads.path
		e.readsBody, e.readsQuery = e.readsBody || reads.body, e.readsQuery || reads.query
		e.asked = append(e.asked, reads.asked)
		e.stamped = reads.metadata
		e.stamps = e.stampAt != nil && len(e.stamped) > 0
	}
	e.route.needsBody = e.readsBody || e.stamps || e.narrow != nil
	if r == nil {
		return problems, nil
	}
	here := fmt.Sprintf("%s %s", s.Method.Text, s.Path.Text)
	if len(r.filter.terms) > 0 {
		alone := fmt.Sprintf("give %s:%s a rule of its own", e.resource, e.action)
		switch {
		case s.Object == nil && s.StampAt == nil && s.Narrow == nil:
			problems = append(problems, Problem{Pos: s.Path.Pos, Found: fmt.Sprintf("%s can never be allowed: the filter of rule %q cannot be enforced here", here, r.ref.On), Want: "object, narrow or stampAt", Hint: "object says where an existing object is looked up, narrow which query parameters narrow a list; or " + alone})
		case s.Narrow != nil && !r.filter.narrows():
			problems = append(problems, Problem{Pos: s.Path.Pos, Found: fmt.Sprintf("%s can never be allowed: the filter of rule %q cannot narrow a list", here, r.ref.On), Want: "names and single values, which query parameters can carry", Hint: alone})
		case s.Narrow != nil && len(s.Narrow.Query) > 0 && len(r.filter.terms) > len(s.Narrow.Query):
			problems = append(problems, Problem{Pos: s.Narrow.Pos, Found: fmt.Sprintf("%s can never be allowed: the filter of rule %q asks for more than narrow sets", here, r.ref.On), Want: "a query parameter for each of the filter's names", Hint: alone})
		}
	}
	if len(r.stamp) > 0 && s.StampAt == nil && hasBody(s.Method.Text) && s.Narrow == nil {
		p := Problem{Pos: s.Path.Pos, Found: fmt.Sprintf("the stamp of rule %q has no place in %s", r.ref.On, here), Want: "stampAt: where in the body it goes", Hint: fmt.Sprintf("or give %s:%s a rule of its own, without stamp", e.resource, e.action)}
		if s.Object == nil {
			problems = append(problems, p)
		} else {
			if s.Method.Text != "POST" {
				p.Found += ", so that a request could change whose the object is"
			}
			warnings = append(warnings, p)
		}
	}
	return problems, warnings
}

// checkReads finds what an expression can never read here; own says that it is for this route, and not for others too.
func (e *endpoint) checkReads(x *expression, own bool) (problems Problems) {
	for _, name := range x.reads.fields {
		if name != "path" && name != "query" && name != "body" {
			problems = append(problems, Problem{Pos: x.pos, Found: "value." + name, Want: "value.path, value.query or value.body", Hint: fmt.Sprintf("what stands at {id} in a path is value.path.id, a query parameter is value.query.%s, a member of the body value.body.%[1]s", name)})
		}
	}
	if own && slices.Contains(x.reads.fields, "body") && !hasBody(e.source.Method.Text) {
		problems = append(problems, Problem{Pos: x.pos, Found: fmt.Sprintf("value.body, which %s %s does not have", e.source.Method.Text, e.source.Path.Text), Want: "value.path or value.query", Hint: fmt.Sprintf("give %s:%s a rule of its own", e.resource, e.action)})
	}
	return problems
}

// operations says what a request asks for.
func (e *endpoint) operations(in Input) ([]Operation, error) {
	var value map[string]any
	add := func(name string, v any) {
		if value == nil {
			value = make(map[string]any, 3)
		}
		value[name] = v
	}
	if e.readsPath && len(in.params) > 0 {
		path := make(map[string]any, len(in.params))
		for _, p := range in.params {
			path[p.name] = p.value
		}
		add("path", path)
	}
	var pairs []pair
	if in.query != "" && (e.readsQuery || e.narrow != nil || e.source.Method.Text == "POST") {
		var err error
		if pairs, err = readPairs(in.query); err != nil {
			return nil, err
		}
		// Rails, Symfony and others take a POST for the method that it names there.
		if slices.ContainsFunc(pairs, func(p pair) bool { return sameParameter(p.name, "_method") }) && e.source.Method.Text == "POST" {
			return nil, &Refusal{Outcome: Forbidden, Detail: "A query parameter names another method."}
		}
	}
	if e.readsQuery {
		query, err := queryValue(pairs, e.asked)
		if err != nil {
			return nil, err
		}
		add("query", query)
	}
	if e.readsBody && in.Body != nil {
		if err := checkSpelling(e.asked, in.Body); err != nil {
			return nil, err
		}
		add("body", in.Body)
	}
	op := Operation{Resource: e.resource, Action: e.action, MismatchDetail: "Not Found"}
	if len(value) > 0 {
		op.Value = value
	}
	switch {
	case e.narrow != nil:
		return e.list(op, pairs, in.Body)
	case e.object != nil:
		return e.existing(op, in)
	case e.stampAt != nil:
		return e.created(op, in.Body)
	}
	op.Unfilterable = true
	return []Operation{op}, nil
}

// list is for a route with narrow. A body could name the parameters once more (Rails reads both as one).
func (e *endpoint) list(op Operation, pairs []pair, body Value) ([]Operation, error) {
	switch body := body.(type) {
	case nil:
	case map[string]any:
		for name := range body {
			if !hasBody(e.source.Method.Text) || slices.ContainsFunc(e.narrow.parameters, func(p memberSource) bool { return sameParameter(name, p.name) }) {
				return nil, &Refusal{Outcome: BadRequest, Detail: "The body has a query parameter of the gate's own."}
			}
		}
	default:
		if !hasBody(e.source.Method.Text) {
			return nil, &Refusal{Outcome: BadRequest, Detail: "The request must not have a body."}
		}
	}
	op.narrow, op.pairs = e.narrow, pairs
	return []Operation{op}, nil
}

// existing is for a route with object.
func (e *endpoint) existing(op Operation, in Input) ([]Operation, error) {
	refs, err := e.object.refs(e.resource, in.params, &scope{value: op.Value, resource: op.Resource, action: op.Action})
	if err != nil {
		return nil, err
	}
	if e.stamps {
		spots, err := e.stampAt.find(in.Body, e.stamped, true)
		if err != nil {
			return nil, err
		}
		op.Stamps, op.Metadata, op.BodyMetadata = true, spots[0].at, spots[0].metadata
	}
	if len(refs) == 0 {
		return []Operation{op}, nil
	}
	ops := make([]Operation, len(refs))
	for i, ref := range refs {
		ops[i] = op
		ops[i].Object = ref
	}
	return ops, nil
}

// created is for a route with stampAt and without object.
func (e *endpoint) created(op Operation, body Value) ([]Operation, error) {
	op.Creates = true
	if !e.stamps {
		return []Operation{op}, nil
	}
	spots, err := e.stampAt.find(body, e.stamped, false)
	if err != nil {
		return nil, err
	}
	ops := make([]Operation, len(spots))
	for i, spot := range spots {
		ops[i] = op
		ops[i].Stamps, ops[i].Metadata, ops[i].BodyMetadata = true, spot.at, spot.metadata
	}
	return ops, nil
}

// maxReadProblems bounds what is said of one route's expressions.
const maxReadProblems = 20

// ruleReads is what a rule's expressions read. Its routes share it.
type ruleReads struct {
	expressions []*expression
	path        bool
	body, query bool
	names       []string // each once, at most maxNames and one more
	asked       *asked
	metadata    []string
	checked     bool // said what none of its routes has
}

// summary is what the rule reads, worked out once.
func (r *rule) summary() *ruleReads {
	if r.reads != nil {
		return r.reads
	}
	r.reads = &ruleReads{metadata: r.metadataNames()}
	names := newUnion(nil)
	for _, x := range r.expressions() {
		if x == nil {
			continue
		}
		r.reads.expressions = append(r.reads.expressions, x)
		r.reads.path = r.reads.path || x.reads.field("path")
		r.reads.body, r.reads.query = r.reads.body || x.reads.field("body"), r.reads.query || x.reads.field("query")
		if len(names.list) <= maxNames {
			names.add(x.reads.names)
		}
	}
	r.reads.names, r.reads.asked = names.list, newAsked(names.list)
	return r.reads
}

// expressions are what the rule evaluates for an operation.
func (r *rule) expressions() (out []*expression) {
	if r.allow != nil {
		out = append(out, r.allow)
	}
	if r.unfiltered != nil {
		out = append(out, r.unfiltered)
	}
	out = append(out, r.filter.expressions()...)
	for _, m := range r.stamp {
		out = append(out, m.value.expressions()...)
	}
	return out
}

func (f filterSource) expressions() (out []*expression) {
	for _, t := range f.terms {
		out = append(out, t.value.expressions()...)
		for _, sub := range t.sub {
			out = append(out, sub.expressions()...)
		}
	}
	return out
}

func (v valueSource) expressions() (out []*expression) {
	if v.expression != nil {
		out = append(out, v.expression)
	}
	for _, item := range v.list {
		out = append(out, item.expressions()...)
	}
	for _, m := range v.object {
		out = append(out, m.value.expressions()...)
	}
	return out
}

// metadataNames are the names that the rule's stamp and filter are about.
func (r *rule) metadataNames() (out []string) {
	for _, m := range r.stamp {
		out = append(out, m.name)
	}
	return append(out, r.filter.names()...)
}
