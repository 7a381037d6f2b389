package manifest

import (
	"errors"
	"fmt"

	"github.com/usher-authz/usher/extauthz/lookup"
	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/k8s/api/v1alpha1"
	"github.com/usher-authz/usher/policy"
)

// Compile checks what the objects say, by themselves and together, and compiles them. It is all or nothing: there is a
// Compiled only if there is no problem, and none either if [Parse] reported a problem with one of the objects.
func Compile(objects []Object, presets map[string]policy.Preset) (*Compiled, policy.Problems) {
	return (*Compiled)(nil).Next(objects, presets)
}

// Next compiles as [Compile] does, and takes over from prev, which may be nil, the policies that have not changed since. The
// presets must be the same. prev does not change.
func (prev *Compiled) Next(objects []Object, presets map[string]policy.Preset) (*Compiled, policy.Problems) {
	if len(objects) == 0 {
		return nil, policy.Problems{{Found: "found no manifests", Want: oneOf(kinds())}}
	}
	return prev.next(newCompiler(presets), objects)
}

func (prev *Compiled) next(c *compiler, given []Object) (*Compiled, policy.Problems) {
	objects, problems := fillPresets(given, prev.filled(), c.memos.filled)
	c.index(objects)
	presets := c.presets
	c.problems = append(c.problems, problems...)
	out := &Compiled{Providers: map[string]token.Config{}, Backends: map[string]lookup.Config{}, Objects: given}
	for i := range objects {
		if o := &objects[i]; o.IdentityProvider != nil && c.byName[c.key(o)] == o {
			out.Providers[c.name(o)] = c.providerSince(prev, o)
		}
	}
	var set policy.Set
	for i := range objects {
		o := &objects[i]
		if o.AuthPolicy == nil || c.byName[c.key(o)] != o {
			continue
		}
		if o.standIn {
			set.Policies = append(set.Policies, c.unavailable(o))
			continue
		}
		if source, ok := c.policySince(prev, o); ok {
			set.Policies = append(set.Policies, source)
		}
		if o.AuthPolicy.Spec.Backend != nil {
			c.guarded(o, func() { out.Backends[c.name(o)] = c.triedBackend(o, prev) })
		}
	}
	for i := range objects {
		if o := &objects[i]; o.PolicyTest != nil && c.byName[c.key(o)] == o {
			out.Tests = append(out.Tests, c.test(o))
		}
	}
	var before *policy.Snapshot
	if prev != nil {
		before = prev.Snapshot
	}
	snapshot, attempt, err := before.Attempt(set, presets)
	c.attempt = &Compiled{Snapshot: attempt, Providers: out.Providers, Backends: c.backends, memos: c.memos}
	out.memos = c.memos
	c.join(err, c.place(objects))
	if c.broken || len(c.problems) > 0 {
		return nil, c.problems.Sort()
	}
	out.Snapshot = snapshot
	return out, nil
}

// compiler holds what the checks of several objects share.
type compiler struct {
	presets map[string]policy.Preset
	byName  map[key]*Object // the first of each name
	// qualified says that names carry their namespace, as objects of several ones are loaded.
	qualified  bool
	given      map[key]*Object // the providers as they are now, whatever stands in for them; nil: as compiled
	reviewing  bool            // one object is looked at before it is stored: what it refers to may not have been read
	apart      bool            // objects come one by one, of several owners: see Keeper
	allowLocal bool
	own        string                     // the namespace of the gate itself
	broken     bool                       // an object has a problem that Parse reported
	unread     bool                       // an object could not be read so far that its kind and name are known
	grants     Grants                     // of hosts to tenants
	hosts      claims                     // of Enforce policies
	conflicts  map[string]bool            // files of policies that want a host of another's
	ungranted  map[string]bool            // files of policies that want a host that their tenant was not granted
	published  map[[2]string]publishedKey // of assertions, by tenant and kid
	problems   policy.Problems
	// What only the users of configurations can tell; nil: nobody is asked.
	tryProvider func(token.Config) error
	tryBackend  func(lookup.Config) error
	read        func(inner) (Object, policy.Problems) // the document of a text that has no place of its own
	backends    map[string]lookup.Config              // that were tried, and are good
	listed      map[key][]string                      // for names
	memos       memos
	asked       map[key]any // what is looked up meanwhile, if that is noted
	attempt     *Compiled   // what was learned, whether it is good or not: for the next one
}

