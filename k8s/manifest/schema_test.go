package manifest_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"go.yaml.in/yaml/v3"
)

// The schema of a cluster knows the presets by name, and which of them fill in what is required elsewhere.
func TestThe_schema_knows_the_presets(t *testing.T) {
	text, err := os.ReadFile("../deploy/crds/usher.dev_identityproviders.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var definition struct {
		Spec struct {
			Versions []struct {
				Schema struct {
					Root struct {
						Properties struct {
							Spec struct {
								Properties struct {
									Preset struct{ Enum []string }
								}
								Rules []struct{ Rule string } `yaml:"x-kubernetes-validations"`
							}
						}
					} `yaml:"openAPIV3Schema"`
				}
			}
		}
	}
	if err := yaml.Unmarshal(text, &definition); err != nil || len(definition.Spec.Versions) != 1 {
		t.Fatal(err)
	}
	spec := definition.Spec.Versions[0].Schema.Root.Properties.Spec
	problems := func(preset string) string {
		_, ps := load([]txtar.File{{Name: "x.yaml", Data: fmt.Appendf(nil, "apiVersion: usher.dev/v1alpha1\nkind: IdentityProvider\nmetadata: {name: a}\nspec: {preset: %s}\n", preset)}})
		return ps.Error()
	}
	presets := spec.Properties.Preset.Enum
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
