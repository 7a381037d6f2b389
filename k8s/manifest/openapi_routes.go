package manifest

import (
	"cmp"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/usher-authz/usher/k8s/api/v1alpha1"
	"github.com/usher-authz/usher/policy"
)

// extensionName is the member of a path or an operation that says what OpenAPI has no words for.
const extensionName = "x-usher"

// extension is what it holds: a route's fields, but for method and path.
type extension struct {
	On      string                `json:"on,omitempty"`
	Object  *v1alpha1.RouteObject `json:"object,omitempty"`
	StampAt string                `json:"stampAt,omitempty"`
	Narrow  *v1alpha1.Narrow      `json:"narrow,omitempty"`
	Public  bool                  `json:"public,omitempty"`
}

// openAPI returns the routes of the document that spec.api.openapi names.
func (c *compiler) openAPI(o *Object) []policy.RouteSource {
	doc := c.document(o)
	if doc == nil {
		return nil
	}
	r := openAPIReader{c: c, doc: doc, ids: map[string]policy.Position{}}
	if t := o.text("spec", "api", "openapi", "basePath"); t.Text != "" {
		r.given = true
		if r.base = strings.TrimSuffix(t.Text, "/"); !isBasePath(r.base) {
			c.add(t.Pos, fmt.Sprintf("found base path %q", t.Text), "a decoded path such as /v1", "")
			r.base = ""
		}
	}
	return r.routes()
}

// defaultDocumentKey is the key in a ConfigMap where none is named.
const defaultDocumentKey = "openapi.yaml"

