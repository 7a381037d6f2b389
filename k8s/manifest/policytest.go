package manifest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/usher-authz/usher/k8s/api/v1alpha1"
	"github.com/usher-authz/usher/policy"
	"github.com/usher-authz/usher/policy/policytest"
)

// maxCases bounds the cases of one PolicyTest, those of its tables among them.
const maxCases = 100_000

// tester converts one PolicyTest. A case that lacks something is a problem, never one that passes.
type tester struct {
	*compiler
	o          *Object
	spec       *v1alpha1.PolicyTestSpec
	ons        map[string]bool // the rules of all policies
	identities map[string]policytest.Identity
	requests   map[string]policytest.Request
}

// test checks a PolicyTest and converts it.
func (c *compiler) test(o *Object) policytest.Suite {
	t := &tester{compiler: c, o: o, spec: &o.PolicyTest.Spec, ons: c.ons(), identities: map[string]policytest.Identity{}, requests: map[string]policytest.Request{}}
	s := policytest.Suite{Name: c.name(o), Pos: o.at("metadata", "name")}
	if t.spec.Now != nil {
		s.Now = t.spec.Now.Time
	}
	for _, name := range sorted(t.spec.Identities) {
		t.identities[name] = t.identity(name)
	}
	for i := range t.spec.Objects {
		s.Objects = append(s.Objects, t.object(i))
	}
	t.repeats()
	t.headerNames("spec", "defaults", "headers")
	for _, name := range sorted(t.spec.Requests) {
		r := t.spec.Requests[name]
		t.requests[name] = t.request(name, &r, "spec", "requests", name)
	}
	for i := range t.spec.Tables {
		s.Cases = append(s.Cases, t.table(i)...)
		if len(s.Cases) > maxCases {
			c.add(o.at("spec", "tables", i), fmt.Sprintf("found more than %d cases", maxCases), "less in one PolicyTest", "")
			return s
		}
	}
	seen := map[string]bool{}
	for i := range t.spec.Cases {
		if name := t.spec.Cases[i].Name; name != "" && seen[name] {
			c.add(o.at("spec", "cases", i, "name"), fmt.Sprintf("found case %q twice", name), "each name once", "")
		} else {
			seen[name] = true
		}
		s.Cases = append(s.Cases, t.single(i))
	}
	if len(t.spec.Tables)+len(t.spec.Cases) == 0 {
		c.missing(o, "tables or cases: a test without any shows nothing", "spec", "cases")
	}
	if len(c.everywhere(v1alpha1.KindAuthPolicy)) == 0 && !c.unread {
		c.add(s.Pos, "found a PolicyTest and no AuthPolicy", "the policies that it is about, in the same run", "name their files or directories too")
	}
	return s
}

// ons are what the rules of all policies are for.
func (c *compiler) ons() map[string]bool {
	out := map[string]bool{}
	for _, o := range c.byName {
		if o.AuthPolicy != nil {
			for _, r := range o.AuthPolicy.Spec.Rules {
				out[r.On] = true
			}
		}
	}
	return out
}

// everywhere are the objects of a kind in all namespaces.
func (c *compiler) everywhere(kind string) []*Object {
	var out []*Object
	for k, o := range c.byName {
		if k.kind == kind {
			out = append(out, o)
		}
	}
	slices.SortFunc(out, func(a, b *Object) int { return strings.Compare(c.name(a), c.name(b)) })
	return out
}

// identity checks that it is just one of claims, user and anonymous.
func (t *tester) identity(name string) policytest.Identity {
	given := t.spec.Identities[name]
	at := []any{"spec", "identities", name}
	out := policytest.Identity{Name: name, Claims: given.Claims, Anonymous: given.Anonymous}
	var ways []string
	for _, way := range []string{"claims", "user", "anonymous"} {
		if _, ok := t.o.find("spec", "identities", name, way); ok {
			ways = append(ways, way)
		}
	}
	switch {
	case len(ways) != 1 && !t.o.broken:
		t.add(t.o.at(at...), fmt.Sprintf("found %d of claims, user and anonymous", len(ways)), "just one of them", "")
		return out
	case given.User != nil:
		u := given.User
		if u.Identity == "" {
			t.missing(t.o, "the user's name", append(at, "user", "identity")...)
		}
		out.User = &policytest.User{Identity: u.Identity, DisplayName: u.DisplayName, Permissions: u.Permissions, Claims: u.Claims}
		if out.User.DisplayName == "" {
			out.User.DisplayName = u.Identity
		}
	case given.Claims == nil && !given.Anonymous:
		out.Claims = map[string]any{}
		if slices.Contains(ways, "anonymous") && !t.o.broken {
			t.add(t.o.at(append(at, "anonymous")...), "found anonymous: false", "true", "leave it out, and say who it is by claims or user")
		}
	}
	if given.Anonymous {
		if given.Provider != "" {
			t.add(t.o.at(append(at, "provider")...), "found a provider of nobody", "an anonymous identity without one", "")
		}
		return out
	}
	out.Provider = t.vouching(given.Provider, at)
	return out
}

