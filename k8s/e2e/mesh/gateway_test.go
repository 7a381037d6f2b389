package mesh

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// inCluster are the objects that are there before ours.
const inCluster = `apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: eg}
spec: {controllerName: gateway.envoyproxy.io/gatewayclass-controller}
---
apiVersion: v1
kind: Service
metadata: {name: langgraph, namespace: agents}
spec: {clusterIP: 10.0.0.1, ports: [{name: http, port: 8000}]}
---
apiVersion: v1
kind: Service
metadata: {name: usher, namespace: usher}
spec: {clusterIP: 10.0.0.2, ports: [{name: grpc, port: 9001}]}
---
`

func moved() map[string]string {
	return map[string]string{"10.0.0.1:8000": backend.URL, "10.0.0.2:9001": checks}
}

// gateway translates the objects and runs the result.
func gateway(t *testing.T, name, objects string) *gate {
	t.Helper()
	tr, err := translate(t.Context(), t.TempDir(), inCluster+objects)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range tr.Status {
		if !strings.Contains(s, "overridden") {
			t.Error(s)
		}
	}
	bootstrap, err := tr.static(moved())
	if err != nil {
		t.Fatal(err)
	}
	return start(t, name, bootstrap)
}

func objects(t *testing.T) string {
	t.Helper()
	return written(t, "--format", "envoy-gateway", "--namespace", "gate", "--gateway-class", "eg", unhurried)
}

func TestEnvoyGatewaysTranslationGuardsLangGraph(t *testing.T) {
	g := gateway(t, "gateway", objects(t))
	guards(t, g)
	g.want(t, 400, notText.as(alice))
}

// Without EnvoyPatchPolicy, which Envoy Gateway ignores unless it is told otherwise, checks carry less; nothing gets through
// for that.
func TestEnvoyGatewayGuardsWithoutThePatches(t *testing.T) {
	all := objects(t)
	i := strings.Index(all, "---\n# What the objects above cannot say.")
	if i < 0 {
		t.Fatal("no EnvoyPatchPolicy")
	}
	g := gateway(t, "gateway-unpatched", all[:i])
	guards(t, g)
	// A byte that is no text comes as another one: the backend gets what was decided on.
	if r := g.want(t, 200, notText.as(alice)); !strings.Contains(r.body, `"topic":"!"`) {
		t.Errorf("the thread is %.300s", r.body)
	}
}

var notText = call{method: "POST", path: "/threads", body: "{\"metadata\": {\"topic\": \"\xff\"}}"}

// Own proxies in front, whose x-forwarded-for is believed, open nothing else.
func TestEnvoyGatewayGuardsBehindAProxy(t *testing.T) {
	guards(t, gateway(t, "gateway-hops", written(t, "--format", "envoy-gateway", "--namespace", "gate", "--gateway-class", "eg", "--trusted-hops", "1", unhurried)))
}

// Without the edit filter an edited request stays parked, and ends at Envoy.
func TestEnvoyGatewayForwardsNothingUneditedWithoutTheEditFilter(t *testing.T) {
	all := objects(t)
	i, j := strings.Index(all, "# Edits of the body"), strings.Index(all, "# Upgrades end here")
	if i < 0 || j < i {
		t.Fatal("no EnvoyExtensionPolicy")
	}
	parked(t, gateway(t, "gateway-unedited", all[:i]+all[j:]))
}

// parked shows that what must be edited ends at the gate.
func parked(t *testing.T, g *gate) {
	t.Helper()
	g.want(t, 403, call{method: "POST", path: "/threads", token: alice, body: `{"metadata": {"owner": "bob"}}`})
	g.want(t, 403, call{method: "POST", path: "/threads/search", token: alice, body: `{}`})
	if seen := backend.take(); len(seen) > 0 {
		t.Errorf("the backend saw %s", seen[0].URL)
	}
	g.want(t, 200, call{path: "/info"})
}

// A check that cannot be made closes its routes: here Usher's namespace does not let the SecurityPolicies refer to it.
func TestEnvoyGatewayClosesRoutesWhoseCheckIsInvalid(t *testing.T) {
	all := objects(t)
	broken := strings.Replace(all, "kind: SecurityPolicy, namespace: \"gate\"}]", "kind: SecurityPolicy, namespace: \"elsewhere\"}]", 1)
	if broken == all {
		t.Fatal("no ReferenceGrant")
	}
	tr, err := translate(t.Context(), t.TempDir(), inCluster+broken)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(tr.Status, func(s string) bool { return strings.HasPrefix(s, "SecurityPolicy usher-conversations: ") }) {
		t.Errorf("the status says %q", tr.Status)
	}
	tr.closed(t)
}

