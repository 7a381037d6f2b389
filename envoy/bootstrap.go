package envoy

import (
	"bytes"
	"cmp"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/usher-authz/usher/k8s/api/v1alpha1"
)

//go:embed edit.lua
var editScript string

//go:embed bootstrap.yaml.tmpl
var bootstrapTemplate string

// Bootstrap returns Envoy's whole configuration for these policies, as YAML with comments: one listener, a virtual host
// for each Enforce policy that has hosts, and a cluster for Usher and for each backend. Shadow policies have no virtual
// host, and neither has any host that no policy guards. The output depends on nothing but the arguments, which are not
// changed.
//
// The error names everything that is wrong at once, a line each. Bootstrap says only what concerns Envoy: whether a
// policy is valid is for policy.New to say.
func Bootstrap(policies []v1alpha1.AuthPolicy, o Options) ([]byte, error) {
	b, err := newBootstrap(policies, o)
	if err != nil {
		return nil, err
	}
	return fill("bootstrap", bootstrapTemplate, b)
}

// fill writes a template's text with these values.
func fill(name, text string, values any) ([]byte, error) {
	t, err := template.New(name).Funcs(template.FuncMap{"q": quote, "list": list, "indent": indent, "lower": strings.ToLower}).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("read the template of %s: %w", name, err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, values); err != nil {
		return nil, fmt.Errorf("write %s: %w", name, err)
	}
	return out.Bytes(), nil
}

// bootstrap is what the template shows.
type bootstrap struct {
	Listen             address
	Admin              *address
	TLS                *TLS
	ClientCertificates bool
	Proxies            []san // who alone may connect, and speak for client certificates
	TrustedHops        uint32
	MaxRequestBytes    uint32
	SentBytes          uint32 // of a body, at most: one more than MaxRequestBytes
	BufferBytes        uint32
	CheckTimeout       string
	EditScript         string
	CatchAll           bool
	VirtualHosts       []virtualHost
	Usher              endpoint
	UsherTLS           *usherTLS // nil: none
	Backends           []backend
}

// virtualHost is a policy's.
type virtualHost struct {
	Name      string
	Domains   []string
	Cluster   string
	CORS      *cors
	NoBody    bool   // no decision depends on a body
	WebSocket string // regular expression for the path of LangGraph's WebSocket; empty: the API has none
}

func newBootstrap(policies []v1alpha1.AuthPolicy, o Options) (*bootstrap, error) {
	b := &bootstrap{TLS: o.TLS, TrustedHops: o.TrustedHops, EditScript: editScript}
	var problems []error
	check := func(what string, err error) {
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", what, err))
		}
	}
	var err error
	b.Listen, err = parseListen(cmp.Or(o.ListenAddress, defaultListen))
	check(fmt.Sprintf("listen address %q", o.ListenAddress), err)
	b.Usher, err = parseEndpoint(cmp.Or(o.UsherAddress, defaultUsher))
	check(fmt.Sprintf("usher's address %q", o.UsherAddress), err)
	if o.AdminAddress != "" {
		admin, err := parseListen(o.AdminAddress)
		check(fmt.Sprintf("admin address %q", o.AdminAddress), err)
		b.Admin = &admin
	}
	problems = append(problems, b.addUsherTLS(o)...)
	problems = append(problems, b.addLimits(o)...)
	if o.TLS != nil {
		b.ClientCertificates = o.TLS.ClientCAFile != ""
		if o.TLS.CertificateFile == "" || o.TLS.KeyFile == "" {
			check("TLS", errors.New("expected a certificate file and a key file"))
		}
	}
	problems = append(problems, b.addPolicies(policies, o)...)
	problems = append(problems, b.addProxies(policies, o)...)
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return b, nil
}

// addLimits adds what bounds a check.
func (b *bootstrap) addLimits(o Options) (problems []error) {
	b.MaxRequestBytes = cmp.Or(o.MaxRequestBytes, defaultRequestBytes)
	if b.MaxRequestBytes > maxRequestBytes {
		problems = append(problems, fmt.Errorf("largest request body: %d bytes are more than %d", b.MaxRequestBytes, maxRequestBytes))
	}
	b.SentBytes = b.MaxRequestBytes + 1
	b.BufferBytes = b.MaxRequestBytes + editRoom
	timeout := o.CheckTimeout
	if timeout == 0 {
		timeout = baseCheckTimeout + baseCheckTimeout*time.Duration(b.MaxRequestBytes>>20)
	}
	if timeout < time.Millisecond {
		problems = append(problems, fmt.Errorf("check timeout: %v is less than a millisecond", timeout))
	}
	b.CheckTimeout = seconds(timeout)
	return problems
}