// document finds the document, or says why there is none.
func (c *compiler) document(o *Object) *Object {
	ref := o.AuthPolicy.Spec.API.OpenAPI
	at := []any{"spec", "api", "openapi"}
	switch {
	case o.broken && ref.File == "" && ref.ConfigMapRef == nil:
		return nil
	case (ref.File == "") == (ref.ConfigMapRef == nil):
		c.add(o.at(at...), "found "+map[bool]string{true: "neither file nor configMapRef", false: "both file and configMapRef"}[ref.File == ""], "one of them", "")
		return nil
	case ref.ConfigMapRef != nil:
		return c.configMapDocument(o, *ref.ConfigMapRef)
	}
	name := o.text("spec", "api", "openapi", "file")
	if doc := c.byName[key{kindOpenAPI, "", name.Text}]; doc != nil {
		return doc
	}
	if c.unread {
		return nil // it may be the document that could not be read
	}
	known := c.names(kindOpenAPI, "")
	hint := didYouMean(name.Text, known)
	switch {
	case strings.ContainsAny(name.Text, `/\`):
		hint = "leave out the directory, and load the file with the manifests"
	case hint == "":
		hint = "the file must be loaded with the manifests: name it, or its directory, beside them; in a cluster use configMapRef"
	}
	c.add(name.Pos, fmt.Sprintf("found no OpenAPI document %q", name.Text), oneOf(known), hint)
	return nil
}

// configMapDocument resolves a reference within the object's namespace.
func (c *compiler) configMapDocument(o *Object, ref v1alpha1.ConfigMapKeyRef) *Object {
	at := o.at("spec", "api", "openapi", "configMapRef")
	ref.Key = cmp.Or(ref.Key, defaultDocumentKey)
	if text, ok := o.texts[documentKey]; ok {
		return c.innerDocument(o, text)
	}
	m := c.byName[key{v1alpha1.KindConfigMap, o.Namespace, ref.Name}]
	if m == nil {
		switch {
		case c.reviewing:
			c.unresolved(at, fmt.Sprintf("found ConfigMap %q, which was not read yet", ref.Name), "a ConfigMap with key "+ref.Key, "the object's status will tell")
		case !c.unread:
			hint := didYouMean(ref.Name, c.names(v1alpha1.KindConfigMap, o.Namespace))
			if hint == "" {
				hint = "a ConfigMap in the same namespace serves it"
			}
			c.unresolved(at, fmt.Sprintf("found no ConfigMap %q", ref.Name), "a ConfigMap with key "+ref.Key, hint)
		}
		return nil
	}
	text, ok := m.texts[ref.Key]
	if !ok {
		if !m.broken {
			want := "a ConfigMap with key " + ref.Key
			if !c.apart { // the files are those of who reads this
				want = oneOf(sorted(m.ConfigMap.Data))
			}
			c.unresolved(at, fmt.Sprintf("found no key %q in the data of ConfigMap %q", ref.Key, ref.Name), want, "")
		}
		return nil
	}
	return c.innerDocument(o, text)
}

// innerDocument reads the document for a policy.
func (c *compiler) innerDocument(o *Object, text inner) *Object {
	var doc Object
	var problems policy.Problems
	if c.apart { // of two policies with one document, only one may be wrong about it
		text.source, text.first, text.indent = &source{}, 0, 0
		doc, problems = c.read(text)
		file, _, _ := strings.Cut(o.Pos.File, "[")
		doc, problems = inFile(doc, problems, file+"[OpenAPI]")
	} else {
		doc, problems = text.document()
	}
	c.problems = append(c.problems, problems...)
	if doc.Kind == "" {
		return nil
	}
	return &doc
}

// maxOperations bounds the operations of a document, as the routes of a policy are.
const maxOperations = 5000

// openAPIReader makes routes of one document.
type openAPIReader struct {
	c     *compiler
	doc   *Object
	base  string
	given bool                       // the policy says the base path
	ids   map[string]policy.Position // operationIds that name what an operation is
}

func (r *openAPIReader) routes() []policy.RouteSource {
	c, doc := r.c, r.doc
	for _, m := range doc.tree.Members {
		if m.Name.Text == extensionName || misspelt(m.Name.Text) {
			c.add(m.Name.Pos, fmt.Sprintf("found %s beside paths", m.Name.Text), extensionName+" in a path or an operation", "")
		}
	}
	if servers, ok := doc.find("servers"); ok && !r.given {
		r.base = r.basePath(servers)
	}
	paths, given := doc.find("paths")
	if !given || !paths.IsObject {
		if _, reported := paths.Scalar.(unread); !reported {
			c.add(doc.at("paths"), "found no paths", "an object of paths and their operations", "")
		}
		return nil
	}
	var out []policy.RouteSource
	before := len(c.problems)
	for _, m := range paths.Members {
		if misspelt(m.Name.Text) || m.Name.Text == extensionName {
			c.add(m.Name.Pos, fmt.Sprintf("found %s among the paths", m.Name.Text), extensionName+" in a path or an operation", "")
		} else if !strings.HasPrefix(m.Name.Text, "x-") {
			out = append(out, r.path(m)...)
		}
		if len(out) > maxOperations {
			c.add(m.Name.Pos, fmt.Sprintf("found more than %d operations", maxOperations), fmt.Sprintf("at most %d", maxOperations), "write a document and a policy for some of the hosts")
			return nil
		}
	}
	if len(out) == 0 && len(c.problems) == before && !doc.broken {
		c.add(doc.at("paths"), "found no operations", "at least one", "")
	}
	return out
}

// itemMembers are the fixed fields of a path item beside its operations (OpenAPI 3.1, section 4.8.9.1).
func itemMembers() []string {
	return append(openAPIMethods(), "$ref", "summary", "description", "servers", "parameters", extensionName)
}

// path makes the routes of one path.
func (r *openAPIReader) path(m policy.Member) []policy.RouteSource {
	c, item := r.c, m.Value
	if !item.IsObject {
		r.mismatch(item, "an object with operations")
		return nil
	}
	if !strings.HasPrefix(m.Name.Text, "/") {
		c.add(m.Name.Pos, fmt.Sprintf("found path %q", m.Name.Text), "one that starts with /", "")
		return nil
	}
	if ref, ok := member(item, "$ref"); ok {
		c.add(ref.Name.Pos, "found a path elsewhere", "the operations themselves", "bundle the document: nothing else is read")
		return nil
	}
	base := r.base
	if servers, ok := member(item, "servers"); ok && !r.given {
		base = r.basePath(servers.Value)
	}
	r.styles(item)
	shared, _ := member(item, extensionName)
	r.check(shared.Value)
	_, hasGet := member(item, "get")
	var out []policy.RouteSource
	for _, op := range item.Members {
		name := op.Name.Text
		switch {
		case slices.Contains(openAPIMethods(), name):
			if _, own := member(op.Value, extensionName); name == "head" && hasGet && !own {
				continue // a GET route answers HEAD
			}
			out = append(out, r.operation(m.Name, op, shared.Value, base)...)
		case misspelt(name):
			c.add(op.Name.Pos, fmt.Sprintf("found %q", name), extensionName, "")
		case !strings.HasPrefix(name, "x-") && !slices.Contains(itemMembers(), name):
			c.add(op.Name.Pos, fmt.Sprintf("found unknown member %q of a path", name), "a method in lower case: "+oneOf(openAPIMethods()), didYouMean(name, itemMembers()))
		}
	}
	return out
}

// operation makes the route of one operation.
func (r *openAPIReader) operation(path policy.Text, op policy.Member, shared policy.Tree, base string) []policy.RouteSource {
	c := r.c
	if !op.Value.IsObject {
		r.mismatch(op.Value, "an operation: an object")
		return nil
	}
	for _, m := range op.Value.Members {
		if misspelt(m.Name.Text) || strings.EqualFold(m.Name.Text, "operationId") && m.Name.Text != "operationId" {
			c.add(m.Name.Pos, fmt.Sprintf("found %q", m.Name.Text), map[bool]string{true: extensionName, false: "operationId"}[misspelt(m.Name.Text)], "")
		}
	}
	if servers, ok := member(op.Value, "servers"); ok && !r.given {
		base = r.basePath(servers.Value)
	}
	r.styles(op.Value)
	own, _ := member(op.Value, extensionName)
	r.check(own.Value)
	merged := mergeExtension(own.Value, shared, op.Name.Text)
	merged.Pos = op.Name.Pos
	at := []any{"paths", path.Text, op.Name.Text, extensionName}
	o := &Object{Pos: r.doc.Pos, broken: r.doc.broken, tree: nested(r.doc.tree, merged, path, op.Name)}
	routes := c.route(o, at...)
	if len(routes) != 1 {
		return nil
	}
	route := routes[0]
	route.Pos = op.Name.Pos
	route.Method = policy.Text{Text: strings.ToUpper(op.Name.Text), Pos: op.Name.Pos}
	route.Path = policy.Text{Text: base + templateOf(path.Text), Pos: path.Pos}
	route.Path.Pos.Inexact = true // the base path stands elsewhere
	if route.Object != nil {
		route.Object.Get.Text = base + templateOf(route.Object.Get.Text)
		route.Object.Get.Pos.Inexact = true
	}
	if route.On.Text == "" && !route.Public {
		on, ok := r.name(op)
		if !ok {
			return nil
		}
		route.On = on
	}
	return []policy.RouteSource{route}
}

// operationName is an operationId that says what the operation is: orders.create, orders:create or orders/create.
var operationName = regexp.MustCompile(`^([A-Za-z_][A-Za-z0-9_-]*)[.:/]([A-Za-z_][A-Za-z0-9_-]*)$`)

// name takes resource and action from the operationId.
func (r *openAPIReader) name(op policy.Member) (policy.Text, bool) {
	const want = "resource and action, as in orders.create"
	const hint = extensionName + ` beside it says more: {on: "orders:create"}, or {public: true} for everybody`
	m, given := member(op.Value, "operationId")
	id, isText := m.Value.Scalar.(string)
	switch parts := operationName.FindStringSubmatch(id); {
	case !given:
		r.c.add(op.Name.Pos, "found neither operationId nor "+extensionName, want, hint)
	case !isText:
		r.mismatch(m.Value, "a string")
	case parts == nil:
		r.c.add(m.Value.Pos, fmt.Sprintf("found operationId %q", id), want, hint)
	default:
		if first, twice := r.ids[id]; twice {
			r.c.add(m.Value.Pos, fmt.Sprintf("found operationId %q twice", id), "each once", "the first one is at "+first.String()+"; "+extensionName+": {on: ...} may be the same for several")
			return policy.Text{}, false
		}
		r.ids[id] = m.Value.Pos
		return policy.Text{Text: parts[1] + ":" + parts[2], Pos: m.Value.Pos}, true
	}
	return policy.Text{}, false
}

// check reads the extension of a path or an operation for what cannot stand in it.
func (r *openAPIReader) check(t policy.Tree) {
	if !t.IsObject {
		if t.Pos != (policy.Position{}) {
			r.mismatch(t, "an object with on, object, stampAt, narrow or public")
		}
		return
	}
	d := &decoder{}
	d.decode(t, reflect.ValueOf(&extension{}))
	r.c.problems = append(r.c.problems, d.problems...)
}

func (r *openAPIReader) mismatch(t policy.Tree, want string) {
	if _, reported := t.Scalar.(unread); !reported {
		r.c.add(t.Pos, "found "+found(t), want, "")
	}
}

// mergeExtension returns the operation's extension, and what it leaves out as its path says it. An operation that is public by
// its own word takes nothing from the path.
func mergeExtension(own, shared policy.Tree, method string) policy.Tree {
	own.IsObject = true
	own.Members = slices.Clone(own.Members)
	if public, ok := member(own, "public"); ok && public.Value.Scalar == true {
		return own
	}
	for _, m := range shared.Members {
		if _, given := member(own, m.Name.Text); given || m.Name.Text == "stampAt" && !slices.Contains([]string{"post", "put", "patch"}, method) {
			continue
		}
		own.Members = append(own.Members, m)
	}
	return own
}

// nested puts what an operation says where it stands in the document, so that problems show the way to it.
func nested(doc, merged policy.Tree, path, method policy.Text) policy.Tree {
	for _, name := range []policy.Text{{Text: extensionName, Pos: merged.Pos}, method, path, {Text: "paths", Pos: doc.Pos}} {
		merged = policy.Tree{Pos: name.Pos, IsObject: true, Members: []policy.Member{{Name: name, Value: merged}}}
	}
	return merged
}

// parameterName are the characters that may stand in a parameter's name here but not in CEL.
var parameterName = strings.NewReplacer("-", "_", ".", "_")

// templateOf writes a path of OpenAPI as a template: {order-id} is {order_id}.
func templateOf(path string) string {
	segments := strings.Split(path, "/")
	for i, s := range segments {
		if strings.HasPrefix(s, "{") && strings.HasSuffix(s, "}") {
			segments[i] = parameterName.Replace(s)
		}
	}
	return strings.Join(segments, "/")
}

// styles refuses path parameters that stand otherwise in a path than as a segment of their own (OpenAPI 3.1, section 4.8.12.2).
func (r *openAPIReader) styles(t policy.Tree) {
	list, _ := member(t, "parameters")
	for _, p := range list.Value.Items {
		if ref, ok := member(p, "$ref"); ok {
			name, _ := ref.Value.Scalar.(string)
			name, local := strings.CutPrefix(name, "#/components/parameters/")
			if p, ok = r.doc.find("components", "parameters", name); !ok || !local {
				continue // the path alone says that it is a segment
			}
		}
		in, _ := member(p, "in")
		style, given := member(p, "style")
		if in.Value.Scalar == "path" && given && style.Value.Scalar != "simple" {
			r.c.add(style.Value.Pos, fmt.Sprintf("found a path parameter of style %v", style.Value.Scalar), "simple", "a parameter is a segment of its own; `;` and a dot before it are not read")
		}
	}
}
