package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/usher-authz/usher/extauthz/dryrun"
	"github.com/usher-authz/usher/k8s/manifest"
	"github.com/usher-authz/usher/k8s/watch"
	"github.com/usher-authz/usher/policy"
	"github.com/usher-authz/usher/policy/policytest"
)

// Each good manifest of the repository means the same as a file and as objects of a cluster: the examples, what the
// documentation shows, and the cases of the tests. A PolicyTest is for `usher test` and no object of a cluster: those of the
// examples are run on what was compiled either way.
//
// The webhook is on meanwhile, and has nothing against any of them. Its Usher sees one namespace only, so that two examples may
// guard the same host.
func TestFilesAndAClusterReadTheSame(t *testing.T) {
	webhook(t, "good", func() {})
	for _, group := range []struct {
		name        string
		sets        []manifests
		good, tests int  // at least
		all         bool // of them must be good
	}{
		{"examples", examples(t), 3, 3, true},
		{"docs", inDocs(t), 20, 0, true},
		{"cases", cases(t), 18, 0, false}, // those that only package policy can read have a preset of its own
	} {
		t.Run(group.name, func(t *testing.T) {
			good, tests := 0, 0
			for _, m := range group.sets {
				if !m.hasAny("IdentityProvider", "AuthPolicy") {
					continue
				}
				m = m.complete(t)
				compiled, problems := m.compile()
				if len(problems) > 0 {
					if group.all {
						t.Errorf("%s: %v", m.name, problems)
					}
					continue // TestBadManifestsAreRefused has it
				}
				good, tests = good+1, tests+len(compiled.Tests)
				t.Run(m.name, func(t *testing.T) { bothWays(t, m, fmt.Sprintf("%s-%d", group.name, good)) })
			}
			if good < group.good || tests < group.tests {
				t.Errorf("%d sets of manifests are good and %d PolicyTests are in them, want at least %d and %d", good, tests, group.good, group.tests)
			}
		})
	}
}

// bothWays compares the manifests as files with the same ones as the watcher reads them, once the API server has stored them just as
// kubectl sends them.
func bothWays(t *testing.T, m manifests, ns string) {
	asFiles, _ := m.compile()
	m = m.inCluster()
	byConfigMap, problems := m.compile()
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	namespaces, count := store(t, m, ns)
	reading := watched(t, namespaces, count)
	if len(reading.Problems) > 0 {
		t.Fatalf("in the cluster: %v", reading.Problems)
	}
	inCluster, problems := manifest.Compile(reading.Compiled.Objects, presets())
	if len(problems) > 0 {
		t.Fatal(problems)
	}

	// Nothing is left out and nothing added: no default either.
	compared := 0
	for _, file := range byConfigMap.Objects {
		for _, object := range inCluster.Objects {
			if object.Kind != file.Kind || object.Name != file.Name || file.Namespace != "" && object.Namespace != file.Namespace {
				continue
			}
			switch {
			case file.AuthPolicy != nil:
				same(t, file.Name, file.AuthPolicy.Spec, object.AuthPolicy.Spec)
			case file.IdentityProvider != nil:
				same(t, file.Name, file.IdentityProvider.Spec, object.IdentityProvider.Spec)
			default:
				continue
			}
			compared++
		}
	}
	if compared != count || count == 0 {
		t.Errorf("%d objects compared, %d stored", compared, count)
	}

	// It is compiled to the same.
	same(t, "backends", byConfigMap.Backends, inCluster.Backends)
	same(t, "providers", fingerprints(byConfigMap), fingerprints(inCluster))
	same(t, "policies", outline(byConfigMap), outline(inCluster))
	same(t, "policies without a ConfigMap", outline(asFiles), outline(inCluster))
	for _, c := range []*manifest.Compiled{asFiles, inCluster} {
		runTests(t, c, asFiles.Tests)
	}
}

func same(t *testing.T, what string, file, object any) {
	t.Helper()
	if !reflect.DeepEqual(file, object) {
		a, _ := json.MarshalIndent(file, "", " ")
		b, _ := json.MarshalIndent(object, "", " ")
		t.Errorf("%s: in the file\n%s\nin the cluster\n%s", what, a, b)
	}
}

