package manifest

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/usher-authz/usher/k8s/api/v1alpha1"
)

// schema is what a definition says of a value.
type schema struct {
	Properties    map[string]*schema
	Enum          []string
	MaxItems      int                     `yaml:"maxItems"`
	MaxProperties int                     `yaml:"maxProperties"`
	Rules         []struct{ Rule string } `yaml:"x-kubernetes-validations"`
}

// specSchema reads the schema of spec from a definition.
func specSchema(t *testing.T, kind string) *schema {
	t.Helper()
	file := map[string]string{v1alpha1.KindIdentityProvider: "identityproviders", v1alpha1.KindAuthPolicy: "authpolicies"}[kind]
	text, err := os.ReadFile("../deploy/crds/usher.dev_" + file + ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	var definition struct {
		Spec struct {
			Versions []struct {
				Schema struct {
					Root schema `yaml:"openAPIV3Schema"`
				}
			}
		}
	}
	if err := yaml.Unmarshal(text, &definition); err != nil || len(definition.Spec.Versions) != 1 {
		t.Fatal(err)
	}
	return definition.Spec.Versions[0].Schema.Root.Properties["spec"]
}

// A cluster takes as much as files do.
func TestThe_schema_has_the_bounds_of_files(t *testing.T) {
	for _, kind := range []string{v1alpha1.KindIdentityProvider, v1alpha1.KindAuthPolicy} {
		spec := specSchema(t, kind)
		for _, b := range boundsOf(kind) {
			at := spec
			for _, name := range strings.Split(b.path, ".") {
				if at != nil {
					at = at.Properties[name]
				}
			}
			most := b.most
			switch b.path {
			case "jwt.keys.keys":
				continue // of any shape to the schema
			case "jwt.algorithms":
				most = 13 // that there are, each once
			case "cors.allowMethods":
				most = 7
			}
			if at == nil || at.MaxItems+at.MaxProperties != most {
				t.Errorf("%s %s: the schema has %+v, want at most %d", kind, b.path, at, most)
			}
		}
	}
}

// The schema of a cluster knows the presets by name, and which of them fill in what is required elsewhere.
func TestThe_schema_knows_the_presets(t *testing.T) {
	spec := specSchema(t, v1alpha1.KindIdentityProvider)
	problems := func(preset string) string {
		objects, _ := Parse("x.yaml", fmt.Appendf(nil, "apiVersion: usher.dev/v1alpha1\nkind: IdentityProvider\nmetadata: {name: a}\nspec: {preset: %s}\n", preset))
		_, ps := Compile(objects, nil)
		return ps.Error()
	}
	presets := spec.Properties["preset"].Enum
	if list := strings.Join(presets[:len(presets)-1], ", ") + " or " + presets[len(presets)-1]; !strings.Contains(problems("other"), "expected "+list) {
		t.Errorf("the schema has %s; %s", list, problems("other"))
	}
	for _, preset := range presets {
		for _, field := range []string{"issuer", "audiences"} {
			rule := fmt.Sprintf(`has(self.%s) || self.?preset.orValue("") == %q`, field, preset)
			given := slices.ContainsFunc(spec.Rules, func(r struct{ Rule string }) bool { return r.Rule == rule })
			if needed := strings.Contains(problems(preset), "spec."+field+": found none"); given == needed {
				t.Errorf("preset %s needs %s in a file: %v; in a cluster: %v", preset, field, needed, !given)
			}
		}
	}
}
