package manifest

import (
	"fmt"
	"strings"

	"github.com/usher-authz/usher/extauthz/lookup"
	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/k8s/api/v1alpha1"
	"github.com/usher-authz/usher/policy"
	"github.com/usher-authz/usher/policy/policytest"
)

// Object is one document of a manifest. Just one of IdentityProvider, AuthPolicy, PolicyTest, Secret and ConfigMap is set, as
// Kind says; all are nil where the document could not be read, when Kind may be empty, and for an OpenAPI document, whose Kind is
// "OpenAPI" and whose Name is that of its file. An Object is not changed once it is made.
type Object struct {
	Pos             policy.Position // where the document begins
	Kind            string
	Namespace, Name string

	IdentityProvider *v1alpha1.IdentityProvider
	AuthPolicy       *v1alpha1.AuthPolicy
	PolicyTest       *v1alpha1.PolicyTest
	Secret           *v1alpha1.Secret
	ConfigMap        *v1alpha1.ConfigMap

	refs   []string    // see SecretRefs
	tree   policy.Tree // the document, with the place of everything
	broken bool        // Parse reported a problem in it
	// standIn is an AuthPolicy that never compiled: its hosts are answered 503.
	standIn bool
	// secrets are the Secrets of a last good version, by name; nil: those that are there now.
	secrets map[string]*v1alpha1.Secret
	texts   map[string]inner // of a ConfigMap
}

// Compiled is all that a server needs to know, from manifests without a problem.
type Compiled struct {
	// Snapshot holds the policies.
	Snapshot *policy.Snapshot
	// Providers says how tokens are verified, by provider name. Fingerprint is set; Now, Transport and Logger are left
	// for the caller.
	Providers map[string]token.Config
	// Backends says where objects are looked up, by policy name; a policy without a backend has none. Now and Transport
	// are left for the caller.
	Backends map[string]lookup.Config
	// Tests are the PolicyTests, in the order in which they were given. Nothing that serves looks at them.
	Tests []policytest.Suite
	// Objects are the documents, in the order in which they were given.
	Objects []Object

	memos memos // for Next
}

// Policies returns the AuthPolicies, in the order in which they were given.
func (c *Compiled) Policies() []v1alpha1.AuthPolicy {
	var out []v1alpha1.AuthPolicy
	for _, o := range c.Objects {
		if o.AuthPolicy != nil {
			out = append(out, *o.AuthPolicy)
		}
	}
	return out
}

// find returns what stands at a path of names and indexes.
func (o *Object) find(path ...any) (policy.Tree, bool) {
	t := o.tree
	for _, step := range path {
		switch step := step.(type) {
		case string:
			m, ok := member(t, step)
			if !ok {
				return policy.Tree{}, false
			}
			t = m.Value
		case int:
			if step >= len(t.Items) {
				return policy.Tree{}, false
			}
			t = t.Items[step]
		}
	}
	return t, true
}

// at returns the place of a path; for what is not there, that of the nearest name above it.
func (o *Object) at(path ...any) policy.Position {
	pos, t := o.tree.Pos, o.tree
	for _, step := range path {
		switch step := step.(type) {
		case string:
			m, ok := member(t, step)
			if !ok {
				pos.Path = pathOf(path)
				return pos
			}
			// The value of a block stands lines below its name, which is the better place to show.
			pos, t = m.Name.Pos, m.Value
			if !t.IsObject && !t.IsList {
				pos = t.Pos
			}
		case int:
			if step >= len(t.Items) {
				pos.Path = pathOf(path)
				return pos
			}
			t = t.Items[step]
			pos = t.Pos
		}
	}
	pos.Path = pathOf(path)
	return pos
}

// text returns the string at a path with its place; the empty string if there is none.
func (o *Object) text(path ...any) policy.Text {
	t, _ := o.find(path...)
	s, _ := t.Scalar.(string)
	return policy.Text{Text: s, Pos: o.at(path...)}
}

func member(t policy.Tree, name string) (policy.Member, bool) {
	for _, m := range t.Members {
		if m.Name.Text == name {
			return m, true
		}
	}
	return policy.Member{}, false
}

// pathOf writes a path as problems show it: spec.rules[1].filter.owner.
func pathOf(path []any) string {
	out := ""
	for _, step := range path {
		switch step := step.(type) {
		case string:
			out = join(out, step)
		case int:
			out = fmt.Sprintf("%s[%d]", out, step)
		}
	}
	return out
}

// maxPath bounds a path, and maxStep a name in it: each value of a document has a path, of which a long name or many short
// ones would be a part again and again.
const maxPath, maxStep = 256, 64

// join adds a name to a path, in quotes where it holds what a path could not be read back from.
func join(path, name string) string {
	if len(path) > maxPath {
		return path
	}
	if len(name) > maxStep {
		name = strings.ToValidUTF8(name[:maxStep], "") + "..."
	}
	plain := name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-$/") == ""
	switch {
	case !plain:
		return fmt.Sprintf("%s[%q]", path, name)
	case path == "":
		return name
	}
	return path + "." + name
}
