package envoy

import (
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/usher-authz/usher/k8s/api/v1alpha1"
)

//go:embed gateway.yaml.tmpl
var gatewayTemplate string

// EnvoyGateway returns the objects with which Envoy Gateway guards the hosts of these policies, as YAML with comments: what
// the Gateway API says (HTTPRoute, ReferenceGrant, and a Gateway if a class is given), and Envoy Gateway's own policies for
// what it does not. All of them are in one namespace, but for the permissions to refer to another. Like [Bootstrap], it leaves
// out Shadow policies, names everything that is wrong at once, and depends on nothing but its arguments.
//
// What cannot be said with these objects, docs/envoy-gateway.md lists, with what Usher does about it.
func EnvoyGateway(policies []v1alpha1.AuthPolicy, o Options) ([]byte, error) {
	m, problems := newMesh(policies, o, "default")
	for _, b := range m.Backends {
		if b.TLS && !b.Named {
			problems = append(problems, fmt.Errorf("backend %q: a certificate is verified by its name here: expected a name, not an address", b.Name))
		}
	}
	g := gateway{mesh: m}
	problems = append(problems, g.checkUsherTLS()...)
	for i, s := range m.Targets {
		for _, other := range m.Targets[:i] {
			if !s.Outside && !other.Outside && s.Name == other.Name && s.Namespace == other.Namespace && (s.TLS || other.TLS) {
				problems = append(problems, fmt.Errorf("Service %s/%s: two of its ports are backends, one of them with TLS, which is said of a Service as a whole: expected one port, or a Service for each", s.Namespace, s.Name))
			}
		}
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	timeout, err := time.ParseDuration(m.CheckTimeout)
	if err != nil {
		return nil, fmt.Errorf("check timeout: %w", err)
	}
	g.Timeout = gatewayDuration(timeout)
	g.addGrants()
	text, err := fill("Envoy Gateway's objects", gatewayTemplate, g)
	if err != nil {
		return nil, err
	}
	return distinct(text)
}

type gateway struct {
	*mesh
	Timeout string
	Grants  []grant
}

// grant lets objects of the Gateway's namespace refer to Services of another one.
type grant struct {
	Namespace string
	Kind      string // of the objects that refer
	Group     string // its group
	Services  []string
}

// addGrants collects a permission for each namespace and kind: HTTPRoutes refer to backends, SecurityPolicies to Usher.
func (g *gateway) addGrants() {
	add := func(group, kind string, s service) {
		if s.Outside || s.Namespace == g.Namespace {
			return
		}
		for i := range g.Grants {
			if have := &g.Grants[i]; have.Kind == kind && have.Namespace == s.Namespace {
				if !slices.Contains(have.Services, s.Name) {
					have.Services = append(have.Services, s.Name)
				}
				return
			}
		}
		g.Grants = append(g.Grants, grant{s.Namespace, kind, group, []string{s.Name}})
	}
	add("gateway.envoyproxy.io", "SecurityPolicy", g.Service)
	for _, h := range g.Hosts {
		add("gateway.networking.k8s.io", "HTTPRoute", h.Backend)
	}
}

// Words are a list of methods or header names.
func (c *cors) words(text string) []string { return strings.Split(text, ", ") }

// MethodList, HeaderList and ExposeList are what Methods, Headers and Expose list.
func (c *cors) MethodList() []string { return c.words(c.Methods) }

// HeaderList is what Headers list.
func (c *cors) HeaderList() []string { return c.words(c.Headers) }

// ExposeList is what Expose lists.
func (c *cors) ExposeList() []string { return c.words(c.Expose) }

// Age is MaxAge as the Gateway API writes it.
func (c *cors) Age() string {
	seconds, _ := strconv.ParseInt(c.MaxAge, 10, 64) // written by corsOf
	return gatewayDuration(min(time.Duration(seconds), 99999*3600) * time.Second)
}

// patch adds one setting to Usher's checks.
type patch struct{ Why, Path, Value string }

// Patches are the settings of the check that no object of Envoy Gateway has.
func (g gateway) Patches() []patch {
	return []patch{
		{"Headers as they came, and nothing joined: two Authorization headers are not one with a comma.", "/encode_raw_headers", "true"},
		{"The client's certificate, for tokens that are bound to one.", "/include_peer_certificate", "true"},
		{"The server name that it asked for.", "/include_tls_session", "true"},
		{"A header that Usher could not set must not be dropped in silence.", "/validate_mutations", "true"},
		{"The body's bytes, not a text in which some were replaced.", "/with_request_body/pack_as_bytes", "true"},
		{"Else Envoy itself answers 413, to strangers too, and on routes that need no body.", "/with_request_body/allow_partial_message", "true"},
	}
}

// XDSListener is what Envoy Gateway calls the Gateway's listener.
func (g gateway) XDSListener() string { return g.Namespace + "/" + g.Gateway + "/" + g.Listener }

// Checks is a JSONPath to the configuration of each check that a SecurityPolicy of ours makes.
func (g gateway) Checks() string {
	return `..http_filters[?(@.name =~ /^envoy.filters.http.ext_authz\/securitypolicy\/` + g.Namespace + `\/usher-/)].typed_config`
}
