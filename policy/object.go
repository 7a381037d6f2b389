package policy

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxID bounds the id of an object in bytes.
const maxID = 512

// ObjectReader reads an object's metadata from what the backend says of it. It is immutable, and the same for all routes of a
// policy that read it in the same way, so that they share what is cached.
type ObjectReader struct {
	metadata *expression
	id       *expression // nil: any
}

// ReadsAlike reports whether two readers, of two versions of a policy perhaps, surely read the same metadata from an answer.
// Both may be nil. What uses variables is not taken for alike.
func (a *ObjectReader) ReadsAlike(b *ObjectReader) bool {
	if a == nil || b == nil {
		return a == b
	}
	same := func(x, y *expression) bool {
		if x == nil || y == nil {
			return x == y
		}
		return x == y || x.text == y.text && len(x.names) == 0 && len(y.names) == 0
	}
	return same(a.metadata, b.metadata) && same(a.id, b.id)
}

// Read evaluates the answer, which is strict JSON. An object whose answer lacks what the expression asks for exists, and
// has no metadata: no filter selects it. Anything else than an object is an error, and so is an answer about another id
// than the one that was asked for; the error shows nothing of the answer.
func (a *ObjectReader) Read(body Value, id string) (Object, error) {
	s := &scope{body: body}
	if a.id != nil {
		v, err := a.id.value(s)
		if err != nil {
			return Object{}, fmt.Errorf("its id: %s", fault(err))
		}
		if text, err := idText(v); err != nil || text != id {
			return Object{}, errors.New("it is about another object")
		}
	}
	v, err := a.metadata.value(s)
	if err != nil {
		if why := fault(err); why == "no such key" || why == "no such attribute" || why == "optional" {
			return Object{Found: true}, nil
		}
		return Object{}, fmt.Errorf("its metadata: %s", fault(err))
	}
	switch v := v.(type) {
	case nil:
		return Object{Found: true}, nil
	case map[string]any:
		return Object{Found: true, Metadata: v}, nil
	}
	return Object{}, errors.New("its metadata is no object")
}

// objectSource says which objects a route is about.
type objectSource struct {
	get    []segment
	params []int       // per segment of get: the index of the path's parameter; -1: id
	id     *expression // nil: all from the path
	reader *ObjectReader
}

// compileObject compiles `object` of a route whose path has those parameters.
func (c *compiler) compileObject(source *ObjectSource, route []segment) (*objectSource, Problems) {
	o := &objectSource{}
	var problems Problems
	if source.Get.Text == "" {
		return nil, Problems{{Pos: source.Get.Pos, Found: "an object without get", Want: `the path of the object at the backend, such as "/orders/{id}"`}}
	}
	var problem *Problem
	if o.get, problem = parseTemplate(source.Get.Text); problem != nil {
		problem.Pos = source.Get.Pos
		return nil, Problems{*problem}
	}
	if strings.ContainsAny(source.Get.Text, "+") {
		problems = append(problems, Problem{Pos: source.Get.Pos, Found: "a plus sign in get", Want: "a path without one", Hint: "some backends take it for a space"})
	}
	free := 0
	for _, s := range o.get {
		at := -1
		if s.param {
			at = slices.IndexFunc(route, func(r segment) bool { return r.param && r.text == s.text && !r.rest })
			if at >= 0 {
				at = paramIndex(route, at)
			}
			switch {
			case s.rest:
				problems = append(problems, Problem{Pos: source.Get.Pos, Found: fmt.Sprintf("{%s=**} in get", s.text), Want: "{name}", Hint: "an object is looked up by the segments of its path, one by one"})
			case at < 0 && source.ID == nil:
				problems = append(problems, Problem{Pos: source.Get.Pos, Found: fmt.Sprintf("{%s}, which the route's path does not have", s.text), Want: "a parameter of the path, or {id} and an id", Hint: "id: value.body.orderID takes it from the body"})
			case s.text == "id" && source.ID != nil:
				at, free = -1, free+1
			case at < 0:
				problems = append(problems, Problem{Pos: source.Get.Pos, Found: fmt.Sprintf("{%s}, which the route's path does not have", s.text), Want: "{id}, which the expression id fills, or a parameter of the path"})
			}
		}
		o.params = append(o.params, at)
	}
	if source.ID != nil {
		var ps Problems
		o.id, ps = c.compile(*source.ID, wantIDs, true)
		problems = append(problems, ps...)
		if o.id != nil && len(o.id.reads.others) > 0 {
			problems = append(problems, Problem{Pos: source.ID.Pos, Found: fmt.Sprintf("an id that depends on %s", strings.TrimSuffix(o.id.reads.others[0], ".")), Want: "an expression over value alone"})
		}
		if free != 1 && len(problems) == 0 {
			problems = append(problems, Problem{Pos: source.ID.Pos, Found: "an id without {id} in get", Want: `get with {id}, such as "/orders/{id}"`})
		}
	}
	var ps Problems
	if o.reader, ps = c.reader(source); len(ps) > 0 {
		problems = append(problems, ps...)
	}
	return o, problems
}