type key struct{ kind, namespace, name string }

func newCompiler(presets map[string]policy.Preset) *compiler {
	return &compiler{
		presets: presets, byName: map[key]*Object{}, hosts: claims{map[string]claimant{}, map[string][]claimant{}}, conflicts: map[string]bool{}, ungranted: map[string]bool{},
		published: map[[2]string]publishedKey{}, backends: map[string]lookup.Config{}, listed: map[key][]string{}, memos: newMemos(),
	}
}

// index finds the objects by their names.
func (c *compiler) index(objects []Object) {
	namespaces := map[string]bool{}
	for i := range objects {
		o := &objects[i]
		c.broken = c.broken || o.broken
		c.unread = c.unread || o.Kind == "" || o.Name == ""
		if o.Kind == "" || o.Name == "" {
			c.broken = true
			continue
		}
		if o.IdentityProvider != nil || o.AuthPolicy != nil {
			namespaces[o.Namespace] = true
		}
		if first := c.byName[c.key(o)]; first != nil {
			at := o.at("metadata", "name")
			if o.Kind == kindOpenAPI {
				at = o.Pos
			}
			c.add(at, fmt.Sprintf("found a second %s %q", o.Kind, o.Name), "each name once", "the first one is at "+first.at("metadata", "name").String())
			continue
		}
		c.byName[c.key(o)] = o
	}
	c.qualified = c.qualified || len(namespaces) > 1
}

func (c *compiler) key(o *Object) key { return key{o.Kind, o.Namespace, o.Name} }

// name is what an object is called in decisions and logs.
func (c *compiler) name(o *Object) string {
	if c.qualified && o.Namespace != "" {
		return o.Namespace + "/" + o.Name
	}
	return o.Name
}

// names are the names of a kind in one namespace, sorted.
func (c *compiler) names(kind, namespace string) []string {
	of := key{kind, namespace, ""}
	if out, known := c.listed[of]; known {
		return out
	}
	found := map[string]bool{}
	for k := range c.byName {
		if k.kind == kind && k.namespace == namespace {
			found[k.name] = true
		}
	}
	c.listed[of] = sorted(found)
	return c.listed[of]
}

func (c *compiler) add(pos policy.Position, found, want, hint string) {
	c.problems = append(c.problems, policy.Problem{Pos: pos, Found: found, Want: want, Hint: hint})
}

// unresolved is add for a reference to what is not there.
func (c *compiler) unresolved(pos policy.Position, found, want, hint string) {
	c.problems = append(c.problems, policy.Problem{Pos: pos, Found: found, Want: want, Hint: hint, Unresolved: true})
}

// missing reports a field that is not there or empty, unless the object has problems that may be the reason.
func (c *compiler) missing(o *Object, want string, path ...any) {
	if !o.broken {
		c.add(o.at(path...), "found none", want, "")
	}
}

// join adds the problems of the policy package; an error of another kind is a problem too.
func (c *compiler) join(err error, pos policy.Position) {
	var ps policy.Problems
	switch {
	case err == nil:
	case errors.As(err, &ps):
		c.problems = append(c.problems, ps...)
	default:
		c.add(pos, "found policies that cannot be compiled: "+err.Error(), "", "")
	}
}

// place is where to show a problem of the whole.
func (c *compiler) place(objects []Object) policy.Position {
	for _, o := range objects {
		if o.Kind == v1alpha1.KindAuthPolicy {
			return o.Pos
		}
	}
	return objects[0].Pos
}
