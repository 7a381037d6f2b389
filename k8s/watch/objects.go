package watch

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/usher-authz/usher/k8s/api/v1alpha1"
	"github.com/usher-authz/usher/k8s/manifest"
	"github.com/usher-authz/usher/policy"
)

// object is one object of the cluster, as it was read last.
type object struct {
	file     string                     // "AuthPolicy namespace/name"
	source   *unstructured.Unstructured // as [compact] leaves it; nil for a Secret or a ConfigMap
	created  metav1.Time
	parsed   manifest.Object
	problems policy.Problems // of parsing
	refs     []reference     // what it refers to
	lastRefs []reference     // what its last good version refers to, while that is in force
}

// fileOf is what the object is called in positions.
func fileOf(u *unstructured.Unstructured) string {
	return u.GetKind() + " " + u.GetNamespace() + "/" + u.GetName()
}

// compact is [compacted] as a transform of informers, which may show it what it made already.
func compact(seen any) (any, error) {
	u, ok := seen.(*unstructured.Unstructured)
	if !ok {
		return seen, nil
	}
	if _, done := u.Object["spec"].(string); done {
		return u, nil
	}
	return compacted(u), nil
}

// compacted leaves of an object what is needed: its spec as one text, a fraction of the memory that it takes as maps, and no
// managed fields.
func compacted(u *unstructured.Unstructured) *unstructured.Unstructured {
	spec, _, _ := unstructured.NestedMap(u.Object, "spec")
	quoteOn(spec)
	quoteJWKs(spec)
	text, err := json.Marshal(spec)
	if err != nil { // it came as JSON
		text = nil
	}
	out := &unstructured.Unstructured{Object: map[string]any{"spec": string(text)}}
	if beside := besideSpec(u); len(beside) > 0 {
		text, _ := json.Marshal(beside) // they are strings
		out.Object["beside"] = string(text)
	}
	if status, found := u.Object["status"]; found {
		out.Object["status"] = status
	}
	out.SetGroupVersionKind(u.GroupVersionKind())
	out.SetNamespace(u.GetNamespace())
	out.SetName(u.GetName())
	out.SetUID(u.GetUID())
	out.SetGeneration(u.GetGeneration())
	out.SetResourceVersion(u.GetResourceVersion())
	out.SetCreationTimestamp(u.GetCreationTimestamp())
	return out
}

// besideSpec are the names of the members that a manifest has not, in their order. One indented too little stands there.
func besideSpec(u *unstructured.Unstructured) (out []string) {
	for name := range u.Object {
		switch name {
		case "apiVersion", "kind", "metadata", "spec", "status":
		default:
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// specOf is the spec that [compact] left; what is no JSON value is none.
func specOf(u *unstructured.Unstructured) json.RawMessage {
	text, _ := u.Object["spec"].(string)
	if !json.Valid([]byte(text)) {
		return json.RawMessage("null")
	}
	return json.RawMessage(text)
}

// store holds the objects as the API server has them. It is filled by informers, and safe for concurrent use.
type store struct {
	mu      sync.Mutex
	latest  map[string]*unstructured.Unstructured // by file
	touched map[string]bool                       // those that came, changed or went since take
	notice  func()
}

func newStore(notice func()) *store {
	return &store{latest: map[string]*unstructured.Unstructured{}, touched: map[string]bool{}, notice: notice}
}

// handler is what informers tell.
func (s *store) handler() toolscache.ResourceEventHandler {
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc:    s.set,
		UpdateFunc: func(_, now any) { s.set(now) },
		DeleteFunc: func(was any) {
			if unknown, ok := was.(toolscache.DeletedFinalStateUnknown); ok {
				was = unknown.Obj
			}
			if u, ok := was.(*unstructured.Unstructured); ok {
				s.change(fileOf(u), nil)
			}
		},
	}
}

func (s *store) set(now any) {
	if u, ok := now.(*unstructured.Unstructured); ok {
		s.change(fileOf(u), u)
	}
}

func (s *store) change(file string, to *unstructured.Unstructured) {
	s.mu.Lock()
	if to == nil {
		delete(s.latest, file)
	} else {
		s.latest[file] = to
	}
	s.touched[file] = true
	s.mu.Unlock()
	s.notice()
}

// get returns an object as the API server has it; nil: it has none. Nobody may change it.
func (s *store) get(file string) *unstructured.Unstructured {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.latest[file]
}

// take returns what came, changed (nil: went) since it was called last.
func (s *store) take() map[string]*unstructured.Unstructured {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]*unstructured.Unstructured, len(s.touched))
	for file := range s.touched {
		out[file] = s.latest[file]
	}
	clear(s.touched)
	return out
}

