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
	"tenants":        {"watch.allNamespaces=true", "watch.namespaceHosts.shop={shop.example.com,*.shop.example.com}", "watch.namespaceHosts.agents={agents.example.com}"},
	"local":          {"watch.allNamespaces=true", "watch.namespaceHosts.agents={agents.example.com}", "watch.namespaceHosts.shop={shop.example.com,*.shop.example.com}", "watch.allowLocalAddresses=true"},
	"webhook":        {"webhook.enabled=true"},
	"wide webhook":   {"webhook.enabled=true", "watch.allNamespaces=true"},
	"mTLS":           {"tls.secretName=usher-tls", "tls.clientSANs={spiffe://mesh.example.com/ns/edge/sa/envoy}"},
	"ServiceMonitor": {"serviceMonitor.enabled=true"},
	"own settings":   {"image.repository=registry.example.com/usher", "image.tag=v1", "extraArgs={--log-level=warn}", "networkPolicy.enabled=false", "drain.delay=30", "autoscaling.maxReplicas=40"},
	"own nodes": {
		"image.digest=sha256:" + digest, "imagePullSecrets[0].name=registry", "nodeSelector.disk=fast", "tolerations[0].key=gate", "tolerations[0].operator=Exists",
		"affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].key=gate",
		"affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].operator=Exists",
		"priorityClassName=system-cluster-critical", "podAnnotations.a=b",
		"networkPolicy.extraEgress[0].to[0].ipBlock.cidr=10.1.2.3/32", "networkPolicy.extraIngress[0].from[0].ipBlock.cidr=10.1.0.0/16",
	},
}

const digest = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"

// helm renders the chart, definitions included, for a release called usher.
func helm(t *testing.T, namespace string, set []string) []object {
	t.Helper()
	return helmAs(t, "usher", namespace, set)
}

func helmAs(t *testing.T, name, namespace string, set []string) []object {
	t.Helper()
	args := []string{"template", name, chart, "--namespace", namespace, "--include-crds"}
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
			all = append(all, helm(t, namespace, set)...)
			if name == "ServiceMonitor" {
				prometheusOperator(t)
				checkMonitor(t, find(t, all, "ServiceMonitor", "usher"), all)
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

func TestValuesThatMakeNoSenseAreRefused(t *testing.T) {
	for _, set := range []string{"autoscaling.minReplicas=1", "replicas=3", "tls.clientSANs={spiffe://mesh/*}", "extraArgs={rm}", "image.repository=", "webhook.enabled=perhaps", "image.digest=v1", "imagePullSecrets={registry}", "nodeSelector.gate=true", "networkPolicy.extraEgress={10.0.0.0/8}",
		"watch.namespaceHosts.shop={shop.example.com}", "watch.allowLocalAddresses=true", // of which nothing would come
		"watch.allNamespaces=true,watch.namespaceHosts.shop=shop.example.com", "watch.allNamespaces=true,watch.namespaceHosts.shop={}",
		"watch.allNamespaces=true,watch.namespaceHosts.shop={https://shop.example.com}", "watch.allNamespaces=true,watch.namespaceHosts.shop={$(X)}", "watch.allNamespaces=true,watch.namespaceHosts.Shop={shop.example.com}",
	} {
		t.Run(set, func(t *testing.T) {
			if out, err := try(t, "helm", "template", "usher", chart, "--set", set); err == nil {
				t.Errorf("it is taken: %.300s", out)
			}
		})
	}
}