// vouching finds the provider of an identity: in the test's namespace, or in all if it has none.
func (t *tester) vouching(name string, at []any) string {
	all := t.everywhere(v1alpha1.KindIdentityProvider)
	if own := slices.DeleteFunc(slices.Clone(all), func(p *Object) bool { return p.Namespace != t.o.Namespace }); len(own) > 0 {
		all = own
	}
	var known []string
	for _, p := range all {
		if name == "" && len(all) == 1 || name != "" && (p.Name == name || t.name(p) == name) {
			return t.name(p)
		}
		known = append(known, t.name(p))
	}
	switch {
	case t.unread:
	case name == "":
		t.add(t.o.at(at...), fmt.Sprintf("found an identity of none of %d providers", len(all)), "provider: "+oneOf(known), "a policy takes tokens only of the providers that it names")
	default:
		t.add(t.o.at(append(at, "provider")...), fmt.Sprintf("found unknown provider %q", name), oneOf(known), didYouMean(name, known))
	}
	return ""
}

// object checks that it is named in one way.
func (t *tester) object(i int) policytest.Object {
	given := &t.spec.Objects[i]
	out := policytest.Object{Resource: given.Resource, ID: given.ID, Metadata: given.Metadata, Path: given.Path, Unavailable: given.Unavailable}
	at := func(path ...any) policy.Position { return t.o.at(append([]any{"spec", "objects", i}, path...)...) }
	body, hasBody := t.o.find("spec", "objects", i, "body")
	_, hasMetadata := t.o.find("spec", "objects", i, "metadata")
	switch byID := given.Resource != "" || given.ID != ""; {
	case t.o.broken:
	case byID == (given.Path != ""):
		t.add(at(), "found an object that is not named in one way", "resource and id, or path", "")
	case byID && (given.Resource == "" || given.ID == ""):
		t.add(at(), "found only one of resource and id", "both", "")
	case byID && hasBody:
		t.add(at("body"), "found a body of an object that is named by its id", "metadata", "an object that is named by its path has a body")
	case !byID && hasMetadata:
		t.add(at("metadata"), "found metadata of an object that is named by its path", "body, the whole answer", "")
	case !byID && !hasBody && !given.Unavailable:
		t.add(at(), "found an object without a body", "the JSON that the backend answers", "")
	case given.Unavailable && (hasBody || hasMetadata):
		t.add(at(), "found an object that is there and unavailable", "one of them", "")
	}
	if hasBody {
		out.Body = t.json(body, given.Body)
	}
	return out
}

// repeats finds objects that are listed twice: which of them counts would be chance.
func (t *tester) repeats() {
	seen := map[[3]string]int{}
	for i, o := range t.spec.Objects {
		k := [3]string{o.Resource, o.ID, o.Path}
		if first, ok := seen[k]; ok && k != ([3]string{}) {
			t.add(t.o.at("spec", "objects", i), "found an object twice", "each once", "the first one is at "+t.o.at("spec", "objects", first).String())
			continue
		}
		seen[k] = i
	}
}

// json writes a value of the manifest as JSON.
func (t *tester) json(tree policy.Tree, v any) []byte {
	if tree.IsNull {
		t.add(tree.Pos, "found null", "a value", "leave the field out for none; rawBody: \"null\" sends null")
		return nil
	}
	text, err := json.Marshal(v)
	if err != nil {
		t.add(tree.Pos, "found what is no JSON", "a value that JSON has", "")
	}
	return text
}

// request checks a request and completes it with the defaults.
func (t *tester) request(name string, r *v1alpha1.TestRequest, path ...any) policytest.Request {
	at := func(more ...any) policy.Position { return t.o.at(append(slices.Clone(path), more...)...) }
	out := policytest.Request{
		Name: name, Method: r.Method, Path: r.Path, Host: r.Host, Policy: r.Policy, RemoteAddress: r.RemoteAddress, Headers: map[string]string{},
	}
	orDefault := func(into *string, values ...string) {
		for _, v := range values {
			if *into == "" {
				*into = v
			}
		}
	}
	orDefault(&out.Method, "GET")
	orDefault(&out.Host, t.spec.Defaults.Host)
	orDefault(&out.RemoteAddress, t.spec.Defaults.RemoteAddress, "192.0.2.1") // RFC 5737: for examples
	if out.Host == "" {
		t.missing(t.o, "the host of the request, or spec.defaults.host", append(slices.Clone(path), "host")...)
	}
	if r.Path == "" {
		t.missing(t.o, "the path of the request", append(slices.Clone(path), "path")...)
	}
	t.headerNames(append(slices.Clone(path), "headers")...)
	for _, headers := range []map[string]string{t.spec.Defaults.Headers, r.Headers} {
		for k, v := range headers {
			out.Headers[strings.ToLower(k)] = v
		}
	}
	body, given := t.o.find(append(slices.Clone(path), "body")...)
	if given && r.RawBody != "" {
		t.add(at("rawBody"), "found both body and rawBody", "one of them", "")
	}
	switch {
	case given:
		out.Body = t.json(body, r.Body)
		if _, named := out.Headers["content-type"]; !named {
			out.Headers["content-type"] = "application/json"
		}
	case r.RawBody != "":
		out.Body = []byte(r.RawBody)
	}
	return out
}