// addPolicies adds a virtual host for each policy that guards hosts, and its backend's cluster.
func (b *bootstrap) addPolicies(policies []v1alpha1.AuthPolicy, o Options) (problems []error) {
	guards := map[string]string{} // host -> policy
	clusters := map[string]bool{}
	for _, p := range policies {
		if p.Spec.Mode == v1alpha1.Shadow || len(p.Spec.Hosts) == 0 {
			continue
		}
		problem := func(format string, a ...any) {
			problems = append(problems, fmt.Errorf("policy %q: %w", policyName(&p), fmt.Errorf(format, a...)))
		}
		v := virtualHost{Name: policyName(&p), NoBody: watchedWithoutBody(&p.Spec, policies), WebSocket: webSocket(&p.Spec.API)}
		for _, host := range p.Spec.Hosts {
			domain, ok := domainOf(host)
			if !ok {
				problem("host %q: expected a name, an IP address, *.suffix or *", host)
				continue
			}
			if other, taken := guards[domain]; taken {
				problem("host %q is guarded by policy %q already", host, other)
				continue
			}
			guards[domain] = v.Name
			b.CatchAll = b.CatchAll || domain == "*"
			v.Domains = append(v.Domains, domain)
		}
		address := o.BackendURL
		if p.Spec.Backend != nil && p.Spec.Backend.URL != "" {
			address = p.Spec.Backend.URL
		}
		backend, err := parseBackend(address, cmp.Or(o.BackendCAFile, defaultCAFile))
		switch {
		case address == "":
			problem("no spec.backend.url: Envoy must know where to send what is allowed")
		case err != nil:
			problem("backend URL: %w", err)
		case !clusters[backend.Name]:
			clusters[backend.Name] = true
			b.Backends = append(b.Backends, backend)
		}
		v.Cluster = backend.Name
		if p.Spec.CORS != nil {
			if v.CORS, err = corsOf(p.Spec.CORS); err != nil {
				problem("%w", err)
			}
		}
		b.VirtualHosts = append(b.VirtualHosts, v)
	}
	if len(b.VirtualHosts) == 0 && len(problems) == 0 {
		problems = append(problems, errors.New("no policy guards a host: expected an AuthPolicy with mode Enforce and hosts"))
	}
	slices.SortFunc(b.VirtualHosts, func(x, y virtualHost) int { return strings.Compare(x.Name, y.Name) })
	slices.SortFunc(b.Backends, func(x, y backend) int { return strings.Compare(x.Name, y.Name) })
	return problems
}

// webSocket is the path of the one route that is a WebSocket. Usher refuses it too, in words, unless the policy allows it.
func webSocket(api *v1alpha1.API) string {
	if api.Preset != "langgraph" {
		return ""
	}
	prefix := ""
	if api.LangGraph != nil && api.LangGraph.HTTP != nil {
		prefix = regexp.QuoteMeta(api.LangGraph.HTTP.MountPrefix)
	}
	return prefix + "/threads/[^/]+/stream/events"
}

func policyName(p *v1alpha1.AuthPolicy) string {
	if p.Namespace != "" {
		return p.Namespace + "/" + p.Name
	}
	return p.Name
}

// domainOf returns a policy's host as Envoy's virtual hosts name it: lower-case, as Envoy compares them.
func domainOf(host string) (string, bool) {
	host = strings.ToLower(host)
	if host == "*" {
		return host, true
	}
	if literal, ok := strings.CutPrefix(host, "["); ok {
		ip, err := netip.ParseAddr(strings.TrimSuffix(literal, "]"))
		return host, err == nil && ip.Is6() && ip.Zone() == "" && strings.HasSuffix(literal, "]")
	}
	return host, isName(strings.TrimPrefix(host, "*."))
}

// seconds writes a duration as protobuf's JSON does.
func seconds(d time.Duration) string {
	return strconv.FormatFloat(d.Round(time.Millisecond).Seconds(), 'f', -1, 64) + "s"
}

// quote writes text as a JSON string, which is a YAML one too: nothing in it can become structure.
func quote(text string) (string, error) {
	b, err := json.Marshal(text)
	return string(b), err
}

func list(texts []string) (string, error) {
	quoted := make([]string, len(texts))
	for i, t := range texts {
		var err error
		if quoted[i], err = quote(t); err != nil {
			return "", err
		}
	}
	return "[" + strings.Join(quoted, ", ") + "]", nil
}

// indent moves text to the right, for a block scalar.
func indent(width int, text string) string {
	pad := strings.Repeat(" ", width)
	return pad + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n"+pad)
}
