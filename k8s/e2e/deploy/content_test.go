package deploy

import (
	"encoding/json"
	"os"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
)

// as reads an object as what it is.
func as[T any](t *testing.T, o object) (out T) {
	t.Helper()
	text, err := json.Marshal(o)
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Each directory of overlays is accepted by the API server, as it stands.
func TestEveryOverlayIsAccepted(t *testing.T) {
	list, err := os.ReadDir("../../deploy/kustomize/overlays")
	if err != nil {
		t.Fatal(err)
	}
	if len(list) < 5 {
		t.Fatalf("%d overlays", len(list))
	}
	for _, entry := range list {
		t.Run(entry.Name(), func(t *testing.T) {
			all := kustomize(t, "../../deploy/kustomize/overlays/"+entry.Name())
			if entry.Name() == "daemonset-socket" { // its warnings have a test of their own, in a namespace of its own
				return
			}
			install(t, all)
		})
	}
}

// What the Deployment is made of, so that nothing of it is lost unseen; the chart is the same.
func TestWhatTheDeploymentIsMadeOf(t *testing.T) {
	all := ownOverlay(t, "resources: [kustomize/overlays/namespace]\ncomponents: [kustomize/components/webhook]")
	d := as[appsv1.Deployment](t, find(t, all, "Deployment", "usher"))
	pod, c := d.Spec.Template.Spec, d.Spec.Template.Spec.Containers[0]

	if h := as[autoscalingv2.HorizontalPodAutoscaler](t, find(t, all, "HorizontalPodAutoscaler", "usher")); *h.Spec.MinReplicas < 2 || h.Spec.ScaleTargetRef.Kind != "Deployment" || h.Spec.ScaleTargetRef.Name != d.Name || d.Spec.Replicas != nil {
		t.Errorf("2 replicas or more: %+v", h.Spec)
	}
	if b := as[policyv1.PodDisruptionBudget](t, find(t, all, "PodDisruptionBudget", "usher")); b.Spec.MaxUnavailable.IntValue() != 1 || *b.Spec.UnhealthyPodEvictionPolicy != policyv1.AlwaysAllow {
		t.Errorf("disruptions: %+v", b.Spec)
	}
	if u := d.Spec.Strategy.RollingUpdate; u.MaxUnavailable.IntValue() != 0 || u.MaxSurge.IntValue() != 1 || d.Spec.MinReadySeconds < 1 {
		t.Errorf("updates: %+v", u)
	}
	var spread []string
	for _, s := range pod.TopologySpreadConstraints {
		spread = append(spread, s.TopologyKey)
		if !selects(s.LabelSelector.MatchLabels, d.Spec.Template.Labels) || !slices.Equal(s.MatchLabelKeys, []string{"pod-template-hash"}) {
			t.Errorf("it spreads others: %+v", s)
		}
	}
	if !slices.Equal(spread, []string{"topology.kubernetes.io/zone", "kubernetes.io/hostname"}) {
		t.Errorf("it spreads over %v", spread)
	}
	for _, probe := range []struct {
		path string
		is   *corev1.Probe
	}{{"/healthz", c.StartupProbe}, {"/healthz", c.LivenessProbe}, {"/readyz", c.ReadinessProbe}} {
		if p := probe.is; p == nil || p.HTTPGet == nil || p.HTTPGet.Port.StrVal != "admin" || p.HTTPGet.Path != probe.path {
			t.Errorf("a probe of %s is %+v", probe.path, p)
		}
	}
	if c.Resources.Requests.Cpu().IsZero() || c.Resources.Requests.Memory().IsZero() || c.Resources.Limits.Memory().IsZero() {
		t.Errorf("resources: %+v", c.Resources)
	}
	if s := c.SecurityContext; s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem { // restricted does not ask for it
		t.Error("its root file system can be written")
	}
	if account := find(t, all, "ServiceAccount", pod.ServiceAccountName); account.at("automountServiceAccountToken") != false {
		t.Error("whatever uses its ServiceAccount gets a token")
	}
	if *pod.EnableServiceLinks {
		t.Error("it is told of every Service of its namespace")
	}
}

// Services, the budget and the NetworkPolicy are those of its pods, and name ports that these have.
func TestEverythingMeansThePod(t *testing.T) {
	all := ownOverlay(t, "resources: [kustomize/overlays/namespace]\ncomponents: [kustomize/components/webhook]")
	d := as[appsv1.Deployment](t, find(t, all, "Deployment", "usher"))
	labels := d.Spec.Template.Labels
	var ports []string
	for _, p := range d.Spec.Template.Spec.Containers[0].Ports {
		ports = append(ports, p.Name)
	}
	if !slices.Equal(ports, []string{"grpc", "admin", "webhook"}) {
		t.Fatalf("its ports are %v", ports)
	}
	appProtocols := map[string]string{}
	for _, o := range all {
		switch o.text("kind") {
		case "Service":
			s := as[corev1.Service](t, o)
			if !selects(s.Spec.Selector, labels) || !slices.Contains(ports, s.Spec.Ports[0].TargetPort.StrVal) {
				t.Errorf("%s leads elsewhere: %+v", o.id(), s.Spec)
			}
			appProtocols[s.Name] = *s.Spec.Ports[0].AppProtocol
			if headless := s.Spec.ClusterIP == "None"; headless != (s.Name == "usher") || s.Spec.PublishNotReadyAddresses {
				t.Errorf("%s: clusterIP %q, not ready ones too: %v", o.id(), s.Spec.ClusterIP, s.Spec.PublishNotReadyAddresses)
			}
		case "PodDisruptionBudget":
			if b := as[policyv1.PodDisruptionBudget](t, o); !selects(b.Spec.Selector.MatchLabels, labels) {
				t.Errorf("%s: %+v", o.id(), b.Spec.Selector)
			}
		}
	}
	if appProtocols["usher"] != "kubernetes.io/h2c" || appProtocols["usher-webhook"] != "https" {
		t.Errorf("protocols %v", appProtocols)
	}

	n := as[networkingv1.NetworkPolicy](t, find(t, all, "NetworkPolicy", "usher"))
	if !selects(n.Spec.PodSelector.MatchLabels, labels) || len(n.Spec.PolicyTypes) != 2 {
		t.Errorf("it is for others: %+v", n.Spec)
	}
	// Who may connect to which port. Only the webhook's is open to all.
	from := map[string]string{}
	for _, rule := range n.Spec.Ingress {
		who := "all"
		if len(rule.From) == 1 && rule.From[0].NamespaceSelector != nil {
			for label := range rule.From[0].NamespaceSelector.MatchLabels {
				who = label
			}
		}
		for _, p := range rule.Ports {
			from[p.Port.StrVal] += who
		}
	}
	if len(from) != 3 || from["grpc"] != "usher.dev/envoy" || from["admin"] != "usher.dev/monitoring" || from["webhook"] != "all" {
		t.Errorf("ingress %v", from)
	}
	// What lies outside the cluster is reached by two ports; the clouds' metadata by none.
	for _, rule := range n.Spec.Egress {
		for _, to := range rule.To {
			if to.IPBlock == nil {
				continue
			}
			for _, p := range rule.Ports {
				if port := p.Port.IntValue(); port != 53 && port != 443 && port != 6443 || port == 53 && to.IPBlock.CIDR != "169.254.20.10/32" {
					t.Errorf("port %d of %s is open", port, to.IPBlock.CIDR)
				}
			}
			if to.IPBlock.CIDR == "0.0.0.0/0" && !slices.Contains(to.IPBlock.Except, "169.254.0.0/16") || to.IPBlock.CIDR == "::/0" && !slices.Contains(to.IPBlock.Except, "fd00:ec2::/32") {
				t.Errorf("%s without %v reaches a cloud's metadata", to.IPBlock.CIDR, to.IPBlock.Except)
			}
		}
	}
}

func selects(selector, labels map[string]string) bool {
	for k, v := range selector {
		if labels[k] != v {
			return false
		}
	}
	return len(selector) > 0
}
