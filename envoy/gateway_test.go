package envoy_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/usher-authz/usher/envoy"
	"github.com/usher-authz/usher/k8s/api/v1alpha1"
)

// gatewayCases take every branch of the template. k8s/e2e applies what they give to a real API server.
var gatewayCases = []struct {
	name     string
	policies []v1alpha1.AuthPolicy
	options  envoy.Options
}{
	{
		"gateway_defaults",
		[]v1alpha1.AuthPolicy{policy("agents", withCORS(v1alpha1.CORS{AllowOrigins: []string{"https://chat.example.com"}}))},
		envoy.Options{},
	},
	{
		"gateway_everything",
		[]v1alpha1.AuthPolicy{
			policy("watcher", shadow, withHosts("agents.example.com")),
			policy("orders", routes, withHosts("orders.example.com", "*.Shop.example.com"), withBackend("https://Orders.example.net"), withCORS(v1alpha1.CORS{
				AllowOrigins: []string{"https://shop.example.com", "http://localhost:3000"}, AllowMethods: []string{"GET"},
				AllowHeaders: []string{"authorization"}, MaxAge: &metav1.Duration{Duration: 36 * time.Hour},
			})),
			policy("agents", withBackend("https://langgraph.agents.svc.cluster.local:8443")),
			policy("rest", withHosts("*"), withBackend("http://192.0.2.1:8080")),
			policy("same", withBackend("http://langgraph.gate.svc:8000")),
			policy("by-name-only", withHosts()),
		},
		envoy.Options{
			UsherAddress: "usher.authz.svc:9443", MaxRequestBytes: 8192, CheckTimeout: 1500 * time.Millisecond, TrustedHops: 2,
			Kubernetes: envoy.Kubernetes{
				Namespace: "gate", Gateway: "edge", GatewayClass: "eg", TLSSecret: "edge-tls", ClientCASecret: "clients", BackendCA: "backends",
				UsherCA: "usher-ca", UsherClientSecret: "edge-client",
			},
		},
	},
	{
		"gateway_tls_to_usher",
		[]v1alpha1.AuthPolicy{policy("agents")},
		envoy.Options{
			UsherSAN:   "spiffe://mesh.example.com/ns/usher/sa/usher",
			Kubernetes: envoy.Kubernetes{Namespace: "gate", GatewayClass: "eg", UsherCA: "usher-ca", UsherClientSecret: "edge-client"},
		},
	},
}

func TestEnvoyGateway(t *testing.T) {
	for _, c := range gatewayCases {
		t.Run(c.name, func(t *testing.T) { compare(t, c.name, c.policies, c.options, envoy.EnvoyGateway) })
	}
}

// compare compares what is written with its golden file.
func compare(t *testing.T, name string, policies []v1alpha1.AuthPolicy, o envoy.Options, write func([]v1alpha1.AuthPolicy, envoy.Options) ([]byte, error)) {
	t.Helper()
	got, err := write(policies, o)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("testdata", name+".yaml")
	if *update {
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("differs from %s: run with -update and read the diff", file)
	}
	if again, err := write(policies, o); err != nil || !bytes.Equal(got, again) {
		t.Errorf("a second time it is another one (%v)", err)
	}
}

func TestEnvoyGatewaySaysEverythingThatIsWrongAtOnce(t *testing.T) {
	team := policy("a", withHosts("x.example.com"))
	team.Namespace, team.Name = "team", "a"
	_, err := envoy.EnvoyGateway([]v1alpha1.AuthPolicy{
		policy("b", withHosts("127.0.0.1", "[::1]", "my_host.example.com", "a b")),
		policy("c", func(s *v1alpha1.AuthPolicySpec) { s.Backend = nil }),
		policy("d", forwardedCertificate),
		policy("Upper", withHosts("upper.example.com")),
		team, policy("team-a", withHosts("y.example.com")),
		policy("many", withHosts(strings.Fields(strings.Repeat("h ", 17))...), func(s *v1alpha1.AuthPolicySpec) {
			for i := range s.Hosts {
				s.Hosts[i] = string(rune('a'+i)) + ".example.org"
			}
		}),
		policy("dup", withHosts("x.example.com")),
		policy("ip", withBackend("https://192.0.2.1")),
	}, envoy.Options{
		UsherAddress: "127.0.0.1:9001", MaxRequestBytes: 1 << 30, CheckTimeout: -time.Second,
		UsherSAN: "usher.usher.svc", UsherTLS: &envoy.UsherTLS{},
		Kubernetes: envoy.Kubernetes{Namespace: "A", Gateway: "a b", GatewayClass: "x/y", TLSSecret: "-", ClientCASecret: "a:b"},
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		`policy "b": host "127.0.0.1": a gateway takes names only`, `host "[::1]"`, `host "my_host.example.com"`, `"a b": expected a name, an IP`,
		`policy "c": no spec.backend.url`, `policy "d": clientCertificate believes a header`, `policy "Upper": expected a name of Kubernetes`,
		`would both have objects called usher-team-a`, `policy "many": 17 hosts`, `backend "https://192.0.2.1:443": a certificate is verified by its name`, `host "x.example.com" is guarded by policy "team/a" already`,
		`usher's address "127.0.0.1:9001": expected NAME.NAMESPACE.svc:PORT`, "largest request body", "check timeout",
		`namespace "A"`, `gateway "a b"`, `gateway class "x/y"`, `TLS secret "-"`, `client CA secret "a:b"`,
		`usher's SAN "usher.usher.svc": without --usher-tls-ca nothing is verified`, "files are for a bootstrap",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %s:\n%v", want, err)
		}
	}
	for name, policies := range map[string][]v1alpha1.AuthPolicy{"none": nil, "a Shadow": {policy("s", shadow)}, "one without hosts": {policy("n", withHosts())}} {
		if _, err := envoy.EnvoyGateway(policies, envoy.Options{}); err == nil || !strings.Contains(err.Error(), "no policy guards a host") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEnvoyGatewaySaysWhatIsWrongWithTLSToUsher(t *testing.T) {
	for name, c := range map[string]struct {
		san        string
		kubernetes envoy.Kubernetes
		want       string // of the error; empty: none
	}{
		"an authority":                          {"", envoy.Kubernetes{UsherCA: "usher-ca"}, ""},
		"a client certificate":                  {"", envoy.Kubernetes{UsherCA: "usher-ca", UsherClientSecret: "edge", GatewayClass: "eg"}, ""},
		"a Gateway that is there":               {"", envoy.Kubernetes{UsherCA: "usher-ca", UsherClientSecret: "edge"}, "spec.tls.backend.clientCertificateRef to edge"},
		"a client certificate and no authority": {"", envoy.Kubernetes{UsherClientSecret: "edge", GatewayClass: "eg"}, "expected --usher-tls-ca"},
		"no name of an object":                  {"", envoy.Kubernetes{UsherCA: "a b"}, `usher CA "a b"`},
		"a pattern":                             {"*.usher.svc", envoy.Kubernetes{UsherCA: "usher-ca"}, `usher's SAN "*.usher.svc"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := envoy.EnvoyGateway([]v1alpha1.AuthPolicy{policy("agents")}, envoy.Options{UsherSAN: c.san, Kubernetes: c.kubernetes})
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}