// headerNames checks the names of headers (RFC 9110, section 5.1), each there once in whatever spelling.
func (t *tester) headerNames(path ...any) {
	tree, _ := t.o.find(path...)
	seen := map[string]bool{}
	for _, m := range tree.Members {
		name := strings.ToLower(m.Name.Text)
		switch {
		case !isToken(m.Name.Text):
			t.add(m.Name.Pos, fmt.Sprintf("found header name %q", m.Name.Text), "a header name", "method, path and host have fields of their own")
		case seen[name]:
			t.add(m.Name.Pos, fmt.Sprintf("found header %q twice", name), "each once", "")
		}
		seen[name] = true
	}
}

// table makes the cases of a matrix. What it does not list must be denied.
func (t *tester) table(i int) []policytest.Case {
	given := &t.spec.Tables[i]
	if given.Name == "" {
		t.missing(t.o, "the table's name", "spec", "tables", i, "name")
	}
	identities, requests := given.Identities, given.Requests
	if len(identities) == 0 {
		identities = sorted(t.spec.Identities)
	}
	if len(requests) == 0 {
		requests = sorted(t.spec.Requests)
	}
	if len(identities) == 0 || len(requests) == 0 {
		t.missing(t.o, "identities and requests: a table without both shows nothing", "spec", "tables", i)
	}
	t.known(identities, sorted(t.spec.Identities), "identity", "spec", "tables", i, "identities")
	t.known(requests, sorted(t.spec.Requests), "request", "spec", "tables", i, "requests")
	want := t.cells(i, identities, requests)
	if len(identities)*len(requests) > maxCases {
		return make([]policytest.Case, maxCases+1)
	}
	var out []policytest.Case
	for _, id := range identities {
		for _, r := range requests {
			outcome := want[[2]string{id, r}]
			if outcome.name == "" {
				outcome = cell{policytest.Deny, t.o.at("spec", "tables", i, "name")}
			}
			out = append(out, policytest.Case{
				Name: given.Name + ": " + id + ", " + r, Pos: outcome.pos, Identity: t.identities[id], Request: t.requests[r],
				Expect: policytest.Expectation{Outcome: outcome.name},
			})
		}
	}
	return out
}

// cell is one outcome of a table and its place.
type cell struct {
	name string
	pos  policy.Position
}

// cells reads what a table lists.
func (t *tester) cells(i int, identities, requests []string) map[[2]string]cell {
	given := &t.spec.Tables[i]
	out := map[[2]string]cell{}
	put := func(id, request, outcome string, pos policy.Position) {
		k := [2]string{id, request}
		switch first, ok := out[k]; {
		case !slices.Contains(identities, id):
			t.add(pos, fmt.Sprintf("found identity %q, which is not in the table", id), oneOf(identities), didYouMean(id, identities))
		case !slices.Contains(requests, request):
			t.add(pos, fmt.Sprintf("found request %q, which is not in the table", request), oneOf(requests), didYouMean(request, requests))
		case ok:
			t.add(pos, fmt.Sprintf("found request %q of %q twice", request, id), "each once", "the first one is at "+first.pos.String())
		default:
			out[k] = cell{outcome, pos}
		}
	}
	for _, id := range sorted(given.Allow) {
		for j, request := range given.Allow[id] {
			put(id, request, policytest.Allow, t.o.at("spec", "tables", i, "allow", id, j))
		}
	}
	for _, id := range sorted(given.Answers) {
		for _, request := range sorted(given.Answers[id]) {
			outcome := given.Answers[id][request]
			pos := t.o.at("spec", "tables", i, "answers", id, request)
			t.outcome(outcome, pos)
			put(id, request, outcome, pos)
		}
	}
	return out
}

func (t *tester) outcome(name string, pos policy.Position) {
	if known := policytest.Outcomes(); !slices.Contains(known, name) && !t.o.broken {
		t.add(pos, fmt.Sprintf("found outcome %q", name), oneOf(known), didYouMean(name, known))
	}
}

