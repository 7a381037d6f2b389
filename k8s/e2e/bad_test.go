package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/usher-authz/usher/envoy/e2e/stack"
	"github.com/usher-authz/usher/k8s/manifest"
	"github.com/usher-authz/usher/policy"
)

// onlyInFiles are bad documents whose problem a cluster does not have, and why.
var onlyInFiles = map[string]string{
	"k8s/manifest/testdata/policy.txtar: a.yaml:59":                     "a second object of a name is the next version of the first",
	"k8s/manifest/testdata/provider.txtar: issuer.yaml:45":              "a second object of a name is the next version of the first",
	"k8s/manifest/testdata/names_without_quotes.txtar: a.yaml:5":        "kubectl reads y as true, and hands on another name",
	"k8s/manifest/testdata/names_without_quotes.txtar: a.yaml:10":       "kubectl reads n as false, and hands on another name",
	"k8s/manifest/testdata/revocation.txtar: a.yaml:25":                 "it is about a provider that is refused, and hence unknown: a warning",
	"k8s/manifest/testdata/yaml.txtar: features.yaml:1":                 "kubectl resolves anchors, aliases and tags",
	"policy/testdata/problems/headers.txtar: policy.yaml:1":             "the members of an object have no order, so that the second of two headers may be the first",
	"k8s/manifest/testdata/openapi_references.txtar: manifests.yaml:80": "the documents of a ConfigMap are the policy's",
	"k8s/manifest/testdata/openapi_references.txtar: manifests.yaml:25": "the ConfigMap that lacks the key is not stored, as it has other problems",
	"k8s/manifest/testdata/fields.txtar: policy.yaml:22":                "the API server cannot read a namespace that is a number",
}