// older orders by age, and then by name: conflicts are settled so in the whole Gateway API (GEP-713). The age is of the API
// server's own clock.
func older(a, b *object) int {
	if c := a.created.Compare(b.created.Time); c != 0 {
		return c
	}
	return strings.Compare(a.file, b.file)
}

// same reports whether an object is what was read, whatever its status says.
func same(o *object, u *unstructured.Unstructured) bool {
	return o.source.GetUID() == u.GetUID() && o.source.Object["spec"] == u.Object["spec"] && o.source.Object["beside"] == u.Object["beside"]
}

// readObject turns an object of the API server into a manifest's. What its spec says is read as a file is, by the same reader.
func readObject(u *unstructured.Unstructured) *object {
	o := &object{file: fileOf(u), source: u, created: u.GetCreationTimestamp()}
	spec := specOf(u)
	var beside []string
	if text, found := u.Object["beside"].(string); found {
		_ = json.Unmarshal([]byte(text), &beside) // compacted made it
	}
	parsed, problems := manifest.ParseStored(o.file, marshal(u, spec, beside...))
	o.problems = problems
	if len(parsed) == 1 && parsed[0].Kind == u.GetKind() {
		o.parsed = parsed[0]
		o.refs = refsOf(o)
		return o
	}
	// What cannot be read guards its hosts all the same.
	var fields map[string]any // not a struct, which takes Hosts for hosts too
	bare := map[string]any{}
	_ = json.Unmarshal(spec, &fields) // what is no object has no hosts
	if hosts, _ := fields["hosts"].([]any); len(hosts) > 0 {
		bare["hosts"] = slices.DeleteFunc(hosts, func(v any) bool {
			host, ok := v.(string) // one that cannot be read must not open the others
			return !ok || strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r >= 0x7f })
		})
	}
	if fields["mode"] == string(v1alpha1.Shadow) {
		bare["mode"] = fields["mode"] // it guards nothing
	}
	parsed, more := manifest.ParseStored(o.file, marshal(u, bare))
	o.problems = append(o.problems, more...)
	if len(parsed) > 0 {
		o.parsed = parsed[0]
	}
	o.parsed.Pos.File = o.file
	return o
}

func marshal(u *unstructured.Unstructured, spec any, beside ...string) []byte {
	all := map[string]any{}
	for _, name := range beside {
		all[name] = nil
	}
	all["apiVersion"], all["kind"], all["spec"] = u.GetAPIVersion(), u.GetKind(), spec
	all["metadata"] = map[string]any{"name": u.GetName(), "namespace": u.GetNamespace()}
	text, err := json.Marshal(all)
	if err != nil { // it came as JSON
		return nil
	}
	return escaped(text)
}

// quoteOn gives a member named "true" its name back, where the definitions have it: YAML 1.1 readers take an unquoted on for
// the boolean, kubectl among them.
func quoteOn(spec map[string]any) {
	api, _ := spec["api"].(map[string]any)
	for _, list := range []any{spec["rules"], api["routes"]} {
		items, _ := list.([]any)
		for _, item := range items {
			m, ok := item.(map[string]any)
			if !ok {
				continue
			}
			if v, found := m["true"]; found && m["on"] == nil {
				m["on"] = v
				delete(m, "true")
			}
		}
	}
}
