package manifest

import (
	"cmp"
	"reflect"
	"slices"
	"strings"

	"github.com/usher-authz/usher/extauthz/lookup"
	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/k8s/api/v1alpha1"
	"github.com/usher-authz/usher/policy"
)

// Verdict is what became of one object, beside what [Parse] said of it.
type Verdict struct {
	// Problems of the object as it stands; none: it is in force.
	Problems policy.Problems
	// Conflicted says that it wants a host that an older policy guards.
	Conflicted bool
	// NotGranted says that it wants a host that its namespace was not granted.
	NotGranted bool
	// LastGood says that an earlier version of it is in force instead.
	LastGood bool
	// Idle says that it is a Shadow policy that sees no request, as no Enforce policy of its namespace guards one of its hosts.
	Idle bool
}

// Keeper compiles objects that come and go one by one, as in a cluster, and takes none down for another's problems: in the
// place of one that does not compile stands its last good version, with the Secrets that it had, or, for a policy without
// one, a refusal of whoever asks for its hosts. It is not safe for concurrent use.
type Keeper struct {
	// Own is the gate's own namespace: who writes there can change the gate itself. Each other namespace is a tenant's, who must
	// not be able to touch what is others'. Empty: each is.
	Own string
	// AllowLocal lets Usher connect to its own machine and its link for objects of tenants too: see package egress.
	AllowLocal bool
	// Grants say which hosts the policies of tenants may have.
	Grants Grants
	// Provider and Backend say what only those can tell who use the configurations: an error is a problem of the object. They
	// must be safe for concurrent use, and are asked about each configuration of a provider once. nil: nobody is asked.
	Provider func(token.Config) error
	Backend  func(lookup.Config) error

	presets map[string]policy.Preset
	prev    *Compiled
	good    map[string]Object // by file, with the Secrets that they had

	documents documents // that policies have
}

// NewKeeper returns one that knows no last good version of anything.
func NewKeeper(presets map[string]policy.Preset) *Keeper {
	return &Keeper{presets: presets, good: map[string]Object{}}
}

// Compile compiles the objects, which come in order of age, as of two policies with one host the first keeps it. Each has a
// file of its own, which names its verdict. All names carry their namespace. Compiled is never nil.
func (k *Keeper) Compile(objects []Object) (*Compiled, map[string]Verdict) {
	verdicts := map[string]Verdict{}
	for i := range objects {
		verdicts[objects[i].Pos.File] = Verdict{}
	}
	given := map[key]*Object{}
	for i := range objects {
		if o := &objects[i]; o.IdentityProvider != nil {
			given[key{o.Kind, o.Namespace, o.Name}] = o
		}
	}
	current, before := slices.Clone(objects), k.prev
	k.documents.next()
	for round := 1; len(current) > 0; round++ {
		c := k.compiler()
		c.read, c.given = k.documents.read, given
		compiled, problems := before.next(c, current)
		before = c.attempt
		if compiled != nil {
			k.keep(compiled, verdicts)
			c.idle(compiled, verdicts)
			return compiled, verdicts
		}
		bad := map[string]policy.Problems{}
		for _, p := range problems {
			// What is wrong in a document is its policy's problem: see inner.document.
			file, _, _ := strings.Cut(p.Pos.File, "[")
			bad[file] = append(bad[file], p)
		}
		for i := range current {
			if o := &current[i]; o.broken || o.Kind == "" || o.Name == "" {
				bad[o.Pos.File] = append(policy.Problems{}, bad[o.Pos.File]...) // Parse said why
			}
		}
		next, changed := k.replace(current, bad, c, verdicts, round > maxRounds)
		if !changed {
			// A problem that no object has: what is in force stays.
			for file, v := range verdicts {
				v.Problems = append(v.Problems, problems...)
				verdicts[file] = v
			}
			if k.prev != nil {
				return k.prev, verdicts
			}
			next = nil
		}
		current = next
	}
	k.prev = k.empty()
	return k.prev, verdicts
}

// compiler is one for objects that stand each for itself.
func (k *Keeper) compiler() *compiler {
	c := newCompiler(k.presets)
	c.qualified, c.apart = true, true
	c.own, c.allowLocal, c.grants = k.Own, k.AllowLocal, k.Grants
	c.tryProvider, c.tryBackend = k.Provider, k.Backend
	c.read = k.documents.look
	return c
}

// maxRounds bounds how often the last good version of a policy takes the place of one that is bad: its hosts may be those that
// another one has now, which is bad then, and so on. Past that a bad policy is refused, which ends it: a refusal takes no host
// that another policy has.
const maxRounds = 8

// replace puts something else in the place of each bad object, the last good version of a policy unless closed; changed is
// false if there is none.
func (k *Keeper) replace(current []Object, bad map[string]policy.Problems, c *compiler, verdicts map[string]Verdict, closed bool) (next []Object, changed bool) {
	for _, o := range current {
		file := o.Pos.File
		problems, isBad := bad[file]
		if !isBad {
			next = append(next, o)
			continue
		}
		changed = true
		v := verdicts[file]
		if !v.LastGood { // else these are problems of the version before
			v.Problems, v.Conflicted, v.NotGranted = append(v.Problems, problems...), v.Conflicted || c.conflicts[file], v.NotGranted || c.ungranted[file]
		}
		last, known := k.good[file]
		switch {
		case known && !v.LastGood && !o.standIn && !(closed && o.AuthPolicy != nil):
			v.LastGood = true
			last.secrets = nil
			next = append(next, last)
		case known && v.LastGood && o.secrets == nil && len(last.secrets) > 0:
			next = append(next, last)
		case o.AuthPolicy != nil && !o.standIn:
			v.LastGood = false
			o.standIn, o.broken = true, false
			next = append(next, o)
		default:
			v.LastGood = false
		}
		verdicts[file] = v
	}
	return next, changed
}

