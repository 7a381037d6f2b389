package watch

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/usher-authz/usher/k8s/api/v1alpha1"
	"github.com/usher-authz/usher/k8s/manifest"
	"github.com/usher-authz/usher/policy"
)

// object is one object of the cluster as it was read.
type object struct {
	file     string // "AuthPolicy namespace/name"
	source   *unstructured.Unstructured
	parsed   manifest.Object
	problems policy.Problems // of parsing
}

// gather reads the objects, in order of age, and the Secrets and ConfigMaps that they refer to. The error is one of the API server.
func (w *Watcher) gather(ctx context.Context) (objects []object, sources []file, err error) {
	for _, kind := range clusterKinds {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(kind)
		if err := w.manager.GetCache().List(ctx, list); err != nil {
			return nil, nil, fmt.Errorf("list %s: %w", kind.Kind, err)
		}
		for i := range list.Items {
			o, text := readObject(&list.Items[i])
			objects, sources = append(objects, o), append(sources, file{name: o.file, text: text})
		}
	}
	slices.SortFunc(objects, older)
	slices.SortFunc(sources, func(a, b file) int { return strings.Compare(a.name, b.name) })
	secrets, configMaps := map[types.NamespacedName]bool{}, map[types.NamespacedName]bool{}
	for _, o := range objects {
		for _, name := range append(o.parsed.SecretRefs(), w.keeper.SecretRefs(o.file)...) {
			secrets[types.NamespacedName{Namespace: o.source.GetNamespace(), Name: name}] = true
		}
		for _, name := range o.parsed.ConfigMapRefs() {
			configMaps[types.NamespacedName{Namespace: o.source.GetNamespace(), Name: name}] = true
		}
	}
	for _, kind := range []struct {
		wanted map[types.NamespacedName]bool
		read   func(context.Context, types.NamespacedName) ([]byte, error)
		file   func(namespace, name string) string
	}{
		{secrets, w.secret, manifest.SecretFile},
		{configMaps, w.configMap, manifest.ConfigMapFile},
	} {
		for _, name := range sortedNames(kind.wanted) {
			text, err := kind.read(ctx, name)
			if err != nil {
				return nil, nil, err
			}
			if text == nil {
				continue // the object that refers to it says so
			}
			f := kind.file(name.Namespace, name.Name)
			parsed, problems := manifest.Parse(f, text)
			objects = append(objects, object{file: f, parsed: parsed[0], problems: problems})
			sources = append(sources, file{name: f, text: text})
		}
	}
	return objects, sources, nil
}

func sortedNames(set map[types.NamespacedName]bool) []types.NamespacedName {
	var out []types.NamespacedName
	for n := range set {
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b types.NamespacedName) int { return strings.Compare(a.String(), b.String()) })
	return out
}

// older orders by age, and then by name: conflicts are settled so in the whole Gateway API (GEP-713).
func older(a, b object) int {
	at, bt := a.source.GetCreationTimestamp(), b.source.GetCreationTimestamp()
	if c := at.Compare(bt.Time); c != 0 {
		return c
	}
	return strings.Compare(a.file, b.file)
}

// secret reads one Secret from the API server itself; nil if there is none.
func (w *Watcher) secret(ctx context.Context, name types.NamespacedName) ([]byte, error) {
	s := &corev1.Secret{}
	err := w.manager.GetAPIReader().Get(ctx, client.ObjectKey(name), s)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case apierrors.IsForbidden(err):
		w.Logger.Warn("permission is missing: get secrets by name in namespace " + name.Namespace)
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read Secret %s: %w", name, err)
	}
	return json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": v1alpha1.KindSecret, "metadata": map[string]any{"name": name.Name, "namespace": name.Namespace}, "data": s.Data,
	})
}

// configMap reads one ConfigMap from the API server itself; nil if there is none.
func (w *Watcher) configMap(ctx context.Context, name types.NamespacedName) ([]byte, error) {
	m := &corev1.ConfigMap{}
	err := w.manager.GetAPIReader().Get(ctx, client.ObjectKey(name), m)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case apierrors.IsForbidden(err):
		w.Logger.Warn("permission is missing: get configmaps by name in namespace " + name.Namespace)
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read ConfigMap %s: %w", name, err)
	}
	return json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": v1alpha1.KindConfigMap, "metadata": map[string]any{"name": name.Name, "namespace": name.Namespace}, "data": m.Data,
	})
}

// readObject turns an object of the API server into a manifest's. What its spec says is read as a file is, by the same reader.
func readObject(u *unstructured.Unstructured) (object, []byte) {
	o := object{file: u.GetKind() + " " + u.GetNamespace() + "/" + u.GetName(), source: u}
	spec, _, _ := unstructured.NestedMap(u.Object, "spec")
	quoteOn(spec)
	quoteJWKs(spec)
	text := marshal(u, spec)
	parsed, problems := manifest.Parse(o.file, text)
	o.problems = problems
	if len(parsed) == 1 && parsed[0].Kind == u.GetKind() {
		o.parsed = parsed[0]
		return o, text
	}
	// What cannot be read guards its hosts all the same.
	bare := map[string]any{}
	if hosts, ok := spec["hosts"].([]any); ok {
		bare["hosts"] = slices.DeleteFunc(slices.Clone(hosts), func(v any) bool {
			host, ok := v.(string) // one that cannot be read must not open the others
			return !ok || strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r >= 0x7f })
		})
	}
	if spec["mode"] == string(v1alpha1.Shadow) {
		bare["mode"] = spec["mode"] // it guards nothing
	}
	parsed, more := manifest.Parse(o.file, marshal(u, bare))
	o.problems = append(o.problems, more...)
	if len(parsed) > 0 {
		o.parsed = parsed[0]
	}
	o.parsed.Pos.File = o.file
	return o, text
}

func marshal(u *unstructured.Unstructured, spec map[string]any) []byte {
	text, err := json.Marshal(map[string]any{
		"apiVersion": u.GetAPIVersion(), "kind": u.GetKind(),
		"metadata": map[string]any{"name": u.GetName(), "namespace": u.GetNamespace()}, "spec": spec,
	})
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
