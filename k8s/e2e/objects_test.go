package e2e

import (
	"errors"
	"io"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
)

// objects reads the documents of a text as kubectl does.
func objects(t *testing.T, text string) (out []*unstructured.Unstructured) {
	t.Helper()
	d := yaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096)
	for {
		var raw runtime.RawExtension
		if err := d.Decode(&raw); errors.Is(err, io.EOF) {
			return out
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		if len(raw.Raw) == 0 || string(raw.Raw) == "null" {
			continue
		}
		o := &unstructured.Unstructured{}
		if err := o.UnmarshalJSON(raw.Raw); err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		out = append(out, o)
	}
}

// of is a client for the objects of that kind in a namespace.
func of(t *testing.T, kind, namespace string) dynamic.ResourceInterface {
	t.Helper()
	c, err := dynamic.NewForConfig(shared.Config(""))
	if err != nil {
		t.Fatal(err)
	}
	resource, known := map[string]string{"AuthPolicy": "authpolicies", "IdentityProvider": "identityproviders"}[kind]
	if !known {
		t.Fatalf("kind %q", kind)
	}
	return c.Resource(schema.GroupVersionResource{Group: "usher.dev", Version: "v1alpha1", Resource: resource}).Namespace(namespace)
}

// try asks the API server whether it would store the object, as `kubectl apply --dry-run=server` does, and stores nothing.
func try(t *testing.T, o *unstructured.Unstructured, namespace string) error {
	t.Helper()
	_, err := of(t, o.GetKind(), namespace).Create(t.Context(), o, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict})
	return err
}
