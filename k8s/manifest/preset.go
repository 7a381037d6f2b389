package manifest

import (
	_ "embed" // presets.yaml
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"

	"github.com/usher-authz/usher/k8s/api/v1alpha1"
	"github.com/usher-authz/usher/policy"
)

//go:embed presets.yaml
var presetsText []byte

// providerPresets are the presets of IdentityProviders, by name.
var providerPresets = sync.OnceValue(func() policy.Tree {
	src, chunks, problem := read("presets.yaml", presetsText)
	if problem != nil || len(chunks) != 1 {
		panic("presets.yaml cannot be read")
	}
	tree, problems := parsePresets(&src, chunks[0])
	if len(problems) > 0 {
		panic(problems.Error())
	}
	return tree
})

// fillPresets returns the objects with what their presets say about fields that the manifest leaves out. A field filled in
// has the place of `preset`. The objects given stay as they are. What was filled before is taken over, and what is filled noted.
func fillPresets(objects []Object, before, note map[*v1alpha1.IdentityProvider]Object) ([]Object, policy.Problems) {
	out := slices.Clone(objects)
	var problems policy.Problems
	for i := range out {
		o := &out[i]
		if o.IdentityProvider == nil || o.IdentityProvider.Spec.Preset == "" {
			if given, ok := o.find("spec", "preset"); ok && o.IdentityProvider != nil && given.Scalar == "" {
				problems = append(problems, policy.Problem{Pos: o.at("spec", "preset"), Found: "found an empty preset", Want: oneOf(presetNames()), Hint: "leave the field out for a provider without one"})
			}
			continue
		}
		given := o.IdentityProvider
		if known, ok := before[given]; ok {
			o.tree, o.IdentityProvider = known.tree, known.IdentityProvider
			note[given] = known
			continue
		}
		ps := fillPreset(o)
		if problems = append(problems, ps...); len(ps) == 0 {
			note[given] = *o
		}
	}
	return out, problems
}

func presetNames() []string {
	var names []string
	for _, m := range providerPresets().Members {
		names = append(names, m.Name.Text)
	}
	return names
}

func fillPreset(o *Object) policy.Problems {
	at, name := o.at("spec", "preset"), o.IdentityProvider.Spec.Preset
	preset, ok := member(providerPresets(), name)
	if !ok {
		return policy.Problems{{Pos: at, Found: fmt.Sprintf("found unknown preset %q", name), Want: oneOf(presetNames()), Hint: didYouMean(name, presetNames())}}
	}
	p := Object{tree: preset.Value}
	at.Inexact = true // what is filled in is not written there
	spec, _ := o.find("spec")
	defaults, _ := p.find("spec")
	spec = fill(spec, place(defaults, at))
	o.tree = with(o.tree, "spec", spec)
	issuer := o.text("spec", "issuer")
	if uri := p.text(keysOf(issuer.Text)).Text; uri != "" && issuer.Text != "" && !o.hasKeys() {
		jwt, given := o.find("spec", "jwt")
		if !given {
			jwt = policy.Tree{Pos: at, IsObject: true}
		}
		uri := policy.Tree{Pos: at, Scalar: strings.ReplaceAll(uri, "{issuer}", issuer.Text)}
		spec = with(spec, "jwt", with(jwt, "jwksURI", uri))
		o.tree = with(o.tree, "spec", spec)
	}
	filled := &v1alpha1.IdentityProvider{}
	(&decoder{}).decode(o.tree, reflect.ValueOf(filled)) // its problems were found by Parse already
	o.IdentityProvider = filled
	if form := p.text("issuer", "form").Text; issuer.Text != "" && !regexp.MustCompile(form).MatchString(issuer.Text) {
		return policy.Problems{{
			Pos: issuer.Pos, Found: fmt.Sprintf("found an issuer that is none of preset %s", name),
			Want: "one such as " + p.text("issuer", "example").Text, Hint: p.text("issuer", "hint").Text,
		}}
	}
	return nil
}

func keysOf(issuer string) string {
	if strings.Contains(issuer, tenantMark) {
		return "templateJWKSURI"
	}
	return "jwksURI"
}

// hasKeys reports whether the manifest says where keys come from, or that there are none.
func (o *Object) hasKeys() bool {
	for _, path := range [][]any{
		{"spec", "jwt", "jwksURI"}, {"spec", "jwt", "keys"}, {"spec", "jwt", "sharedSecret"}, {"spec", "jwt", "sharedSecretRef"},
		{"spec", "introspection"}, {"spec", "userinfo"},
	} {
		if _, given := o.find(path...); given {
			return true
		}
	}
	return false
}

// fill adds the members that t lacks, in objects that both have too. Claims that are required and the mapping of the
// identity are filled in one by one, so that a manifest which asks for one more claim does not lose the preset's.
func fill(t, defaults policy.Tree) policy.Tree {
	if !t.IsObject || !defaults.IsObject {
		return t
	}
	for _, d := range defaults.Members {
		if m, given := member(t, d.Name.Text); given {
			t = with(t, d.Name.Text, fill(m.Value, d.Value))
		} else {
			t.Members = append(slices.Clone(t.Members), d)
		}
	}
	return t
}

// with returns t with a member set, and leaves t as it is.
func with(t policy.Tree, name string, value policy.Tree) policy.Tree {
	t.Members = slices.Clone(t.Members)
	for i := range t.Members {
		if t.Members[i].Name.Text == name {
			t.Members[i].Value = value
			return t
		}
	}
	t.Members = append(t.Members, policy.Member{Name: policy.Text{Text: name, Pos: value.Pos}, Value: value})
	return t
}

// place gives all of a tree one place.
func place(t policy.Tree, at policy.Position) policy.Tree {
	t.Pos = at
	t.Members, t.Items = slices.Clone(t.Members), slices.Clone(t.Items)
	for i, m := range t.Members {
		t.Members[i] = policy.Member{Name: policy.Text{Text: m.Name.Text, Pos: at}, Value: place(m.Value, at)}
	}
	for i, item := range t.Items {
		t.Items[i] = place(item, at)
	}
	return t
}

func parsePresets(src *source, c chunk) (policy.Tree, policy.Problems) {
	var document yaml.Node
	if err := decode(yaml.NewDecoder(strings.NewReader(c.text)), &document); err != nil || len(document.Content) != 1 {
		return policy.Tree{}, policy.Problems{{Pos: src.top(), Found: "found what is not YAML"}}
	}
	b := builder{source: src, first: c.first}
	return b.tree(document.Content[0], "", 0), b.problems
}
