package envoy

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/template"

	"github.com/usher-authz/usher/k8s/api/v1alpha1"
)

//go:embed istio.yaml.tmpl
var istioTemplate string

// Istio returns the objects with which an Istio ingress gateway guards the hosts of these policies, as YAML with comments:
// Gateway, VirtualService, DestinationRule and ServiceEntry for where requests go, AuthorizationPolicy for the check, and an
// EnvoyFilter for the edit filter and the settings that Istio has no field for. Like [Bootstrap], it leaves out Shadow policies,
// names everything that is wrong at once, and depends on nothing but its arguments.
//
// The check needs an entry in Istio's mesh configuration, which is no object: [IstioMesh].
func Istio(policies []v1alpha1.AuthPolicy, o Options) ([]byte, error) {
	i, err := newIstio(policies, o)
	if err != nil {
		return nil, err
	}
	text, err := i.fill("objects")
	if err != nil {
		return nil, err
	}
	return distinct(text)
}

// IstioMesh returns what Istio's mesh configuration must hold for what [Istio] writes, as values for the Helm chart of istiod.
func IstioMesh(policies []v1alpha1.AuthPolicy, o Options) ([]byte, error) {
	i, err := newIstio(policies, o)
	if err != nil {
		return nil, err
	}
	return i.fill("mesh")
}

// istio is what the template shows.
type istio struct {
	*mesh
	Labels []label // of the gateway's pods
}

type label struct{ Name, Value string }

func newIstio(policies []v1alpha1.AuthPolicy, o Options) (*istio, error) {
	m, problems := newMesh(policies, o, "istio-ingress")
	i := &istio{mesh: m}
	selector := m.Selector
	if len(selector) == 0 {
		selector = []string{"istio=ingress"}
	}
	for _, text := range selector {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" || value == "" || strings.ContainsAny(text, " \t\r\n\"") {
			problems = append(problems, fmt.Errorf("gateway selector %q: expected a label of the gateway's pods, such as istio=ingress", text))
			continue
		}
		i.Labels = append(i.Labels, label{name, value})
	}
	if m.ClientCASecret != "" && (m.TLSSecret == "" || m.ClientCASecret != m.TLSSecret && m.ClientCASecret != m.TLSSecret+"-cacert") {
		problems = append(problems, fmt.Errorf("client CA secret %q: Istio reads the TLS secret's own ca.crt, or the secret of the same name with -cacert: expected one of the two", m.ClientCASecret))
	}
	problems = append(problems, i.checkUsherTLS(o)...)
	if m.SharedGateway && i.AnyPolicy() {
		problems = append(problems, errors.New(`shared gateway: one policy guards "*", which is every host of the gateway: expected a gateway of its own`))
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return i, nil
}

func (i *istio) fill(part string) ([]byte, error) {
	t := template.New("objects")
	include := func(name string, values any) (string, error) {
		var b bytes.Buffer
		err := t.ExecuteTemplate(&b, name, values)
		return strings.TrimPrefix(b.String(), "\n"), err
	}
	t.Funcs(template.FuncMap{"q": quote, "list": list, "indent": indent, "include": include, "comment": comment})
	if _, err := t.Parse(istioTemplate); err != nil {
		return nil, fmt.Errorf("read the template of Istio's objects: %w", err)
	}
	text, err := include(part, i)
	if err != nil {
		return nil, fmt.Errorf("write Istio's objects: %w", err)
	}
	return []byte(strings.TrimSuffix(text, "\n") + "\n"), nil
}

// comment writes text as comments, with room before it.
func comment(text string) string {
	return "\n#   " + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n#   ")
}

// AnyPolicy reports whether a policy guards every host.
func (i *istio) AnyPolicy() bool { return slices.ContainsFunc(i.Hosts, meshHost.AnyHost) }

// HasCORS reports whether pages of other origins may use one of the hosts.
func (i *istio) HasCORS() bool {
	return slices.ContainsFunc(i.Hosts, func(h meshHost) bool { return h.CORS != nil })
}

// HasWebSocket reports whether one of the hosts has a route that is a websocket.
func (i *istio) HasWebSocket() bool {
	return slices.ContainsFunc(i.Hosts, func(h meshHost) bool { return h.WebSocket != "" })
}

// ServerHosts are the gateway's hosts, for VirtualServices of its own namespace.
func (i *istio) ServerHosts() []string {
	return i.hosts(func(host string) []string { return []string{"./" + host} })
}

// OperationHosts are the hosts as an AuthorizationPolicy compares them with the header, which may carry a port.
func (i *istio) OperationHosts() []string {
	return i.hosts(func(host string) []string { return []string{host, host + ":*"} })
}

func (i *istio) hosts(as func(string) []string) (out []string) {
	for _, h := range i.Hosts {
		for _, host := range h.Domains {
			out = append(out, as(host)...)
		}
	}
	return out
}

// IstioHost is what Istio's objects call it: Services by their full name, addresses by a name of their own.
func (s service) IstioHost() string {
	switch {
	case s.IP:
		return s.Name + ".usher.internal"
	case !s.Outside && strings.HasSuffix(s.Host, ".svc"):
		return s.Host + ".cluster.local"
	}
	return s.Host
}

// rule is a DestinationRule: Istio takes one for each host.
type rule struct {
	Name, Host string
	Ports      []service
}

// Rules are the backends by host.
func (i *istio) Rules() (rules []rule) {
	for _, s := range i.Targets {
		n := slices.IndexFunc(rules, func(r rule) bool { return r.Host == s.IstioHost() })
		if n < 0 {
			name := s.Name
			if !s.Outside {
				name = serviceName(s)
			}
			n = len(rules)
			rules = append(rules, rule{Name: name, Host: s.IstioHost()})
		}
		rules[n].Ports = append(rules[n].Ports, s)
	}
	return rules
}
