package envoy_test

import (
	"fmt"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/usher-authz/usher/envoy"
	"github.com/usher-authz/usher/k8s/api/v1alpha1"
)

// TestNo_two_objects_have_one_name: kubectl apply lets the last one win, so that a policy could replace the check of the whole
// Gateway, and a request go to another policy's backend with this one's identity headers.
func TestNo_two_objects_have_one_name(t *testing.T) {
	on := func(name, host, backend string) v1alpha1.AuthPolicy {
		return policy(name, withHosts(host), withBackend(backend))
	}
	const here = "http://langgraph.agents.svc:8000"
	for _, c := range []struct {
		name     string
		policies []v1alpha1.AuthPolicy
		error    string // that names both; empty: they are told apart
		gateway  string // the same for Envoy Gateway alone
	}{
		{name: "a_policy_called_as_the_check_of_the_Gateway", policies: []v1alpha1.AuthPolicy{on("gateway", "a.test", here)}},
		{name: "a_policy_called_as_the_edit_filter", policies: []v1alpha1.AuthPolicy{on("edit", "a.test", here), on("no-upgrade", "b.test", here)}},
		{name: "a_policy_called_as_the_websocket_of_another", policies: []v1alpha1.AuthPolicy{on("a", "a.test", here), on("a-websocket", "b.test", here)}},
		{name: "hosts_that_differ_by_a_dot", policies: []v1alpha1.AuthPolicy{on("a", "a.test", "http://api.example.com:8000"), on("b", "b.test", "http://api-example.com:8000"), on("c", "c.test", "http://api-example-com:8000")}},
		{name: "addresses_that_differ_by_a_colon", policies: []v1alpha1.AuthPolicy{on("a", "a.test", "http://[fd00::1]:8000"), on("b", "b.test", "http://[fd00:0:1::]:8000"), on("c", "c.test", "http://[fd00:1::]:8000")}},
		{name: "Services_that_differ_by_where_the_hyphen_is", policies: []v1alpha1.AuthPolicy{on("a", "a.test", "http://x.y-z.svc:8000"), on("b", "b.test", "http://x-y.z.svc:8000")}},
		{name: "ports_of_one_host", policies: []v1alpha1.AuthPolicy{on("a", "a.test", "https://api.example.com:8000"), on("b", "b.test", "http://api.example.com:8001")}},
		{name: "http_and_https_of_one_port", policies: []v1alpha1.AuthPolicy{on("a", "a.test", "http://api.example.com:8000"), on("b", "b.test", "https://api.example.com:8000")}, error: "expected one of http and https"},
		{name: "two_ports_of_one_Service_with_TLS", policies: []v1alpha1.AuthPolicy{on("a", "a.test", "https://x.agents.svc:8000"), on("b", "b.test", "http://x.agents.svc:8001")}, gateway: "Service agents/x: two of its ports are backends"},
		{name: "a_host_called_as_a_Service_of_the_gateway", policies: []v1alpha1.AuthPolicy{on("a", "a.test", "https://api.example.com:443"), on("b", "b.test", "https://usher-api-example-com-443.default.svc:443")}, gateway: "two objects would be BackendTLSPolicy"},
	} {
		for format, write := range map[string]func([]v1alpha1.AuthPolicy, envoy.Options) ([]byte, error){"envoy-gateway": envoy.EnvoyGateway, "istio": envoy.Istio} {
			t.Run(c.name+"/"+format, func(t *testing.T) {
				text, err := write(c.policies, envoy.Options{})
				want := c.error
				if format == "envoy-gateway" && want == "" {
					want = c.gateway
				}
				if want != "" {
					if err == nil || !strings.Contains(err.Error(), want) {
						t.Fatalf("got %v, want %s", err, want)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				seen := map[string]bool{}
				for _, document := range strings.Split(string(text), "\n---\n") {
					var o struct {
						Kind     string
						Metadata struct{ Name, Namespace string }
					}
					if err := yaml.Unmarshal([]byte(document), &o); err != nil {
						t.Fatal(err)
					}
					key := fmt.Sprintf("%s %s/%s", o.Kind, o.Metadata.Namespace, o.Metadata.Name)
					if o.Kind != "" && (seen[key] || o.Metadata.Name == "") {
						t.Errorf("twice, or without a name: %s", key)
					}
					seen[key] = true
				}
			})
		}
	}
}
