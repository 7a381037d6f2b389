package deploy

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/usher-authz/usher/k8s/manifest"
)

// variants are what kustomize and the chart make both: an own overlay, and a value set of the chart.
var variants = map[string]struct {
	kustomization string
	values        string
}{
	"namespace": {"resources: [kustomize/overlays/namespace]", "default"},
	"cluster":   {"resources: [kustomize/overlays/cluster]", "cluster"},
	"tenants": {`resources: [kustomize/overlays/cluster]
patches:
  - target: {kind: Deployment, name: usher}
    patch: |-
      - {op: add, path: /spec/template/spec/containers/0/args/-, value: "--namespace-hosts=agents=agents.example.com"}
      - {op: add, path: /spec/template/spec/containers/0/args/-, value: "--namespace-hosts=shop=shop.example.com,*.shop.example.com"}`, "tenants"},
	"webhook": {"resources: [kustomize/overlays/namespace]\ncomponents: [kustomize/components/webhook]", "webhook"},
	"webhook of the cluster": {
		"resources: [kustomize/overlays/cluster]\ncomponents: [kustomize/components/webhook-cluster]", "wide webhook",
	},
	"mTLS": {`resources: [kustomize/overlays/namespace]
components: [kustomize/components/mtls]
patches:
  - target: {kind: Deployment, name: usher}
    patch: |-
      - {op: add, path: /spec/template/spec/containers/0/args/-, value: "--grpc-client-san=spiffe://mesh.example.com/ns/edge/sa/envoy"}`, "mTLS"},
	"ServiceMonitor": {"resources: [kustomize/overlays/namespace]\ncomponents: [kustomize/components/servicemonitor]", "ServiceMonitor"},
}

// The chart and the overlays say the same, with each option: neither is forgotten when the other changes.
func TestTheChartIsTheOverlay(t *testing.T) {
	for name, v := range variants {
		t.Run(name, func(t *testing.T) {
			one, other := map[string]object{}, map[string]object{}
			for _, o := range ownOverlay(t, v.kustomization) {
				if o.text("kind") != "Namespace" { // helm install --create-namespace
					one[o.id()] = o
				}
			}
			for _, o := range helm(t, "usher", valueSets[v.values]) {
				other[o.id()] = o
			}
			for id, o := range one {
				if other[id] == nil {
					t.Errorf("the chart lacks %s", id)
				} else if a, b := o.yaml(t), other[id].yaml(t); a != b {
					t.Errorf("%s differs; kustomize:\n%s\nhelm:\n%s", id, a, b)
				}
			}
			for id := range other {
				if one[id] == nil {
					t.Errorf("the overlay lacks %s", id)
				}
			}
		})
	}
}

// What the cluster-wide overlay only shows, as comments, is right too: the chart says the same.
func TestTheCommentsOfTheClusterOverlay(t *testing.T) {
	dir := copyOfDeploy(t)
	file := filepath.Join(dir, "kustomize/overlays/cluster/kustomization.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "# - {"); n != 3 {
		t.Fatalf("%d lines are shown", n)
	}
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(text), "# - {", "- {")), 0o600); err != nil {
		t.Fatal(err)
	}
	one := find(t, kustomize(t, filepath.Dir(file)), "Deployment", "usher").yaml(t)
	other := find(t, helm(t, "usher", valueSets["local"]), "Deployment", "usher").yaml(t)
	if one != other {
		t.Errorf("kustomize:\n%s\nhelm:\n%s", one, other)
	}
	var grants manifest.Grants
	for _, m := range regexp.MustCompile(`--namespace-hosts=([^\s"']+)`).FindAllStringSubmatch(other, -1) {
		if err := grants.Add(m[1]); err != nil {
			t.Errorf("usher serve refuses it: %v", err)
		}
	}
	if !grants.Allow("shop", "a.shop.example.com") || grants.Allow("shop", "agents.example.com") {
		t.Errorf("nothing is granted: %s", other)
	}
}

// All components together, in a namespace of one's own.
func TestComponentsGoTogether(t *testing.T) {
	prometheusOperator(t)
	for name, more := range map[string]string{"deployment": "", "daemonset": ", kustomize/components/daemonset"} {
		t.Run(name, func(t *testing.T) {
			namespace := "together-" + name
			all := ownOverlay(t, `
namespace: `+namespace+`
resources: [kustomize/overlays/namespace]
components: [kustomize/components/webhook, kustomize/components/mtls, kustomize/components/servicemonitor`+more+`]
`)
			install(t, all)
			kind := "Deployment"
			if more != "" {
				kind = "DaemonSet"
			}
			pod := podOf(t, find(t, all, kind, "usher"))
			if out, err := apply(t, []object{pod}, "--dry-run=server"); err != nil {
				t.Errorf("%s, %v", out, err)
			}
			w := find(t, all, "ValidatingWebhookConfiguration", "usher")
			if text := w.yaml(t); strings.Count(text, namespace) != 2 { // whom it asks, and about which objects
				t.Errorf("the webhook is another namespace's: %s", text)
			}
			if p := find(t, all, "NetworkPolicy", "usher").yaml(t); !strings.Contains(p, "port: webhook") {
				t.Errorf("the API server cannot reach the webhook: %s", p)
			}
		})
	}
}

// prometheusOperator applies the definition of a ServiceMonitor.
func prometheusOperator(t *testing.T) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", "github.com/prometheus-operator/prometheus-operator")
	cmd.Dir = "../parts/prometheus"
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(module.Dir, "example", "prometheus-operator-crd", "monitoring.coreos.com_servicemonitors.yaml")
	if out, err := shared.Kubectl(t.Context(), "", "apply", "--server-side", "-f", file); err != nil {
		t.Fatalf("%s, %v", out, err)
	}
	if out, err := shared.Kubectl(t.Context(), "", "wait", "--for", "condition=Established", "--timeout", "3m", "crd/servicemonitors.monitoring.coreos.com"); err != nil {
		t.Fatalf("%s, %v", out, err)
	}
}

// With the webhook, Usher may make and read its own Secret, and announce its authority in its own configuration; of the chart by
// another name too.
func TestTheWebhooksRights(t *testing.T) {
	for namespace, v := range map[string]struct {
		all           []object
		configuration string
	}{
		"hooked":      {ownOverlay(t, "namespace: hooked\nresources: [kustomize/overlays/namespace]\ncomponents: [kustomize/components/webhook]"), "usher"},
		"hooked-helm": {append([]object{restricted("hooked-helm")}, helm(t, "hooked-helm", valueSets["webhook"])...), "hooked-helm-usher"},
	} {
		t.Run(namespace, func(t *testing.T) {
			applyRights(t, v.all)
			account := "system:serviceaccount:" + namespace + ":usher"
			const configurations = "validatingwebhookconfigurations.admissionregistration.k8s.io"
			checkRights(t, account, namespace, []string{
				"create secrets", "get secrets/usher-webhook", "update secrets/usher-webhook", "get " + configurations + "/" + v.configuration, "patch " + configurations + "/" + v.configuration,
			}, []string{
				"list secrets", "update secrets/other", "delete secrets/usher-webhook", "get " + configurations + "/other", "patch " + configurations + "/other",
				"create " + configurations, "delete " + configurations + "/" + v.configuration, "update " + configurations + "/" + v.configuration,
			})
			checkRights(t, account, "default", nil, []string{"create secrets", "get secrets/usher-webhook"})
		})
	}
}