// Each bad manifest that the tests of the repository have is refused by a real API server, whose webhook is a real Usher: by the
// schema at a field that has a problem, or by Usher with every problem that `usher validate` tells.
func TestBadManifestsAreRefused(t *testing.T) {
	var sets []manifests
	for _, m := range cases(t) {
		if strings.HasPrefix(m.name, "policy/") && !strings.Contains(m.name, "/problems/") {
			continue // they are good, those of them with a preset that package policy has for its tests too
		}
		m = m.complete(t)
		if _, problems := m.compile(); len(problems) > 0 {
			sets = append(sets, m)
		}
	}
	counts := map[string]int{}
	webhook(t, "bad", func() { // before Usher starts, so that it knows all of them
		for i := range sets {
			own := fmt.Sprintf("bad-%d", i)
			namespace(t, own)
			parsed, _ := sets[i].parse()
			for _, o := range parsed {
				if o.Namespace != "" && o.Kind != "" {
					namespace(t, o.Namespace)
				}
			}
			_, good := sets[i].inCluster().bad(t)
			for _, o := range objects(t, good) {
				switch o.GetKind() {
				case "IdentityProvider":
					if _, err := create(t, o, own, false); err != nil {
						t.Errorf("%s: good, and refused: %v", sets[i].name, err)
					}
				case "Secret", "ConfigMap":
					text, _ := json.Marshal(o)
					kubectl(t, string(text), "apply", "-n", own, "-f", "-")
					// Usher has read what some object refers to, and warns of the rest.
					if _, err := create(t, objects(t, referring(o.GetKind(), o.GetName()))[0], own, false); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}, "--all-namespaces")
	for i, m := range sets {
		bad, _ := m.bad(t)
		for _, b := range bad {
			how := b.isRefused(t, fmt.Sprintf("bad-%d", i))
			if _, known := onlyInFiles[b.where]; known {
				how = "only in files"
				delete(onlyInFiles, b.where)
			}
			counts[how]++
		}
		counts["document"] += m.documentsAreRefused(t, fmt.Sprintf("bad-%d", i))
	}
	for where, why := range onlyInFiles {
		t.Errorf("%s is no bad document any more: %s", where, why)
	}
	t.Log(counts)
	for how, least := range map[string]int{"schema": 100, "webhook": 35, "kubectl": 5, "kind": 4, "warning": 3, "document": 30} {
		if counts[how] < least {
			t.Errorf("%d refused by %s, want at least %d of %v", counts[how], how, least, counts)
		}
	}
}

// referring is an object that refers to a Secret or a ConfigMap.
func referring(kind, name string) string {
	if kind == "ConfigMap" {
		return fmt.Sprintf("apiVersion: usher.dev/v1alpha1\nkind: AuthPolicy\nmetadata: {name: reads-%s}\nspec: {providers: [p], api: {openapi: {configMapRef: {name: %q}}}}\n", name, name)
	}
	return fmt.Sprintf("apiVersion: usher.dev/v1alpha1\nkind: IdentityProvider\nmetadata: {name: reads-%s}\nspec: {issuer: \"https://reads.example.com\", audiences: [a], caRef: {name: %q}}\n", name, name)
}

// badObject is a document of a file that has problems.
type badObject struct {
	where    string // file and line, for a reader
	text     string
	problems policy.Problems // that usher validate tells of it
}

// bad returns the documents with problems, and the text of those without.
func (m manifests) bad(t *testing.T) (bad []badObject, good string) {
	t.Helper()
	_, problems := m.compile()
	for _, f := range m.files {
		line := 0
		for _, text := range splitDocuments(string(f.Data)) {
			first := line
			line += strings.Count(text, "\n")
			o := badObject{where: fmt.Sprintf("%s: %s:%d", m.name, f.Name, first+1), text: text}
			for _, p := range problems {
				if p.Pos.File == f.Name && p.Pos.Line > first && p.Pos.Line <= line {
					o.problems = append(o.problems, p)
				}
			}
			if len(o.problems) > 0 {
				bad = append(bad, o)
			} else {
				good += "---\n" + strings.TrimPrefix(text, "---\n")
			}
		}
	}
	return bad, good
}

var documentStart = regexp.MustCompile(`(?m)^---`)

// splitDocuments splits a file before each line that starts a document.
func splitDocuments(text string) (out []string) {
	from := 0
	for _, m := range documentStart.FindAllStringIndex(text, -1) {
		if m[0] > from {
			out = append(out, text[from:m[0]])
			from = m[0]
		}
	}
	return append(out, text[from:]+"\n")
}

// isRefused says by whom the document is refused, and fails the test if it is not, or without a word that helps.
func (b badObject) isRefused(t *testing.T, ns string) string {
	t.Helper()
	list, err := readObjects(b.text)
	if parsed, _ := manifest.Parse("", []byte(b.text)); len(parsed) == 1 && parsed[0].Kind == "OpenAPI" {
		return "a document of OpenAPI" // see documentsAreRefused
	}
	if err != nil {
		return "kubectl" // it is no YAML, or no object
	}
	if len(list) != 1 || resources[list[0].GetKind()] == "" || list[0].GetAPIVersion() != "usher.dev/v1alpha1" {
		return b.isOfAnotherKind(t, list, ns)
	}
	o := list[0]
	var warnings string
	listed := onlyInFiles[b.where] != ""
	eventually(t, func() error { // until what it refers to is read
		if warnings, err = create(t, o, ns, true); strings.Contains(warnings, "was not read yet") && !listed {
			return errors.New(warnings)
		}
		return nil
	})
	unresolved := !slices.ContainsFunc(b.problems, func(p policy.Problem) bool { return !p.Unresolved })
	switch {
	case unresolved && err == nil:
		for _, p := range b.problems {
			if !strings.Contains(warnings, p.Pos.Path+": "+p.Found) && !listed {
				t.Errorf("%s: no warning of %s: %s, but %s", b.where, p.Pos.Path, p.Found, warnings)
			}
		}
		return "warning"
	case err == nil:
		if !listed {
			t.Errorf("%s is taken, although %v", b.where, b.problems)
		}
		return "nobody"
	case strings.Contains(err.Error(), "admission webhook"):
		for _, p := range b.problems {
			if !p.Unresolved && !strings.Contains(err.Error(), p.Pos.Path+": "+p.Found) && !listed {
				t.Errorf("%s: the webhook does not say %s: %s, but %v", b.where, p.Pos.Path, p.Found, err)
			}
		}
		return "webhook"
	}
	for _, path := range paths(err.Error()) {
		for _, p := range b.problems {
			if within(path, p.Pos.Path) || within(p.Pos.Path, path) {
				return "schema"
			}
		}
	}
	if !listed {
		t.Errorf("%s: the schema names no field that has a problem: %v; %v", b.where, err, b.problems)
	}
	return "schema"
}

// isOfAnotherKind asks kubectl about documents that are no objects of Usher's.
func (b badObject) isOfAnotherKind(t *testing.T, list []*unstructured.Unstructured, ns string) string {
	t.Helper()
	if len(list) == 1 && slices.Contains([]string{"Secret", "ConfigMap", "Deployment"}, list[0].GetKind()) {
		return "a kind of Kubernetes' own"
	}
	out, err := shared.Kubectl(t.Context(), b.text, "apply", "--dry-run=server", "--validate=strict", "-n", ns, "-f", "-")
	if err == nil || !regexp.MustCompile(`no matches for kind|kind not set|apiVersion not set|no objects passed|unable to decode`).MatchString(out) {
		t.Errorf("%s: %s", b.where, out)
	}
	return "kind"
}

// documentsAreRefused asks about the policies that name an OpenAPI document with problems, which a cluster has as a ConfigMap, and
// returns how many problems the webhook told.
func (m manifests) documentsAreRefused(t *testing.T, ns string) (told int) {
	t.Helper()
	_, problems := m.inCluster().compile()
	for _, f := range m.files {
		name := f.Name
		inside := func(p policy.Problem) bool { return strings.HasPrefix(p.Pos.File, name+"[") }
		if parsed, _ := manifest.Parse(name, f.Data); len(parsed) != 1 || parsed[0].Kind != "OpenAPI" || !slices.ContainsFunc(problems, inside) {
			continue
		}
		named := objects(t, referring("ConfigMap", name))[0]
		named.SetName("another")
		var err error
		eventually(t, func() error { // until the ConfigMap is read
			var warnings string
			if warnings, err = create(t, named, ns, true); strings.Contains(warnings, "was not read yet") {
				return errors.New(warnings)
			}
			return nil
		})
		if err == nil {
			t.Errorf("%s: a policy with document %s is taken", m.name, name)
			continue
		}
		for _, p := range problems {
			if !inside(p) {
				continue
			}
			if strings.Contains(err.Error(), p.Pos.Path+": "+p.Found) {
				told++
			} else if !strings.Contains(err.Error(), " more") { // what is said is cut
				t.Errorf("%s: of %s the webhook does not say %s: %s, but %v", m.name, name, p.Pos.Path, p.Found, err)
			}
		}
	}
	return told
}

var (
	fieldError = regexp.MustCompile(`(?:^|[ \[])(spec[^\s:]*): (?:Invalid|Required|Forbidden|Unsupported|Too)`)
	nameInPath = regexp.MustCompile(`\[([^0-9\]][^\]]*)\]`)
)

// paths are the fields that an error of the API server names, as usher validate writes them.
func paths(text string) (out []string) {
	for _, m := range fieldError.FindAllStringSubmatch(text, -1) {
		path := nameInPath.ReplaceAllString(m[1], ".$1")
		if rest, ok := strings.CutSuffix(path, ".true"); ok {
			path = rest + ".on" // without quotes
		}
		out = append(out, path)
	}
	return out
}

// within reports whether a field is another one, or in it.
func within(path, other string) bool {
	return path == other || strings.HasPrefix(path, other+".") || strings.HasPrefix(path, other+"[")
}

// webhook makes a real Usher the admission webhook of all namespaces, after the objects were stored that it shall know, and returns
// when it answers.
func webhook(t *testing.T, ns string, store func(), args ...string) {
	t.Helper()
	namespace(t, ns)
	store()
	port, err := stack.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	kubectl(t, fmt.Sprintf(`
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: usher-%s}
webhooks:
  - name: validate.usher.dev
    admissionReviewVersions: [v1]
    sideEffects: None
    failurePolicy: Fail
    clientConfig: {url: "https://%s/validate"}
    rules: [{apiGroups: [usher.dev], apiVersions: [v1alpha1], operations: [CREATE, UPDATE], resources: [identityproviders, authpolicies]}]
`, ns, address), "apply", "-f", "-")
	t.Cleanup(func() {
		_, _ = shared.Kubectl(context.Background(), "", "delete", "validatingwebhookconfiguration", "usher-"+ns)
	})
	startUsher(t, ns, admin(t), append(args, "--webhook-address", address, "--webhook-host", "127.0.0.1", "--webhook-configuration", "usher-"+ns)...)
	good := objects(t, "apiVersion: usher.dev/v1alpha1\nkind: IdentityProvider\nmetadata: {name: good}\nspec: {issuer: \"https://good.example.com\", audiences: [a]}\n")[0]
	eventually(t, func() error { // until the certificate is made, and the objects are read
		_, err := create(t, good, ns, true)
		return err
	})
}
