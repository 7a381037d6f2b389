package watch

import (
	"reflect"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func compactOf(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	return compacted(unstructuredOf(t, text))
}

func unstructuredOf(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return u
}

const stored = `{"apiVersion": "usher.dev/v1alpha1", "kind": "AuthPolicy",
	"metadata": {"name": "one", "namespace": "a", "uid": "u", "resourceVersion": "7", "generation": 3, "creationTimestamp": "2026-01-02T03:04:05Z", "managedFields": [{"manager": "kubectl"}], "annotations": {"x": "y"}},
	"spec": {"hosts": ["one.test"], "rules": [{"true": "a:b"}], "api": {"routes": [{"true": "a:b"}]}},
	"status": {"conditions": [{"type": "Accepted"}]}}`

func TestCompact(t *testing.T) {
	u := compactOf(t, stored)
	want := unstructuredOf(t, `{"apiVersion": "usher.dev/v1alpha1", "kind": "AuthPolicy",
		"metadata": {"name": "one", "namespace": "a", "uid": "u", "resourceVersion": "7", "generation": 3, "creationTimestamp": "2026-01-02T03:04:05Z"},
		"spec": "{\"api\":{\"routes\":[{\"on\":\"a:b\"}]},\"hosts\":[\"one.test\"],\"rules\":[{\"on\":\"a:b\"}]}",
		"status": {"conditions": [{"type": "Accepted"}]}}`)
	if !reflect.DeepEqual(u.Object, want.Object) {
		t.Errorf("got %v\nwant %v", u.Object, want.Object)
	}
	if again, err := compact(u); err != nil || again != any(u) {
		t.Errorf("a second time: %v, %v", again, err)
	}
	if seen := "not an object"; func() any { out, _ := compact(seen); return out }() != any(seen) {
		t.Error("something else was changed")
	}
}

// What is no object has no spec, and cannot be taken for one by what it holds.
func TestASpecThatIsNone(t *testing.T) {
	for _, spec := range []string{`7`, `null`, `["a"]`, `"}, \"kind\": \"Secret\", \"spec\": {"`, `"{}, \"metadata\": {\"name\": \"other\"}"`} {
		u := compactOf(t, `{"apiVersion": "usher.dev/v1alpha1", "kind": "AuthPolicy", "metadata": {"name": "one", "namespace": "a"}, "spec": `+spec+`}`)
		o := readObject(u)
		if o.parsed.Kind != "AuthPolicy" || o.parsed.Name != "one" || o.parsed.Namespace != "a" || len(o.parsed.AuthPolicy.Spec.Hosts) > 0 {
			t.Errorf("%s: got %s %s/%s", spec, o.parsed.Kind, o.parsed.Namespace, o.parsed.Name)
		}
	}
}

func TestNamesThatYAMLTakesForBooleans(t *testing.T) {
	u := compactOf(t, `{"apiVersion": "usher.dev/v1alpha1", "kind": "IdentityProvider", "metadata": {"name": "p", "namespace": "a"},
		"spec": {"issuer": "https://a.example.com", "audiences": ["a"], "jwt": {"keys": {"keys": [{"kty": "EC", "crv": "P-256", "x": "AAAA", "true": "BBBB"}, {"kty": "RSA", "e": "AQAB", "false": "CCCC"}]}}}}`)
	keys := readObject(u).parsed.IdentityProvider.Spec.JWT.Keys.Keys
	if keys[0]["y"] != "BBBB" || keys[1]["n"] != "CCCC" {
		t.Errorf("got %v", keys)
	}
}

// Only what the spec says, and whose it is, makes an object another one.
func TestSame(t *testing.T) {
	o := readObject(compactOf(t, stored))
	for text, want := range map[string]bool{
		stored: true,
		`{"apiVersion": "usher.dev/v1alpha1", "kind": "AuthPolicy", "metadata": {"name": "one", "namespace": "a", "uid": "u", "resourceVersion": "8"}, "spec": {"hosts": ["one.test"], "rules": [{"on": "a:b"}], "api": {"routes": [{"on": "a:b"}]}}}`:   true,
		`{"apiVersion": "usher.dev/v1alpha1", "kind": "AuthPolicy", "metadata": {"name": "one", "namespace": "a", "uid": "new", "resourceVersion": "8"}, "spec": {"hosts": ["one.test"], "rules": [{"on": "a:b"}], "api": {"routes": [{"on": "a:b"}]}}}`: false,
		`{"apiVersion": "usher.dev/v1alpha1", "kind": "AuthPolicy", "metadata": {"name": "one", "namespace": "a", "uid": "u", "resourceVersion": "8"}, "spec": {"hosts": ["two.test"]}}`:                                                                 false,
	} {
		if got := same(o, compactOf(t, text)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}
