package watch

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/usher-authz/usher/k8s/manifest"
	"github.com/usher-authz/usher/policy"
	"github.com/usher-authz/usher/policy/langgraph"
)

// storedPlace is a line of a text that only the API server has.
var storedPlace = regexp.MustCompile(`(AuthPolicy|IdentityProvider|Secret|ConfigMap) [^ \[,:]+:[0-9]`)

// Whatever is wrong with objects of a cluster, it is told by their names and fields: their lines nobody sees. The bad manifests
// are those that files are tested with.
func TestNoProblemShowsAPlaceInWhatIsStored(t *testing.T) {
	files, err := filepath.Glob("../manifest/testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	seen, others := 0, 0
	for _, name := range files {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var objects []*object
		for _, f := range archive.Files {
			for _, text := range strings.Split("\n"+string(f.Data), "\n---") {
				j, err := yaml.ToJSON([]byte(text))
				u := &unstructured.Unstructured{}
				if err != nil || u.UnmarshalJSON(j) != nil || u.GetName() == "" { // no API server stores it
					continue
				}
				if u.GetNamespace() == "" {
					u.SetNamespace("a")
				}
				switch u.GetKind() {
				case "AuthPolicy", "IdentityProvider":
					objects = append(objects, readObject(compacted(u)))
				case "Secret", "ConfigMap":
					stored, err := u.MarshalJSON()
					if err != nil {
						t.Fatal(err)
					}
					objects = append(objects, readDocument(reference{u.GetKind(), u.GetNamespace(), u.GetName()}, stored))
				}
			}
		}
		var parsed []manifest.Object
		var problems policy.Problems
		for _, o := range objects {
			parsed, problems = append(parsed, o.parsed), append(problems, o.problems...)
		}
		_, verdicts := manifest.NewKeeper(map[string]policy.Preset{"langgraph": langgraph.Preset()}).Compile(parsed)
		for _, v := range verdicts {
			problems = append(problems, v.Problems...)
		}
		for _, p := range problems {
			seen++
			for _, told := range []string{p.Error(), p.Long(), text(policy.Problems{p})} {
				if storedPlace.MatchString(told) || strings.Contains(told, " | ") || strings.Contains(told, " files") {
					t.Errorf("%s: %s", name, told)
				}
			}
			if p.Pos.Path != "" && strings.HasPrefix(p.Pos.File, "AuthPolicy a/") && strings.Contains(p.Error()+p.Hint, " at AuthPolicy a/") {
				others++
			}
		}
	}
	if seen < 200 || others == 0 {
		t.Errorf("%d problems, of which %d name another place", seen, others)
	}
}

// A place that a problem names, the one before, is a field of an object.
func TestAProblemNamesOtherObjectsAndFields(t *testing.T) {
	of := func(name, spec string) *object {
		return readObject(compactOf(t, `{"apiVersion": "usher.dev/v1alpha1", "kind": "AuthPolicy", "metadata": {"name": "`+name+`", "namespace": "ux"}, "spec": `+spec+`}`))
	}
	first := of("conversations", `{"hosts": ["a.test"], "api": {"preset": "langgraph"}, "rules": [{"on": "*"}]}`)
	second := of("other", `{"hosts": ["a.test"], "api": {"preset": "langgraph"}, "rules": [{"on": "*"}, {"on": "*"}]}`)
	_, verdicts := manifest.NewKeeper(map[string]policy.Preset{"langgraph": langgraph.Preset()}).Compile([]manifest.Object{first.parsed, second.parsed})
	got := text(verdicts[second.file].Problems)
	for _, want := range []string{
		`spec.hosts[0]: found host "a.test", which AuthPolicy ux/conversations guards already, expected each host in one Enforce policy`,
		`the first one is at AuthPolicy ux/other, spec.rules[0]`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s\nlacks %s", got, want)
		}
	}
}
