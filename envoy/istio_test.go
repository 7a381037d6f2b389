package envoy_test

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/usher-authz/usher/envoy"
	"github.com/usher-authz/usher/k8s/api/v1alpha1"
)

// istioCases take every branch of the template. k8s/e2e applies what they give to a real API server.
var istioCases = []struct {
	name     string
	policies []v1alpha1.AuthPolicy
	options  envoy.Options
}{
	{
		"istio_defaults",
		[]v1alpha1.AuthPolicy{policy("agents", withCORS(v1alpha1.CORS{AllowOrigins: []string{"https://chat.example.com"}}))},
		envoy.Options{},
	},
	{
		"istio_everything",
		[]v1alpha1.AuthPolicy{
			policy("watcher", shadow, withHosts("agents.example.com")),
			policy("orders", routes, withHosts("orders.example.com", "*.Shop.example.com"), withBackend("https://Orders.example.net"), withCORS(v1alpha1.CORS{
				AllowOrigins: []string{"https://shop.example.com", "http://localhost:3000"}, AllowMethods: []string{"GET"},
				AllowHeaders: []string{"authorization"}, MaxAge: &metav1.Duration{Duration: 36 * time.Hour},
			})),
			policy("agents", withBackend("https://langgraph.agents.svc.cluster.local:8443")),
			policy("same", withBackend("http://langgraph.agents.svc:8000")),
			policy("rest", withHosts("*"), withBackend("https://192.0.2.1:8443")),
			policy("by-name-only", withHosts()),
		},
		envoy.Options{
			UsherAddress: "usher.authz.svc.example.internal:9443", MaxRequestBytes: 8192, CheckTimeout: 1500 * time.Millisecond, TrustedHops: 2,
			Kubernetes: envoy.Kubernetes{
				Namespace: "edge", Gateway: "gate", TLSSecret: "edge-tls", ClientCASecret: "edge-tls-cacert", BackendCA: "backends",
				Selector: []string{"istio=edge", "app.kubernetes.io/name=edge"},
			},
		},
	},
	{
		"istio_shared",
		[]v1alpha1.AuthPolicy{policy("orders", routes, withHosts("orders.example.com", "*.shop.example.com"), withBackend("http://orders.shop.svc"))},
		envoy.Options{TrustedHops: 1, Kubernetes: envoy.Kubernetes{TLSSecret: "edge", SharedGateway: true}},
	},
	{
		"istio_tls_to_usher",
		[]v1alpha1.AuthPolicy{policy("agents")},
		envoy.Options{UsherSAN: "spiffe://mesh.example.com/ns/usher/sa/usher", Kubernetes: envoy.Kubernetes{UsherClientSecret: "edge-client"}},
	},
	{
		"istio_verifies_usher",
		[]v1alpha1.AuthPolicy{policy("agents")},
		envoy.Options{Kubernetes: envoy.Kubernetes{UsherCA: "usher-ca"}},
	},
	{
		"istio_usher_has_a_sidecar",
		[]v1alpha1.AuthPolicy{policy("agents")},
		envoy.Options{UsherSAN: "spiffe://cluster.local/ns/usher/sa/usher", Kubernetes: envoy.Kubernetes{UsherInMesh: true}},
	},
}

func TestIstio(t *testing.T) {
	for _, c := range istioCases {
		t.Run(c.name, func(t *testing.T) {
			compare(t, c.name, c.policies, c.options, envoy.Istio)
			compare(t, c.name+"_mesh", c.policies, c.options, envoy.IstioMesh)
		})
	}
}

func TestIstioSaysEverythingThatIsWrongAtOnce(t *testing.T) {
	_, err := envoy.Istio([]v1alpha1.AuthPolicy{
		policy("a", withHosts("127.0.0.1")), policy("b", func(s *v1alpha1.AuthPolicySpec) { s.Backend = nil }), policy("c", forwardedCertificate),
		policy("d", withHosts("*")),
	}, envoy.Options{
		UsherAddress:   "unix:///run/usher.sock",
		Kubernetes:     envoy.Kubernetes{Selector: []string{"istio", "a=b c"}, TLSSecret: "edge", ClientCASecret: "clients", SharedGateway: true},
		TrustedProxies: nil,
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		`policy "a": host "127.0.0.1"`, `policy "b": no spec.backend.url`, `policy "c": clientCertificate believes a header`, `gateway selector "istio"`,
		`gateway selector "a=b c"`, `client CA secret "clients"`, `usher's address "unix:///run/usher.sock": expected NAME.NAMESPACE.svc:PORT`, `shared gateway: one policy guards "*"`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %s:\n%v", want, err)
		}
	}
}

func TestIstioSaysWhatIsWrongWithTLSToUsher(t *testing.T) {
	const id = "spiffe://cluster.local/ns/usher/sa/usher"
	for name, c := range map[string]struct {
		san        string
		kubernetes envoy.Kubernetes
		want       string // of the error; empty: none
	}{
		"the authority in the client's Secret": {"", envoy.Kubernetes{UsherClientSecret: "edge", UsherCA: "edge"}, ""},
		"the authority beside it":              {"", envoy.Kubernetes{UsherClientSecret: "edge", UsherCA: "edge-cacert"}, ""},
		"the authority where nobody looks":     {"", envoy.Kubernetes{UsherClientSecret: "edge", UsherCA: "usher-ca"}, `usher CA "usher-ca"`},
		"in the mesh without a name":           {"", envoy.Kubernetes{UsherInMesh: true}, "expected --usher-tls-san"},
		"in the mesh with another certificate": {id, envoy.Kubernetes{UsherInMesh: true, UsherClientSecret: "edge"}, "expected --usher-in-mesh without"},
		"in the mesh with another authority":   {id, envoy.Kubernetes{UsherInMesh: true, UsherCA: "edge"}, "expected --usher-in-mesh without"},
		"a name, and nothing that it is for":   {id, envoy.Kubernetes{}, "nothing is verified"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := envoy.Istio([]v1alpha1.AuthPolicy{policy("agents")}, envoy.Options{UsherSAN: c.san, Kubernetes: c.kubernetes})
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}
