package deploy

import (
	"maps"
	"reflect"
	"strings"
	"testing"
)

const chart = "../../deploy/helm/usher"

// valueSets are those of docs/kubernetes.md.
var valueSets = map[string][]string{
	"default":        nil,
	"cluster":        {"watch.allNamespaces=true"},
	"webhook":        {"webhook.enabled=true"},
	"wide webhook":   {"webhook.enabled=true", "watch.allNamespaces=true"},
	"mTLS":           {"tls.secretName=usher-tls", "tls.clientSANs={spiffe://mesh.example.com/ns/edge/sa/envoy}"},
	"ServiceMonitor": {"serviceMonitor.enabled=true"},
	"own settings":   {"image.repository=registry.example.com/usher", "image.tag=v1", "extraArgs={--log-level=warn}", "networkPolicy.enabled=false", "drain.delay=30", "autoscaling.maxReplicas=40"},
}

// helm renders the chart, definitions included, for a release called usher.
func helm(t *testing.T, namespace string, set []string) []object {
	t.Helper()
	args := []string{"template", "usher", chart, "--namespace", namespace, "--include-crds"}
	for _, s := range set {
		args = append(args, "--set", s)
	}
	return objects(t, tool(t, "helm", args...))
}

func TestEachValueSetIsAcceptedAndItsPodIsRestricted(t *testing.T) {
	for name, set := range valueSets {
		t.Run(name, func(t *testing.T) {
			args := []string{"lint", "--strict", chart}
			for _, s := range set {
				args = append(args, "--set", s)
			}
			tool(t, "helm", args...)
			namespace := "helm-" + strings.ReplaceAll(strings.ToLower(name), " ", "-")
			all := []object{restricted(namespace)}
			for _, o := range helm(t, namespace, set) {
				if o.text("kind") == "ServiceMonitor" { // its definition is the Prometheus operator's
					checkMonitor(t, o, helm(t, namespace, set))
					continue
				}
				all = append(all, o)
			}
			install(t, all)
			pod := podOf(t, find(t, all, "Deployment", "usher"))
			if out, err := apply(t, []object{pod}, "--dry-run=server"); err != nil {
				t.Errorf("%s, %v", out, err)
			}
		})
	}
}

func restricted(namespace string) object {
	return object{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{
		"name": namespace, "labels": map[string]any{"pod-security.kubernetes.io/enforce": "restricted"},
	}}
}

// checkMonitor looks for the one Service that the monitor selects.
func checkMonitor(t *testing.T, monitor object, all []object) {
	t.Helper()
	wanted, _ := monitor.at("spec", "selector", "matchLabels").(map[string]any)
	var found []string
	for _, o := range all {
		labels, _ := o.at("metadata", "labels").(map[string]any)
		merged := map[string]any{}
		maps.Copy(merged, labels)
		maps.Copy(merged, wanted)
		if o.text("kind") == "Service" && reflect.DeepEqual(labels, merged) {
			found = append(found, o.text("metadata", "name"))
		}
	}
	if !reflect.DeepEqual(found, []string{"usher-admin"}) {
		t.Errorf("the monitor selects %v", found)
	}
}

// The chart and the overlays say the same: neither is forgotten when the other changes.
func TestTheChartIsTheOverlay(t *testing.T) {
	for overlay, set := range map[string][]string{"namespace": nil, "cluster": valueSets["cluster"]} {
		t.Run(overlay, func(t *testing.T) {
			one, other := map[string]object{}, map[string]object{}
			for _, o := range kustomize(t, "../../deploy/kustomize/overlays/"+overlay) {
				if o.text("kind") != "Namespace" { // helm install --create-namespace
					one[o.id()] = o
				}
			}
			for _, o := range helm(t, "usher", set) {
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

func TestValuesThatMakeNoSenseAreRefused(t *testing.T) {
	for _, set := range []string{"autoscaling.minReplicas=1", "replicas=3", "tls.clientSANs={spiffe://mesh/*}", "extraArgs={rm}", "image.repository=", "webhook.enabled=perhaps"} {
		t.Run(set, func(t *testing.T) {
			if out, err := try(t, "helm", "template", "usher", chart, "--set", set); err == nil {
				t.Errorf("it is taken: %.300s", out)
			}
		})
	}
}

// With the webhook, Usher may make and read its own Secret, and announce its authority in its own configuration.
func TestTheWebhooksRights(t *testing.T) {
	applyRights(t, append([]object{restricted("hooked")}, helm(t, "hooked", valueSets["webhook"])...))
	const account = "system:serviceaccount:hooked:usher"
	const configurations = "validatingwebhookconfigurations.admissionregistration.k8s.io"
	checkRights(t, account, "hooked", []string{
		"create secrets", "get secrets/usher-webhook", "update secrets/usher-webhook", "get " + configurations + "/usher", "patch " + configurations + "/usher",
	}, []string{
		"list secrets", "update secrets/other", "delete secrets/usher-webhook", "get " + configurations + "/other", "patch " + configurations + "/other",
		"create " + configurations, "delete " + configurations + "/usher", "update " + configurations + "/usher",
	})
	checkRights(t, account, "default", nil, []string{"create secrets", "get secrets/usher-webhook"})
}
