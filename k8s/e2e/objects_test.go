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

// readObjects reads the documents of a text as kubectl does.
func readObjects(text string) (out []*unstructured.Unstructured, err error) {
	d := yaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096)
	for {
		var raw runtime.RawExtension
		if err := d.Decode(&raw); errors.Is(err, io.EOF) {
			return out, nil
		} else if err != nil {
			return nil, err
		}
		if len(raw.Raw) == 0 || string(raw.Raw) == "null" {
			continue
		}
		o := &unstructured.Unstructured{}
		if err := o.UnmarshalJSON(raw.Raw); err != nil {
			return nil, err
		}
		out = append(out, o)
	}
}

func objects(t *testing.T, text string) []*unstructured.Unstructured {
	t.Helper()
	out, err := readObjects(text)
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return out
}

// resources are Usher's kinds.
var resources = map[string]string{"AuthPolicy": "authpolicies", "IdentityProvider": "identityproviders"}

// create asks the API server to store the object, strictly, and returns what it warns of. Where it has no namespace it goes into
// this one.
func create(t *testing.T, o *unstructured.Unstructured, namespace string, dryRun bool) (warnings string, err error) {
	t.Helper()
	if own := o.GetNamespace(); own != "" {
		namespace = own
	}
	var warned warningText
	config := shared.Config("")
	config.WarningHandler = &warned
	c, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	options := metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict}
	if dryRun {
		options.DryRun = []string{metav1.DryRunAll}
	}
	resource := schema.GroupVersionResource{Group: "usher.dev", Version: "v1alpha1", Resource: resources[o.GetKind()]}
	_, err = c.Resource(resource).Namespace(namespace).Create(t.Context(), o, options)
	return warned.String(), err
}

// warningText is what the API server warned of, a line each.
type warningText struct{ strings.Builder }

func (w *warningText) HandleWarningHeader(_ int, _, text string) { w.WriteString(text + "\n") }