// noSecrets are those of an object that refers to none; nobody writes into it.
var noSecrets = map[string]*v1alpha1.Secret{}

// keep notes what is good now, and forgets what is gone.
func (k *Keeper) keep(compiled *Compiled, verdicts map[string]Verdict) {
	secrets := map[string]*v1alpha1.Secret{} // by file
	for _, o := range compiled.Objects {
		if o.Secret != nil {
			secrets[o.Pos.File] = o.Secret
		}
	}
	good := map[string]Object{}
	for _, o := range compiled.Objects {
		if _, exists := verdicts[o.Pos.File]; !exists || o.standIn || o.Secret != nil {
			continue
		}
		if o.secrets == nil {
			o.secrets = noSecrets
			if len(o.refs) > 0 {
				o.secrets = map[string]*v1alpha1.Secret{}
			}
			for _, name := range o.SecretRefs() {
				if s := secrets[SecretFile(o.Namespace, name)]; s != nil {
					o.secrets[name] = s
				}
			}
		}
		good[o.Pos.File] = o
	}
	for file, o := range good {
		if text, ok := o.document(good); ok {
			o.texts = map[string]inner{documentKey: text} // it has its own, whatever the ConfigMap says later
			good[file] = o
		}
	}
	k.good, k.prev = good, compiled
}

// SecretRefs returns the Secrets that the last good version of an object refers to, as [Object.SecretRefs] does.
func (k *Keeper) SecretRefs(file string) []string {
	last := k.good[file]
	return last.SecretRefs()
}

// Forget drops the last good version of an object that is gone, whatever has its name now.
func (k *Keeper) Forget(file string) { delete(k.good, file) }

// SecretFile is what the Secret of that name is called in positions.
func SecretFile(namespace, name string) string {
	return v1alpha1.KindSecret + " " + namespace + "/" + name
}

// ConfigMapFile is what the ConfigMap of that name is called in positions.
func ConfigMapFile(namespace, name string) string {
	return v1alpha1.KindConfigMap + " " + namespace + "/" + name
}

// ConfigMapRefs returns the ConfigMaps that an object refers to, by name, in its own namespace.
func (o *Object) ConfigMapRefs() []string {
	if t := o.text("spec", "api", "openapi", "configMapRef", "name"); o.AuthPolicy != nil && t.Text != "" {
		return []string{t.Text}
	}
	return nil
}

// documentKey is where a policy that was good has the OpenAPI document that it had then.
const documentKey = ""

// document returns the text of the OpenAPI document that a good policy has by a ConfigMap.
func (o *Object) document(objects map[string]Object) (inner, bool) {
	if o.AuthPolicy == nil || o.AuthPolicy.Spec.API.OpenAPI == nil || o.AuthPolicy.Spec.API.OpenAPI.ConfigMapRef == nil {
		return inner{}, false
	}
	if text, ok := o.texts[documentKey]; ok {
		return text, true
	}
	ref := o.AuthPolicy.Spec.API.OpenAPI.ConfigMapRef
	m := objects[ConfigMapFile(o.Namespace, ref.Name)]
	text, ok := m.texts[cmp.Or(ref.Key, defaultDocumentKey)]
	return text, ok
}

// empty is what is in force where nothing is: every host is answered 404.
func (k *Keeper) empty() *Compiled {
	out := &Compiled{}
	out.Snapshot, _ = policy.New(policy.Set{}, k.presets) // there is nothing in it that could be wrong
	return out
}

// unavailable is what stands for a policy that never compiled: its hosts, as far as they can be read and are nobody else's.
func (c *compiler) unavailable(o *Object) policy.Source {
	s := policy.Source{Name: c.name(o), Tenant: c.tenant(o), Pos: o.at("metadata", "name"), Unavailable: true, Shadow: o.AuthPolicy.Spec.Mode == v1alpha1.Shadow}
	for i := range o.AuthPolicy.Spec.Hosts {
		h := o.text("spec", "hosts", i)
		host := strings.ToLower(h.Text)
		if host != "*" && !isHost(strings.TrimPrefix(host, "*.")) {
			continue
		}
		if !s.Shadow {
			if _, taken := c.holder(host, o); taken || !c.grants.Allow(s.Tenant, host) {
				continue
			}
			c.take(host, o, h.Pos)
		}
		s.Hosts = append(s.Hosts, h)
	}
	return s
}

// SecretRefs returns the Secrets that an object refers to, by name, in its own namespace: where a reference belongs, and not
// wherever something looks like one.
func (o *Object) SecretRefs() []string { return o.refs }

func (o *Object) secretRefs() []string {
	found := map[string]bool{}
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Pointer:
			if !v.IsNil() {
				walk(v.Elem())
			}
		case reflect.Slice:
			for i := range v.Len() {
				walk(v.Index(i))
			}
		case reflect.Map: // but not what is free in an object: its values are of any type
			for _, k := range v.MapKeys() {
				walk(v.MapIndex(k))
			}
		case reflect.Struct:
			if v.Type() == reflect.TypeFor[v1alpha1.SecretKeyRef]() {
				if name := v.FieldByName("Name").String(); name != "" {
					found[name] = true
				}
				return
			}
			for i := range v.NumField() {
				walk(v.Field(i))
			}
		}
	}
	switch {
	case o.IdentityProvider != nil:
		walk(reflect.ValueOf(&o.IdentityProvider.Spec))
	case o.AuthPolicy != nil:
		walk(reflect.ValueOf(&o.AuthPolicy.Spec))
	}
	if len(found) == 0 {
		return nil
	}
	names := sorted(found)
	return names[:min(len(names), maxReferences)] // more are a problem of the object
}
