package envoy

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/usher-authz/usher/k8s/api/v1alpha1"
)

// Kubernetes is what a mesh's objects need to know and the policies do not say. The zero value is the default of each.
type Kubernetes struct {
	// Namespace of the Gateway, and of every object that belongs to it. Default: default for Envoy Gateway, istio-ingress for
	// Istio.
	Namespace string
	// Gateway is the name of the Gateway. Default usher.
	Gateway string
	// GatewayClass makes the Gateway be written too. Empty: it is there already, and holds nothing but what Usher guards.
	GatewayClass string
	// Listener is the name of the Gateway's listener. Default https with a TLSSecret, else http.
	Listener string
	// TLSSecret holds the listener's certificate. Empty: a Gateway that is written takes plain HTTP.
	TLSSecret string
	// ClientCASecret holds, as ca.crt, the certificates that client certificates are verified against. Empty: none is asked
	// for.
	ClientCASecret string
	// BackendCA holds, as ca.crt, the certificates that https backends are verified against: for Envoy Gateway a ConfigMap in the
	// namespace of each, for Istio a Secret in the gateway's. Empty: the system's.
	BackendCA string
	// UsherCA holds, as ca.crt, the certificates that Usher's is verified against: for Envoy Gateway a ConfigMap in Usher's
	// namespace, for Istio a Secret in the gateway's. Empty: no TLS to Usher, but for the two below.
	UsherCA string
	// UsherClientSecret, in the gateway's namespace, holds the certificate that Envoy shows, as tls.crt and tls.key, and for Istio
	// UsherCA's ca.crt too.
	UsherClientSecret string
	// UsherInMesh is for an Usher with Istio's sidecar: both have certificates of Istio's then.
	UsherInMesh bool
	// Selector are the labels of Istio's gateway pods, as name=value. Default istio=ingress.
	Selector []string
	// SharedGateway is for an Istio gateway with hosts that Usher does not guard: only the policies' are checked then.
	SharedGateway bool
}

const (
	defaultGateway      = "usher"
	defaultUsherService = "usher.usher.svc:9001"
	maxHostnames        = 16 // of one HTTPRoute
)

// service is a Service, or a host outside the cluster, as an object refers to it.
type service struct {
	Outside   bool // no Service
	Name      string
	Namespace string
	Port      uint16
	Host      string // as a client names it
	IP        bool
	TLS       bool
}

// meshHost is a virtualHost as objects name it.
type meshHost struct {
	virtualHost
	Object  string
	Backend service
}

// mesh is what both kinds of mesh have in common.
type mesh struct {
	bootstrap
	Kubernetes
	Hosts   []meshHost
	Service service // Usher's
	Targets []service
}

func newMesh(policies []v1alpha1.AuthPolicy, o Options, namespace string) (*mesh, []error) {
	m := &mesh{Kubernetes: o.Kubernetes}
	m.EditScript, m.TrustedHops = editScript, o.TrustedHops
	m.Namespace = cmp.Or(m.Namespace, namespace)
	m.Gateway = cmp.Or(m.Gateway, defaultGateway)
	if m.Listener == "" {
		m.Listener = "http"
		if m.TLSSecret != "" {
			m.Listener = "https"
		}
	}
	problems := m.addLimits(o)
	for _, name := range []struct{ what, is string }{
		{"namespace", m.Namespace}, {"gateway", m.Gateway}, {"gateway class", m.GatewayClass}, {"listener", m.Listener},
		{"TLS secret", m.TLSSecret}, {"client CA secret", m.ClientCASecret}, {"backend CA", m.BackendCA},
		{"usher CA", m.UsherCA}, {"usher client secret", m.UsherClientSecret},
	} {
		if name.is != "" && !isObjectName(name.is) {
			problems = append(problems, fmt.Errorf("%s %q: expected a name of Kubernetes: lower-case letters, digits, - and .", name.what, name.is))
		}
	}
	usher, err := parseEndpoint(cmp.Or(o.UsherAddress, defaultUsherService))
	if err == nil {
		m.Service = serviceOf(usher, false)
		if m.Service.Outside {
			err = errors.New("expected NAME.NAMESPACE.svc:PORT, the Service of usher serve")
		}
	}
	if err != nil {
		problems = append(problems, fmt.Errorf("usher's address %q: %w", o.UsherAddress, err))
	}
	problems = append(problems, m.addUsherTLS(o)...)
	problems = append(problems, m.addPolicies(policies, o)...)
	for i := range policies {
		if p := &policies[i]; p.Spec.ClientCertificate != nil && p.Spec.Mode != v1alpha1.Shadow {
			problems = append(problems, fmt.Errorf("policy %q: clientCertificate believes a header that a proxy writes, and whoever else reaches the gateway could write it: "+
				"expected none here, and the client's own TLS ended at this gateway; or --format bootstrap", policyName(p)))
		}
	}
	return m, append(problems, m.addHosts()...)
}

