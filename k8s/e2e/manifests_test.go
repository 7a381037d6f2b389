package e2e

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/usher-authz/usher/k8s/manifest"
	"github.com/usher-authz/usher/policy"
	"github.com/usher-authz/usher/policy/langgraph"
)

const repository = "../.."

func presets() map[string]policy.Preset {
	return map[string]policy.Preset{"langgraph": langgraph.Preset()}
}

// manifests are files that are loaded together.
type manifests struct {
	name  string
	files []txtar.File
}

// text is all of them as one.
func (m manifests) text() string {
	var texts []string
	for _, f := range m.files {
		texts = append(texts, strings.TrimSuffix(string(f.Data), "\n")+"\n")
	}
	return strings.Join(texts, "---\n")
}

// parse reads them as files.
func (m manifests) parse() (objects []manifest.Object, problems policy.Problems) {
	for _, f := range m.files {
		os, ps := manifest.Parse(f.Name, f.Data)
		objects, problems = append(objects, os...), append(problems, ps...)
	}
	return objects, problems
}

// hasAny reports whether there are objects of one of the kinds.
func (m manifests) hasAny(kinds ...string) bool {
	objects, _ := m.parse()
	return slices.ContainsFunc(objects, func(o manifest.Object) bool { return slices.Contains(kinds, o.Kind) })
}

// compile compiles them as `usher validate` does.
func (m manifests) compile() (*manifest.Compiled, policy.Problems) {
	objects, problems := m.parse()
	compiled, more := manifest.Compile(objects, presets())
	if problems = append(problems, more...).Sort(); len(problems) > 0 {
		return nil, problems
	}
	return compiled, nil
}

// examples are those of the examples directory, one for each of its directories that has manifests, with the tests of the
// directory above.
func examples(t *testing.T) (out []manifests) {
	t.Helper()
	byDirectory := map[string][]txtar.File{}
	walk(t, "examples", ".yaml", func(path string, text []byte) {
		dir := filepath.Dir(path)
		byDirectory[dir] = append(byDirectory[dir], txtar.File{Name: filepath.Base(path), Data: text})
	})
	for dir, files := range byDirectory {
		for _, f := range byDirectory[filepath.Dir(dir)] {
			if strings.HasSuffix(f.Name, "_test.yaml") { // it tests both
				files = append(slices.Clip(files), f)
			}
		}
		out = append(out, manifests{dir, files})
	}
	return out
}

// inDocs are the blocks of the documentation that are whole objects: without dots for what is left out.
func inDocs(t *testing.T) (out []manifests) {
	t.Helper()
	block, dots := regexp.MustCompile("(?ms)^```ya?ml\n(.*?)^```"), regexp.MustCompile(`(?m)^ *\.\.\.$`)
	walk(t, "", ".md", func(path string, text []byte) {
		for i, m := range block.FindAllSubmatch(text, -1) {
			if strings.Contains(string(m[1]), "apiVersion: usher.dev/v1alpha1") && !dots.Match(m[1]) {
				out = append(out, manifests{fmt.Sprintf("%s[%d]", path, i), []txtar.File{{Name: path, Data: m[1]}}})
			}
		}
	})
	return out
}

// cases are those of the tests of the manifests and of the policies, good ones and bad ones.
func cases(t *testing.T) (out []manifests) {
	t.Helper()
	for _, dir := range []string{"k8s/manifest/testdata", "policy/testdata"} {
		walk(t, dir, ".txtar", func(path string, text []byte) {
			files := txtar.Parse(text).Files
			files = slices.DeleteFunc(files, func(f txtar.File) bool {
				return !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(f.Name))
			})
			out = append(out, manifests{path, files})
		})
	}
	return out
}

// walk calls f for the files of that ending below a directory of the repository, by their path there.
func walk(t *testing.T, dir, ending string, f func(path string, text []byte)) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(repository, dir), func(path string, d fs.DirEntry, err error) error {
		if name := d.Name(); err == nil && d.IsDir() && (strings.HasPrefix(name, ".") && name != ".." || name == "node_modules") {
			return filepath.SkipDir
		}
		if err != nil || d.IsDir() || filepath.Ext(path) != ending {
			return err
		}
		text, err := os.ReadFile(path)
		if err == nil {
			name, _ := filepath.Rel(repository, path)
			f(name, text)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// ofFile is an OpenAPI document that a policy names by its file.
var ofFile = regexp.MustCompile(`openapi: \{file: "?([A-Za-z0-9._-]+)"?`)

// inCluster returns the manifests as a cluster needs them: OpenAPI documents, which are files beside them, become ConfigMaps.
func (m manifests) inCluster() manifests {
	out := manifests{name: m.name}
	for _, f := range m.files {
		o, _ := manifest.Parse(f.Name, f.Data)
		if len(o) != 1 || o[0].Kind != "OpenAPI" {
			f.Data = ofFile.ReplaceAll(f.Data, []byte(`openapi: {configMapRef: {name: $1}`))
			out.files = append(out.files, f)
			continue
		}
		text, _ := json.Marshal(map[string]any{
			"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": o[0].Name}, "data": map[string]any{"openapi.yaml": string(f.Data)},
		})
		out.files = append(out.files, txtar.File{Name: f.Name, Data: text})
	}
	return out
}

// complete adds what the manifests refer to and do not have, as blocks of documentation leave it out.
func (m manifests) complete(t *testing.T) manifests {
	t.Helper()
	objects, _ := m.parse()
	known := map[string]bool{}
	for _, o := range objects {
		known[o.Kind+" "+o.Name] = true
	}
	var b strings.Builder
	missing := func(kind, name string) bool {
		was := known[kind+" "+name]
		known[kind+" "+name] = true
		return !was && name != "" && !strings.Contains(name, "/")
	}
	for _, o := range objects {
		if o.AuthPolicy != nil {
			for _, name := range o.AuthPolicy.Spec.Providers {
				if missing("IdentityProvider", name) {
					fmt.Fprintf(&b, "---\napiVersion: usher.dev/v1alpha1\nkind: IdentityProvider\nmetadata: {name: %q}\nspec: {issuer: \"https://%s.example.com\", audiences: [api]}\n", name, name)
				}
			}
		}
		for _, name := range o.SecretRefs() {
			if missing("Secret", name) {
				key, certificate := selfSigned(t)
				secret, _ := json.Marshal(map[string]any{
					"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": name},
					"stringData": map[string]any{"privateKey": key, "ca.crt": certificate, "password": "a password"},
				})
				fmt.Fprintf(&b, "---\n%s\n", secret)
			}
		}
	}
	if b.Len() > 0 {
		m.files = append(slices.Clone(m.files), txtar.File{Name: "completed.yaml", Data: []byte(strings.TrimPrefix(b.String(), "---\n"))})
	}
	return m
}
