package mesh

import (
	"strings"
	"testing"

	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	networking "istio.io/api/networking/v1alpha3"
)

func ingressOf(t *testing.T, args ...string) *ingress {
	t.Helper()
	args = append([]string{unhurried}, args...)
	mesh, _ := meshConfig(t, written(t, append([]string{"--format", "istio-mesh"}, args...)...))
	in, err := readIngress(written(t, append([]string{"--format", "istio"}, args...)...), mesh)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func (in *ingress) run(t *testing.T, name string) *gate {
	t.Helper()
	bootstrap, err := in.static(map[string]string{"usher": checks, "langgraph.agents.svc.cluster.local": backend.URL})
	if err != nil {
		t.Fatal(err)
	}
	return start(t, name, bootstrap)
}

func TestIstiosIngressGuardsLangGraph(t *testing.T) {
	guards(t, ingressOf(t).run(t, "istio"))
}

func TestIstiosFiltersStandInOrder(t *testing.T) {
	l, err := ingressOf(t).patched()
	if err != nil {
		t.Fatal(err)
	}
	manager := &hcmv3.HttpConnectionManager{}
	if err := l.GetFilterChains()[0].GetFilters()[0].GetTypedConfig().UnmarshalTo(manager); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range manager.GetHttpFilters() {
		names = append(names, f.GetName())
	}
	want := "envoy.filters.http.cors envoy.filters.http.rbac envoy.filters.http.ext_authz usher.edit usher.never envoy.filters.http.cors envoy.filters.http.router"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// Without the edit filter an edited request stays parked, and ends at Envoy.
func TestIstioForwardsNothingUneditedWithoutTheEditFilter(t *testing.T) {
	in := ingressOf(t)
	var rest []*networking.EnvoyFilter_EnvoyConfigObjectPatch
	for _, p := range in.filter.GetConfigPatches() {
		if p.GetPatch().GetValue().GetFields()["name"].GetStringValue() != "usher.edit" {
			rest = append(rest, p)
		}
	}
	if len(rest) != len(in.filter.GetConfigPatches())-1 {
		t.Fatal("no edit filter")
	}
	in.filter.ConfigPatches = rest
	parked(t, in.run(t, "istio-unedited"))
}

// Without the EnvoyFilter at all, the backend sees a path that it does not serve, and never an unedited request.
func TestIstioForwardsNothingUneditedWithoutTheEnvoyFilter(t *testing.T) {
	in := ingressOf(t)
	in.filter.ConfigPatches = nil
	g := in.run(t, "istio-unpatched")
	g.want(t, 404, call{method: "POST", path: "/threads", token: alice, body: `{"metadata": {"owner": "bob"}}`})
	g.want(t, 404, call{method: "POST", path: "/threads/search", token: alice, body: `{}`})
	for _, r := range backend.take() {
		if r.URL.Path != "/.usher/edit-filter-missing" {
			t.Errorf("the backend saw %s", r.URL)
		}
	}
	g.want(t, 401, call{path: "/threads/1"})
}

// A gateway with hosts of others: only the policies' are checked, with a port and without, in whichever case.
func TestIstioGuardsItsHostsOfASharedGateway(t *testing.T) {
	in := ingressOf(t, "--shared-gateway")
	in.routes = append(in.routes, &networking.VirtualService{Hosts: []string{"others.example.com"}, Http: []*networking.HTTPRoute{{
		Route: []*networking.HTTPRouteDestination{{Destination: &networking.Destination{Host: "langgraph.agents.svc.cluster.local"}}},
	}}})
	g := in.run(t, "istio-shared")
	for _, name := range []string{host, host + ":8080", strings.ToUpper(host), host + ".", host + ".:8080"} {
		if r := g.ask(t, call{path: "/threads/1", host: name}); r.status != 401 {
			t.Errorf("%s: %d", name, r.status)
		}
	}
	if seen := backend.take(); len(seen) > 0 {
		t.Errorf("the backend saw %s", seen[0].URL)
	}
	g.want(t, 200, call{path: "/info", host: "others.example.com"})
}