// addHosts names what the objects are called, and what they refer to.
func (m *mesh) addHosts() (problems []error) {
	backends := map[string]service{}
	for _, b := range m.Backends {
		s := serviceOf(b.endpoint, b.TLS)
		if s.Outside {
			s.Namespace, s.Name = m.Namespace, backendName(s)
		}
		for _, other := range m.Targets {
			if other.Host == s.Host && other.Port == s.Port && other.TLS != s.TLS {
				problems = append(problems, fmt.Errorf("backend %q: another policy's is the same host and port with and without TLS: expected one of http and https", b.Name))
			}
		}
		backends[b.Name] = s
		m.Targets = append(m.Targets, s)
	}
	taken := map[string]string{}
	for _, v := range m.VirtualHosts {
		h := meshHost{virtualHost: v, Object: objectName(v.Name), Backend: backends[v.Cluster]}
		if !isObjectName(h.Object) {
			problems = append(problems, fmt.Errorf("policy %q: expected a name of Kubernetes: lower-case letters, digits, - and .", v.Name))
		}
		if other, is := taken[h.Object]; is {
			problems = append(problems, fmt.Errorf("policies %q and %q would both have objects called %s: rename one", other, v.Name, h.Object))
		}
		taken[h.Object] = v.Name
		for _, domain := range v.Domains {
			name := strings.TrimPrefix(domain, "*.")
			if _, err := netip.ParseAddr(strings.Trim(name, "[]")); domain != "*" && (err == nil || strings.Contains(name, "_")) {
				problems = append(problems, fmt.Errorf("policy %q: host %q: a gateway takes names only, without underscore", v.Name, domain))
			}
		}
		if len(v.Domains) > maxHostnames {
			problems = append(problems, fmt.Errorf("policy %q: %d hosts: a route takes at most %d; write a policy for each %[3]d", v.Name, len(v.Domains), maxHostnames))
		}
		m.Hosts = append(m.Hosts, h)
	}
	return problems
}

// AnyHost reports whether the route is for each host.
func (h meshHost) AnyHost() bool { return slices.Contains(h.Domains, "*") }

// serviceOf takes the DNS name of a Service for that Service: NAME.NAMESPACE.svc, with or without the cluster's domain.
func serviceOf(e endpoint, tls bool) service {
	s := service{Outside: true, Host: e.Host, Port: e.Port, TLS: tls, IP: !e.Named}
	labels := strings.SplitN(e.Host, ".", 4)
	if e.Named && len(labels) >= 3 && labels[2] == "svc" && isObjectName(labels[0]) && isObjectName(labels[1]) {
		s.Outside, s.Name, s.Namespace = false, labels[0], labels[1]
	}
	return s
}

// isObjectName reports whether text names an object: a DNS subdomain (RFC 1123) in lower case.
func isObjectName(text string) bool {
	return isName(text) && text == strings.ToLower(text) && !strings.Contains(text, "_")
}

// gatewayDuration writes a duration as the Gateway API does (GEP-2257): whole numbers of at most five digits.
func gatewayDuration(d time.Duration) string {
	d = min(d.Round(time.Millisecond), 99999*time.Hour)
	if d == 0 {
		return "0s"
	}
	var b strings.Builder
	for _, unit := range []struct {
		size time.Duration
		name string
	}{{time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}, {time.Millisecond, "ms"}} {
		if n := d / unit.size; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, unit.name)
			d -= n * unit.size
		}
	}
	return b.String()
}
