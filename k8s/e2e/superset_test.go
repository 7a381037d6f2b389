package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Whatever is changed in a good manifest, one value at a time: what files still take, the schema takes.
func TestTheSchemaTakesWhatFilesTake(t *testing.T) {
	tried, taken := 0, 0
	for _, m := range append(examples(t), cases(t)...) {
		if strings.HasPrefix(m.name, "policy/") {
			continue // these have many expressions, and no field that the others lack
		}
		m = m.complete(t)
		if _, problems := m.compile(); len(problems) > 0 {
			continue
		}
		all := objects(t, m.inCluster().text())
		for i, o := range all {
			if resources[o.GetKind()] == "" {
				continue
			}
			seen := map[string]bool{}
			vary(o.Object["spec"], func(spec any) {
				changed := o.DeepCopy()
				changed.Object["spec"] = spec
				text, _ := json.Marshal(changed)
				if seen[string(text)] {
					return
				}
				seen[string(text)] = true
				tried++
				if !good(all, i, changed) {
					return
				}
				taken++
				changed.SetNamespace("default")
				if _, err := create(t, quoted(changed), "default", true); err != nil {
					t.Errorf("%s: a file may say\n%s\nbut %v", m.name, text, err)
				}
			})
		}
	}
	t.Logf("%d of %d changed manifests are good", taken, tried)
	if taken < 600 {
		t.Errorf("%d of %d changed manifests are good, want at least 600", taken, tried)
	}
}

// good reports whether files take the objects, one of them changed.
func good(all []*unstructured.Unstructured, at int, changed *unstructured.Unstructured) bool {
	all = slices.Clone(all)
	all[at] = changed
	var m manifests
	for i, o := range all {
		if o.GetKind() == "PolicyTest" {
			continue
		}
		text, _ := json.Marshal(quoted(o))
		m.files = append(m.files, txtar.File{Name: fmt.Sprint(i), Data: text})
	}
	_, problems := m.compile()
	return len(problems) == 0
}

// quoted returns the object with `on` where kubectl made true of it, and of an object that is good n and y of its keys.
func quoted(o *unstructured.Unstructured) *unstructured.Unstructured {
	text, _ := json.Marshal(o)
	s := strings.NewReplacer(`"true":`, `"on":`).Replace(string(text))
	if o.GetKind() == "IdentityProvider" {
		s = strings.NewReplacer(`"true":`, `"y":`, `"false":`, `"n":`).Replace(string(text))
	}
	out := &unstructured.Unstructured{}
	if err := out.UnmarshalJSON([]byte(s)); err != nil {
		return o
	}
	return out
}

// vary calls f with copies of a value in which one thing is another one: left out, empty, or of another spelling.
func vary(v any, f func(any)) {
	switch v := v.(type) {
	case map[string]any:
		f(map[string]any{})
		for name, old := range v {
			without := map[string]any{}
			for n, o := range v {
				if n != name {
					without[n] = o
				}
			}
			f(without)
			vary(old, func(new any) {
				with := map[string]any{}
				for n, o := range v {
					with[n] = o
				}
				with[name] = new
				f(with)
			})
		}
	case []any:
		f([]any{})
		for i, old := range v {
			f(slices.Delete(slices.Clone(v), i, i+1))
			vary(old, func(new any) {
				with := slices.Clone(v)
				with[i] = new
				f(with)
			})
		}
	case bool:
		f(!v)
	case string:
		for _, s := range []string{
			"", v + " ", strings.ToUpper(v), strings.Replace(v, "http", "HTTP", 1), strings.Replace(v, "https", "http", 1), v + "/", v + "?a=b",
			"é", "0", "+1m", "1m0.5s", ".5h", "3000000us", "24h",
		} {
			f(s)
		}
	}
}

// A policy that is as large as one may be is taken, whatever the API server reckons that its rules cost.
func TestTheLargestPolicyIsTaken(t *testing.T) {
	many := func(n int, item string) string {
		items := make([]string, n)
		for i := range items {
			items[i] = strings.ReplaceAll(item, "#", fmt.Sprint(i))
		}
		return strings.Join(items, ", ")
	}
	text := `apiVersion: usher.dev/v1alpha1
kind: AuthPolicy
metadata: {name: largest}
spec:
  hosts: [` + many(256, "host-#.example.com") + `]
  providers: [` + many(32, "provider-#") + `]
  backend: {url: "https://backend.example.com", headers: {` + many(64, "x-#: {value: a}") + `}}
  api: {routes: [` + many(5000, "{methods: [GET], path: /r#, \"on\": r#:a, object: {get: /r#/a}}") + `]}
  conditions: {` + many(256, "c#: \"true\"") + `}
  rules: [` + many(2000, "{\"on\": r#, allow: \"true\", filter: {owner: user.identity}, stepUp: {maxAge: 1h}}") + `]
  identityHeaders: {` + many(64, "x-#: user.identity") + `}
  cors: {allowOrigins: [` + many(256, "\"https://#.example.com\"") + `], allowHeaders: [` + many(256, "x-#") + `]}
`
	m := manifests{files: []txtar.File{{Name: "largest.yaml", Data: []byte(text)}}}.complete(t)
	if _, problems := m.compile(); len(problems) > 0 {
		t.Error(problems)
	}
	if _, err := create(t, objects(t, text)[0], "default", true); err != nil {
		t.Error(err)
	}
}
