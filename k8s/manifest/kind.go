package manifest

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/usher-authz/usher/k8s/api/v1alpha1"
	"github.com/usher-authz/usher/policy"
)

// versions are the kinds that there are, and the apiVersion of each.
func versions() map[string]string {
	return map[string]string{
		v1alpha1.KindIdentityProvider: v1alpha1.GroupVersion,
		v1alpha1.KindAuthPolicy:       v1alpha1.GroupVersion,
		v1alpha1.KindPolicyTest:       v1alpha1.GroupVersion,
		v1alpha1.KindSecret:           "v1",
		v1alpha1.KindConfigMap:        "v1",
	}
}

func kinds() []string { return sorted(versions()) }

// newObject reads the kind and the name of a document, and decodes it into its type.
func newObject(t policy.Tree) (Object, policy.Problems) {
	o := Object{Pos: t.Pos, tree: t}
	d := &decoder{}
	if _, reported := t.Scalar.(unread); reported {
		return o, nil
	}
	if !t.IsObject {
		d.mismatch(t, "an object with apiVersion, kind, metadata and spec", "")
		return o, d.problems
	}
	o.Kind = d.head(&o, "kind", "the kind of the object: "+oneOf(kinds()))
	version := d.head(&o, "apiVersion", "the kind's version: "+v1alpha1.GroupVersion)
	if o.Kind == "" {
		return o, d.problems
	}
	want, ok := versions()[o.Kind]
	if !ok {
		d.add(o.at("kind"), fmt.Sprintf("found unknown kind %q", o.Kind), oneOf(kinds()), didYouMean(o.Kind, kinds()))
		o.Kind = ""
		return o, d.problems
	}
	if version != "" && version != want {
		d.add(o.at("apiVersion"), fmt.Sprintf("found apiVersion %q of kind %s", version, o.Kind), want, "")
	}
	var into any
	switch o.Kind {
	case v1alpha1.KindIdentityProvider:
		o.IdentityProvider = &v1alpha1.IdentityProvider{}
		into = o.IdentityProvider
	case v1alpha1.KindAuthPolicy:
		o.AuthPolicy = &v1alpha1.AuthPolicy{}
		into = o.AuthPolicy
	case v1alpha1.KindPolicyTest:
		o.PolicyTest = &v1alpha1.PolicyTest{}
		into = o.PolicyTest
	case v1alpha1.KindSecret:
		o.Secret = &v1alpha1.Secret{}
		into = o.Secret
	case v1alpha1.KindConfigMap:
		o.ConfigMap = &v1alpha1.ConfigMap{}
		into = o.ConfigMap
	}
	t = d.bounds(t, o.Kind)
	o.tree = t
	// The head is decoded with the rest; a head of another kind was reported above, and Sort drops the repeat.
	d.decode(t, reflect.ValueOf(into))
	o.Name, o.Namespace = o.text("metadata", "name").Text, o.text("metadata", "namespace").Text
	o.refs = o.secretRefs()
	d.checkNames(&o)
	d.checkReferences()
	return o, d.problems
}

// head reads a string of the document's first level.
func (d *decoder) head(o *Object, name, want string) string {
	t, ok := o.find(name)
	if !ok {
		d.add(o.at(name), "found none", want, "")
		return ""
	}
	s, ok := t.Scalar.(string)
	if _, reported := t.Scalar.(unread); !ok && !reported {
		d.mismatch(t, "a string", scalarHint(t))
	}
	return s
}

// checkNames demands names as Kubernetes has them (RFC 1123 subdomains), so that files and a cluster take the same.
func (d *decoder) checkNames(o *Object) {
	metadata, _ := o.find("metadata")
	_, reported := metadata.Scalar.(unread)
	t, ok := o.find("metadata", "name")
	_, isString := t.Scalar.(string)
	switch {
	case reported:
	case !ok:
		d.add(o.at("metadata", "name"), "found none", "the object's name", "")
	case isString && !isSubdomain(o.Name):
		d.add(t.Pos, fmt.Sprintf("found name %q", o.Name), "lower-case letters, digits, hyphens and dots", "")
	}
	t, _ = o.find("metadata", "namespace")
	if s, ok := t.Scalar.(string); ok && !isLabel(s) {
		d.add(t.Pos, fmt.Sprintf("found namespace %q", o.Namespace), "lower-case letters, digits and hyphens", "")
	}
}

// isSubdomain reports whether s is a host name in lower case (RFC 1123, section 2.1).
func isSubdomain(s string) bool {
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if !isLabel(label) {
			return false
		}
	}
	return true
}

func isLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}
