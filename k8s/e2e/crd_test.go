package e2e

import (
	"context"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/usher-authz/usher/k8s/e2e/cluster"
)

// shared is one API server for all tests, with the definitions applied.
var shared *cluster.Cluster

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "usher-k8s")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if shared, err = cluster.Start(context.Background(), dir); err != nil {
		panic(err)
	}
	defer shared.Stop()
	if _, err := shared.Kubectl(context.Background(), "", "apply", "--server-side", "-f", "../deploy/crds"); err != nil {
		panic(err)
	}
	if _, err := shared.Kubectl(context.Background(), "", "wait", "--for", "condition=Established", "--timeout", "3m", "crd/authpolicies.usher.dev", "crd/identityproviders.usher.dev"); err != nil {
		panic(err)
	}
	return m.Run()
}

// Each rule of the definitions refuses something, at its field and in words of its own.
func TestTheSchemaRefuses(t *testing.T) {
	text, err := os.ReadFile("testdata/schema.yaml")
	if err != nil {
		t.Fatal(err)
	}
	much := regexp.MustCompile(`<([0-9]+)( [^>]+)?>`)
	long := much.ReplaceAllStringFunc(string(text), func(s string) string {
		m := much.FindStringSubmatch(s)
		n, _ := strconv.Atoi(m[1])
		if m[2] == "" {
			return strings.Repeat("a", n)
		}
		items := make([]string, n)
		for i := range items {
			items[i] = strings.ReplaceAll(m[2], "#", strconv.Itoa(i))
		}
		return strings.Join(items, ",")
	})
	refused := map[string]string{} // by kind
	for _, o := range objects(t, long) {
		_, err := create(t, o, "default", true)
		if err == nil {
			t.Errorf("%s %s is taken", o.GetKind(), o.GetName())
			continue
		}
		if strings.Contains(err.Error(), "password@") {
			t.Errorf("%s %s: %v", o.GetKind(), o.GetName(), err)
		}
		refused[o.GetKind()] += err.Error() + "\n"
	}
	total := 0
	for _, file := range []string{"../deploy/crds/usher.dev_authpolicies.yaml", "../deploy/crds/usher.dev_identityproviders.yaml"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		definition := objects(t, string(text))[0]
		versions, _, err := unstructured.NestedSlice(definition.Object, "spec", "versions")
		if err != nil || len(versions) != 1 {
			t.Fatal(file, err)
		}
		spec, _, err := unstructured.NestedMap(versions[0].(map[string]any), "schema", "openAPIV3Schema", "properties", "spec")
		if err != nil {
			t.Fatal(file, err)
		}
		kind, _, _ := unstructured.NestedString(definition.Object, "spec", "names", "kind")
		want := rules("spec", spec)
		total += len(want)
		for _, w := range want {
			if !regexp.MustCompile(w).MatchString(refused[kind]) {
				t.Errorf("%s: nothing in testdata/schema.yaml is refused as %s", kind, w)
			}
		}
	}
	if total < 210 {
		t.Errorf("%d rules are known: the definitions are not read right", total)
	}
}

// rules returns what the API server says, as regular expressions, where one of the rules of a schema is broken.
func rules(path string, schema map[string]any) (out []string) {
	at := func(path string) string {
		q := regexp.QuoteMeta(path)
		return strings.NewReplacer("@ITEM", `\[[0-9]+\]`, "@NAME", `[.[][^].]+\]?`).Replace(q)
	}
	for keyword, says := range map[string]string{
		"enum": ": Unsupported value: ", "pattern": " in body should match ", "minLength": " in body should be at least ", "maxLength": ": Too long: ",
		"minItems": " in body should have at least ", "maxItems": ": Too many: ", "minProperties": " in body should have at least ", "maxProperties": ": Too many: ",
	} {
		if _, given := schema[keyword]; given {
			out = append(out, at(path)+says)
		}
	}
	validations, _, _ := unstructured.NestedSlice(schema, "x-kubernetes-validations")
	for _, v := range validations {
		v := v.(map[string]any)
		field, _ := v["fieldPath"].(string)
		out = append(out, at(path+field)+`: [^,]*`+regexp.QuoteMeta(v["message"].(string)))
	}
	properties, _ := schema["properties"].(map[string]any)
	for name, p := range properties {
		out = append(out, rules(path+"."+name, p.(map[string]any))...)
	}
	if items, ok := schema["items"].(map[string]any); ok {
		out = append(out, rules(path+"@ITEM", items)...)
	}
	if values, ok := schema["additionalProperties"].(map[string]any); ok {
		out = append(out, rules(path+"@NAME", values)...)
	}
	return out
}

// What is no object of these kinds at all is named as that.
func TestWhatIsNoneOfTheKindsIsRefused(t *testing.T) {
	const provider = "apiVersion: usher.dev/v1alpha1\nkind: IdentityProvider\nmetadata: {name: p}\nspec: "
	for _, c := range []struct{ name, object, want string }{
		{"a_wrong_type", provider + `{issuer: 1, audiences: [a]}`, "spec.issuer in body must be of type string"},
		{"a_null_in_a_list", provider + `{issuer: "https://a.example.com", audiences: [null]}`, "spec.audiences[0] in body must be of type string"},
		{"no_spec", strings.TrimSuffix(provider, "spec: "), "spec: Required value"},
		{"another_version", strings.Replace(provider, "v1alpha1", "v1", 1) + "{}", `no matches for kind "IdentityProvider" in version "usher.dev/v1"`},
		{"another_group", strings.Replace(provider, "usher.dev", "usher.io", 1) + "{}", `no matches for kind "IdentityProvider" in version "usher.io/v1alpha1"`},
		{"a_kind_that_there_is_not", strings.Replace(provider, "IdentityProvider", "IdentityProviders", 1) + "{}", `no matches for kind "IdentityProviders"`},
		{"a_PolicyTest_which_is_for_files", strings.Replace(provider, "IdentityProvider", "PolicyTest", 1) + "{}", `no matches for kind "PolicyTest"`},
		{"a_name_that_files_refuse_too", strings.Replace(provider, "name: p", "name: P_1", 1) + `{issuer: "https://a.example.com", audiences: [a]}`, `metadata.name: Invalid value: "P_1"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := shared.Kubectl(t.Context(), c.object, "apply", "--dry-run=server", "--validate=strict", "-f", "-")
			if err == nil || !strings.Contains(out, c.want) {
				t.Errorf("got %q, %v; want %q", out, err, c.want)
			}
		})
	}
}