// paramIndex is the how-manieth parameter a segment is.
func paramIndex(route []segment, at int) int {
	n := 0
	for _, s := range route[:at] {
		if s.param {
			n++
		}
	}
	return n
}

// reader compiles what reads the answer, once for each text.
func (c *compiler) reader(source *ObjectSource) (*ObjectReader, Problems) {
	metadata, id := Text{Text: "body.metadata", Pos: source.Get.Pos}, Text{}
	if source.Metadata != nil {
		metadata = *source.Metadata
	}
	if source.AnswerID != nil {
		id = *source.AnswerID
	}
	key := [2]string{metadata.Text, id.Text}
	if a := c.answers.readers[key]; a != nil {
		return a, nil
	}
	for _, t := range []Text{metadata, id} {
		if ps, ok := c.names.spend(t); !ok {
			return nil, ps
		}
	}
	if c.answers.compiler == nil {
		var err error
		if c.answers.compiler, err = answerCompiler(); err != nil {
			return nil, Problems{{Pos: source.Get.Pos, Found: err.Error()}}
		}
	}
	var a ObjectReader
	var problems Problems
	compile := func(t Text, want result) *expression {
		e, ps := c.answers.compiler.compile(t, want, true)
		for i := range ps {
			if strings.Contains(ps[i].Found, "undeclared reference") {
				ps[i].Hint = "it sees only body, the backend's answer, such as body.labels"
			}
		}
		problems = append(problems, ps...)
		return e
	}
	if a.metadata = compile(metadata, wantObject); id.Text != "" {
		a.id = compile(id, wantIDs)
	}
	if len(problems) > 0 {
		return nil, problems
	}
	if c.answers.readers == nil {
		c.answers.readers = map[[2]string]*ObjectReader{}
	}
	c.answers.readers[key] = &a
	return &a, nil
}

// refs names the objects that a request is about: one, or as many as id gives.
func (o *objectSource) refs(resource string, params []param, s *scope) ([]Ref, error) {
	ids := []string{""}
	if o.id != nil {
		v, err := o.id.value(s)
		if err != nil {
			return nil, &Refusal{Outcome: BadRequest, Detail: "The request does not name its object.", Err: fmt.Errorf("object.id: %s", fault(err))}
		}
		if ids, err = idTexts(v); err != nil {
			return nil, err
		}
	}
	out := make([]Ref, 0, len(ids))
	for _, id := range ids {
		var path strings.Builder
		for i, s := range o.get {
			path.WriteByte('/')
			text := s.text
			if s.param {
				if text = id; o.params[i] >= 0 {
					text = params[o.params[i]].value
				}
				if err := checkID(text); err != nil {
					return nil, err
				}
				id = text // the last one names the object
			}
			path.WriteString(url.PathEscape(text))
		}
		ref := Ref{Resource: resource, ID: id, Path: path.String(), Reader: o.reader}
		if !slices.Contains(out, ref) {
			out = append(out, ref)
		}
	}
	return out, nil
}

// idTexts reads an id, or a list of them.
func idTexts(v Value) ([]string, error) {
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	if len(list) > maxNeeds {
		return nil, &Refusal{Outcome: BadRequest, Detail: fmt.Sprintf("The request names more than %d objects.", maxNeeds)}
	}
	out := make([]string, len(list))
	for i, item := range list {
		var err error
		if out[i], err = idText(item); err != nil {
			return nil, err
		}
	}
	return out, nil
}

var errID = &Refusal{Outcome: BadRequest, Detail: "The id of the object is malformed."}

func idText(v Value) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case uint64:
		return strconv.FormatUint(v, 10), nil
	}
	return "", errID
}

// checkID refuses an id whose path the backend could read as another one than it reads for the request itself: slashes,
// dots, what begins a query or parameters, and a plus sign, which some take for a space in a path; also white space around
// it, which some cut off.
func checkID(id string) error {
	if id == "" || len(id) > maxID || id == "." || id == ".." || !utf8.ValidString(id) || strings.TrimSpace(id) != id ||
		strings.ContainsAny(id, `/\%?#;+`) || strings.ContainsFunc(id, func(r rune) bool { return unicode.IsControl(r) || r == utf8.RuneError }) {
		return errID
	}
	return nil
}