// store makes the objects, and returns their namespaces and how many are Usher's.
func store(t *testing.T, m manifests, ns string) (namespaces []string, count int) {
	t.Helper()
	namespaces = append(namespaces, namespace(t, ns))
	for _, o := range objects(t, m.text()) {
		if own := o.GetNamespace(); own != "" && !slices.Contains(namespaces, own) {
			namespaces = append(namespaces, namespace(t, own))
		} else if own == "" {
			o.SetNamespace(ns)
		}
		switch o.GetKind() {
		case "PolicyTest": // for `usher test`: a cluster has no such kind
		case "Secret", "ConfigMap":
			text, _ := json.Marshal(o)
			kubectl(t, string(text), "apply", "-f", "-")
		default:
			count++
			if _, err := create(t, o, ns, false); err != nil {
				t.Fatalf("%s %s: %v", o.GetKind(), o.GetName(), err)
			}
			same(t, "spec of "+o.GetName(), o.Object["spec"], stored(t, o).Object["spec"])
		}
	}
	return namespaces, count
}

// stored is the object as the API server has it.
func stored(t *testing.T, o *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	out := kubectl(t, "", "get", resources[o.GetKind()], o.GetName(), "-n", o.GetNamespace(), "-o", "json")
	return objects(t, out)[0]
}

// watched is the reading of a real watcher that has as many objects.
func watched(t *testing.T, namespaces []string, count int) (out watch.Reading) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	w, err := watch.NewWatcher(watch.Cluster{Config: shared.Config(""), Namespaces: namespaces, Presets: presets()})
	if err != nil {
		t.Fatal(err)
	}
	w.Run(ctx, func(r watch.Reading) policy.Problems {
		if out = r; r.Objects == count {
			stop()
		}
		return nil
	})
	if out.Objects != count {
		t.Fatalf("%d objects are watched, want %d: %+v", out.Objects, count, w.Connection())
	}
	return out
}

func fingerprints(c *manifest.Compiled) map[string]string {
	out := map[string]string{}
	for name, p := range c.Providers {
		out[name] = p.Fingerprint
	}
	return out
}

// outline is what a policy shows of itself, without the places of anything.
func outline(c *manifest.Compiled) (out []string) {
	for _, p := range c.Snapshot.Policies() {
		var rules []string
		for _, r := range p.RuleRefs() {
			rules = append(rules, r.On)
		}
		out = append(out, fmt.Sprintf("%s: hosts %v, providers %v, shadow %v, rules %v, headers %v, removed %v, anonymous %v, token %+v, public at %q, resource %q",
			p.Name, p.Hosts(), p.Providers, p.Shadow, rules, p.HeaderNames(), p.RemovedAlways(), p.Anonymous() != nil, p.TokenFrom, p.PublicURL, p.ResourceURL))
	}
	var warnings []string
	for _, w := range c.Snapshot.Warnings() {
		warnings = append(warnings, w.Pos.Path+": "+w.Found)
	}
	slices.Sort(warnings) // members of an object have no order in a cluster
	return append(out, warnings...)
}

// runTests runs PolicyTests on what was compiled.
func runTests(t *testing.T, c *manifest.Compiled, suites []policytest.Suite) {
	t.Helper()
	if len(suites) == 0 {
		return
	}
	report, err := policytest.Run(suites, c.Snapshot.Policies(), func(s *policytest.Suite) (policytest.Gate, error) {
		return dryrun.New(dryrun.Config{Policies: c.Snapshot, Providers: c.Providers, Backends: c.Backends, Objects: s.Objects, Now: s.Now})
	})
	if err != nil || report.Failed > 0 || len(report.Results) == 0 {
		t.Errorf("%d of %d tests fail, %v", report.Failed, len(report.Results), err)
	}
}

// selfSigned makes a private key and a certificate of it, in PEM.
func selfSigned(t *testing.T) (key, certificate string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