// known checks names that a table or case uses: each known, and there once.
func (t *tester) known(list, known []string, what string, path ...any) {
	seen := map[string]bool{}
	for i, name := range list {
		if !slices.Contains(known, name) {
			t.add(t.o.at(append(slices.Clone(path), i)...), fmt.Sprintf("found unknown %s %q", what, name), oneOf(known), didYouMean(name, known))
		} else if seen[name] {
			t.add(t.o.at(append(slices.Clone(path), i)...), fmt.Sprintf("found %s %q twice", what, name), "each once", "")
		}
		seen[name] = true
	}
}

// single converts one case.
func (t *tester) single(i int) policytest.Case {
	given := &t.spec.Cases[i]
	at := func(path ...any) policy.Position { return t.o.at(append([]any{"spec", "cases", i}, path...)...) }
	out := policytest.Case{Name: given.Name, Pos: at("name")}
	if given.Name == "" {
		t.missing(t.o, "the case's name", "spec", "cases", i, "name")
	}
	id, ok := t.identities[given.Identity]
	switch known := sorted(t.spec.Identities); {
	case ok:
		out.Identity = id
	case given.Identity == "":
		t.missing(t.o, "the identity that asks: "+oneOf(known), "spec", "cases", i, "identity")
	default:
		t.add(at("identity"), fmt.Sprintf("found unknown identity %q", given.Identity), oneOf(known), didYouMean(given.Identity, known))
	}
	request, ok := t.requests[given.Request]
	switch known := sorted(t.spec.Requests); {
	case (given.Request != "") == (given.Send != nil):
		if !t.o.broken {
			t.add(at(), "found a case with not just one of request and send", "the name of a request, or the request itself", "")
		}
	case given.Send != nil:
		out.Request = t.request("", given.Send, "spec", "cases", i, "send")
	case ok:
		out.Request = request
	default:
		t.add(at("request"), fmt.Sprintf("found unknown request %q", given.Request), oneOf(known), didYouMean(given.Request, known))
	}
	out.Expect = t.expectation(i)
	return out
}

// expectation checks that a case expects something, and nothing that could never be compared.
func (t *tester) expectation(i int) policytest.Expectation {
	e := &t.spec.Cases[i].Expect
	at := func(path ...any) policy.Position {
		return t.o.at(append([]any{"spec", "cases", i, "expect"}, path...)...)
	}
	out := policytest.Expectation{
		Outcome: e.Outcome, Status: int(e.Status), Rule: e.Rule, Message: e.Message, Operations: e.Operations,
		Headers: maps.Clone(e.Headers), Removed: e.Removed, Query: e.Query,
	}
	switch {
	case e.Outcome != "":
		t.outcome(e.Outcome, at("outcome"))
	case e.Status == 0 && !t.o.broken:
		t.add(at(), "found no outcome", "outcome: "+oneOf(policytest.Outcomes()), "what is not expected is not tested")
	case e.Status == 200:
		t.add(at("status"), "found status 200 without an outcome", "outcome: allow or empty", "")
	default:
		out.Outcome = policytest.Deny
	}
	if e.Status != 0 && (e.Status < 200 || e.Status > 599) {
		t.add(at("status"), fmt.Sprintf("found status %d", e.Status), "200 to 599", "")
	}
	if e.Rule != "" && !t.ons[e.Rule] && !t.unread {
		known := sorted(t.ons)
		t.add(at("rule"), fmt.Sprintf("found %q, which no rule is for", e.Rule), oneOf(known), didYouMean(e.Rule, known))
	}
	if len(e.Operations) == 0 {
		if _, given := t.o.find("spec", "cases", i, "expect", "operations"); given && !t.o.broken {
			t.add(at("operations"), "found an empty list", "resource:action", "leave the field out")
		}
	}
	_, hasBody := t.o.find("spec", "cases", i, "expect", "body")
	if out.Outcome != policytest.Allow {
		for field, given := range map[string]bool{"headers": len(e.Headers) > 0, "removed": len(e.Removed) > 0, "body": hasBody, "query": len(e.Query) > 0} {
			if given {
				t.add(at(field), "found what the backend gets, of a request that it does not get", "outcome: allow", "")
			}
		}
	} else if e.Message != nil {
		t.add(at("message"), "found a message of a request that is allowed", "a denial", "")
	}
	t.headerNames("spec", "cases", i, "expect", "headers")
	if hasBody {
		tree, _ := t.o.find("spec", "cases", i, "expect", "body")
		if text := t.json(tree, e.Body); text != nil {
			if v, err := policy.ParseValue(text); err == nil {
				out.Body = &v
			} else {
				t.add(tree.Pos, "found a body that is no strict JSON", "JSON (RFC 7493)", "")
			}
		}
	}
	return out
}