// closed shows that each route is answered by Envoy, with 500.
func (t *translation) closed(test *testing.T) {
	test.Helper()
	count := 0
	for _, config := range t.Routes {
		for _, host := range list(config["virtualHosts"]) {
			for _, r := range list(at(host, "routes")) {
				count++
				if status := at(r, "directResponse", "status"); status != 500.0 {
					test.Errorf("route %v answers %v", at(r, "name"), status)
				}
			}
		}
	}
	if count == 0 {
		test.Error("no routes")
	}
}

// A route that somebody else attaches to the Gateway is asked about as well.
func TestEnvoyGatewayAsksAboutRoutesOfOthers(t *testing.T) {
	g := gateway(t, "gateway-others", objects(t)+`
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: theirs, namespace: gate}
spec:
  parentRefs: [{name: usher}]
  hostnames: [agents.example.com, theirs.example.com]
  rules:
  - matches: [{path: {type: PathPrefix, value: /threads}}]
    backendRefs: [{name: langgraph, namespace: agents, port: 8000}]
`)
	g.want(t, 401, call{method: "POST", path: "/threads/search", body: `{}`})
	g.want(t, 404, call{method: "POST", path: "/threads/search", body: `{}`, host: "theirs.example.com"})
	if seen := backend.take(); len(seen) > 0 {
		t.Errorf("the backend saw %s", seen[0].URL)
	}
	// Envoy Gateway lets websockets through on a route that does not say otherwise. Usher does not.
	upgrade := map[string]string{"Connection": "Upgrade", "Upgrade": "websocket"}
	g.want(t, 401, call{path: "/threads/search", header: upgrade})
	if r := g.want(t, 403, call{path: "/threads/8f9c3a52-7f0e-4d8b-9d53-6f1c2a4b7e01", token: alice, header: upgrade}); !strings.Contains(r.body, "An upgrade is not possible here.") {
		t.Errorf("an upgrade is answered %.300s", r.body)
	}
	if seen := backend.take(); len(seen) > 0 {
		t.Errorf("the backend saw %s", seen[0].URL)
	}
	found := g.want(t, 200, call{method: "POST", path: "/threads/search", token: bob, body: `{"limit": 1000}`})
	if strings.Contains(found.body, "alice") {
		t.Errorf("Bob finds what is Alice's: %.300s", found.body)
	}
}

// A route of another namespace, whose own SecurityPolicy would replace the check, is not attached; with a listener that takes it, it is
// a way past Usher, as docs/envoy-gateway.md says.
func TestEnvoyGatewayTakesNoRoutesOfOtherNamespaces(t *testing.T) {
	const theirs = `---
apiVersion: v1
kind: Service
metadata: {name: theirs, namespace: other}
spec: {clusterIP: 10.0.0.3, ports: [{name: http, port: 8000}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: theirs, namespace: other}
spec:
  parentRefs: [{name: usher, namespace: gate}]
  hostnames: [agents.example.com]
  rules:
  - matches: [{path: {type: PathPrefix, value: /threads}}]
    backendRefs: [{name: theirs, port: 8000}]
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: SecurityPolicy
metadata: {name: theirs, namespace: other}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: theirs}]
  cors: {allowOrigins: ["https://other.example.com"]}
`
	all := objects(t)
	open := strings.Replace(all, "namespaces: {from: Same}", "namespaces: {from: All}", 1)
	if open == all {
		t.Fatal("the listener does not say whose routes it takes")
	}
	for _, c := range []struct {
		name, objects     string
		attached, checked int
	}{{"as it is written", all, 0, 0}, {"with a listener that takes all", open, 1, 0}} {
		tr, err := translate(t.Context(), t.TempDir(), inCluster+c.objects+theirs)
		if err != nil {
			t.Fatal(err)
		}
		attached, checked := 0, 0
		for _, config := range tr.Routes {
			for _, host := range list(config["virtualHosts"]) {
				for _, r := range list(at(host, "routes")) {
					if !strings.Contains(fmt.Sprint(at(r, "name")), "/other/") {
						continue
					}
					attached++
					for filter := range object(at(r, "typedPerFilterConfig")) {
						if strings.Contains(filter, "ext_authz") {
							checked++
						}
					}
				}
			}
		}
		if attached != c.attached || checked != c.checked {
			t.Errorf("%s: %d routes of another namespace are attached, %d of them checked; want %d and %d", c.name, attached, checked, c.attached, c.checked)
		}
	}
}
