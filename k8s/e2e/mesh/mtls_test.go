package mesh

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/usher-authz/usher/envoy/e2e/stack"
)

// Who the gateway and Usher are to each other.
const (
	usherID = "spiffe://mesh.example.com/ns/usher/sa/usher"
	envoyID = "spiffe://mesh.example.com/ns/gate/sa/envoy"
)

// mutual is a second usher, which serves whoever has a certificate for envoyID.
type mutual struct {
	checks           string
	usherCA, envoyCA *stack.Authority
}

func startMutual(t *testing.T, name string) *mutual {
	t.Helper()
	m := &mutual{usherCA: newAuthority(t), envoyCA: newAuthority(t)}
	dir := t.TempDir()
	if err := stack.ReplaceFiles(dir, m.issue(t, m.usherCA, usherID).Files(m.envoyCA)); err != nil {
		t.Fatal(err)
	}
	var ports [2]int
	for i := range ports {
		var err error
		if ports[i], err = stack.FreePort(); err != nil {
			t.Fatal(err)
		}
	}
	m.checks = fmt.Sprintf("127.0.0.1:%d", ports[0])
	admin := fmt.Sprintf("127.0.0.1:%d", ports[1])
	part := stack.NewPart(stack.Process{
		Name: "usher-" + name, Log: filepath.Join(parts.Dir, "logs", "usher-"+name+".log"), Dir: parts.Dir,
		Command: []string{parts.Usher, "serve", "--config", filepath.Join(parts.Dir, "policy.yaml"), "--grpc-address", m.checks, "--admin-address", admin,
			"--grpc-tls-cert", filepath.Join(dir, "tls.crt"), "--grpc-tls-key", filepath.Join(dir, "tls.key"),
			"--grpc-client-ca", filepath.Join(dir, "ca.crt"), "--grpc-client-san", envoyID},
		Ready: stack.Answers200("http://" + admin + "/readyz"),
	})
	if err := part.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		part.Stop()
		if t.Failed() {
			t.Log(part.Tail())
		}
	})
	return m
}

func newAuthority(t *testing.T) *stack.Authority {
	t.Helper()
	a, err := stack.NewAuthority("test")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (*mutual) issue(t *testing.T, a *stack.Authority, id string) stack.Pair {
	t.Helper()
	p, err := a.Issue(id)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// shut asks through a gate that must not open.
func (g *gate) shut(t *testing.T) {
	t.Helper()
	backend.reset()
	for _, c := range []call{{path: "/threads/1", token: alice}, {method: "POST", path: "/threads", token: alice, body: `{}`}, {path: "/ok"}} {
		if r := g.ask(t, c); r.status != http.StatusServiceUnavailable {
			t.Errorf("%s: got %d, want 503: %.300s", c.path, r.status, r.body)
		}
	}
	if seen := backend.take(); len(seen) > 0 {
		t.Errorf("the backend saw %s", seen[0].URL)
	}
}

// statistics are those of Envoy whose names have this in them, with their values.
func (g *gate) statistics(t *testing.T, name string) string {
	t.Helper()
	r, err := http.Get(g.Envoy.Admin + "/stats?filter=" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// credentials are what Envoy shows, and what it verifies Usher's certificate against.
type credentials struct {
	client  stack.Pair
	trusted *stack.Authority
}

// objects are those that hold them, in the gateway's namespace and in Usher's.
func (c credentials) objects() string {
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf(`apiVersion: v1
kind: Secret
metadata: {name: edge-client, namespace: gate}
type: kubernetes.io/tls
data: {tls.crt: %s, tls.key: %s}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: usher-ca, namespace: usher}
data:
  ca.crt: |
    %s
---
`, encode(c.client.Certificate), encode(c.client.Key), strings.ReplaceAll(string(c.trusted.PEM), "\n", "\n    "))
}

// secrets are what a control plane makes of them, for Envoy to ask for by these names.
func (c credentials) secrets(certificate, authority string) (out []any) {
	inline := func(b []byte) *corev3.DataSource {
		return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: b}}
	}
	for _, s := range []*tlsv3.Secret{
		{Name: authority, Type: &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: inline(c.trusted.PEM)}}},
		{Name: certificate, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
			CertificateChain: inline(c.client.Certificate), PrivateKey: inline(c.client.Key),
		}}},
	} {
		secret, err := generic(s)
		if err != nil {
			panic(err) // of a message of our own
		}
		out = append(out, secret)
	}
	return out
}

// bootstrap is what becomes of the objects.
func (m *mutual) bootstrap(t *testing.T, c credentials, objects string) string {
	t.Helper()
	tr, err := translate(t.Context(), t.TempDir(), inCluster+c.objects()+objects)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range tr.Status {
		if !strings.Contains(s, "overridden") {
			t.Error(s)
		}
	}
	tr.Secrets = c.secrets("gate/edge-client", "usher/usher-ca")
	text, err := tr.static(map[string]string{"10.0.0.1:8000": backend.URL, "10.0.0.2:9001": m.checks})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func mutualGateway(t *testing.T, san string) string {
	t.Helper()
	return written(t, "--format", "envoy-gateway", "--namespace", "gate", "--gateway-class", "eg",
		"--usher-tls-ca", "usher-ca", "--usher-tls-client-secret", "edge-client", "--usher-tls-san", san, unhurried)
}

// What Envoy Gateway makes of a BackendTLSPolicy and the Gateway's client certificate is let in by an Usher that asks for both.
func TestEnvoyGatewayAndUsherKnowEachOther(t *testing.T) {
	m := startMutual(t, "gateway-mtls")
	client := m.issue(t, m.envoyCA, envoyID)
	all := mutualGateway(t, usherID)
	good := credentials{client, m.usherCA}
	g := start(t, "gateway-mtls", m.bootstrap(t, good, all))
	conversation(t, g)
	t.Run("Envoy takes Usher for healthy", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := stack.Poll(ctx, func() error {
			if s := g.statistics(t, "extauth.*membership_healthy"); !strings.Contains(s, "membership_healthy: 1") {
				return errors.New(s)
			}
			return nil
		}); err != nil {
			t.Errorf("%v\n%s", err, g.statistics(t, "extauth.*health"))
		}
	})
	for name, c := range map[string]struct {
		credentials
		objects string
	}{
		"another id of Envoy":        {credentials{m.issue(t, m.envoyCA, "spiffe://mesh.example.com/ns/gate/sa/other"), m.usherCA}, all},
		"another authority of Envoy": {credentials{m.issue(t, m.usherCA, envoyID), m.usherCA}, all},
		"another id of Usher":        {good, mutualGateway(t, "spiffe://mesh.example.com/ns/usher/sa/other")},
		"another authority of Usher": {credentials{client, m.envoyCA}, all},
		"no client certificate": {good, written(t, "--format", "envoy-gateway", "--namespace", "gate", "--gateway-class", "eg",
			"--usher-tls-ca", "usher-ca", "--usher-tls-san", usherID, unhurried)},
		"no TLS": {good, objects(t)},
	} {
		t.Run(name, func(t *testing.T) {
			startShut(t, "gateway-"+strings.ReplaceAll(name, " ", "-"), m.bootstrap(t, c.credentials, c.objects)).shut(t)
		})
	}
}

// A BackendTLSPolicy whose authority is not there closes its routes: nobody goes on in the clear.
func TestEnvoyGatewayClosesRoutesWhoseAuthorityIsMissing(t *testing.T) {
	ca := newAuthority(t)
	client, err := ca.Issue(envoyID)
	if err != nil {
		t.Fatal(err)
	}
	missing := strings.Replace(credentials{client, ca}.objects(), "name: usher-ca", "name: another", 1)
	tr, err := translate(t.Context(), t.TempDir(), inCluster+missing+mutualGateway(t, usherID))
	if err != nil {
		t.Fatal(err)
	}
	tr.closed(t)
}

// startShut runs an Envoy that nobody can get through.
func startShut(t *testing.T, name, bootstrap string) *gate {
	t.Helper()
	part, address, err := parts.NewEnvoy(t.Context(), name, bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(part.Stop)
	return &gate{Address: address, Envoy: part}
}

func (in *ingress) bootstrap(t *testing.T, checks string) string {
	t.Helper()
	text, err := in.static(map[string]string{"usher": checks, "langgraph.agents.svc.cluster.local": backend.URL})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestIstiosIngressAndUsherKnowEachOther(t *testing.T) {
	m := startMutual(t, "istio-mtls")
	client := m.issue(t, m.envoyCA, envoyID)
	credential := []string{"kubernetes://edge-client", "kubernetes://edge-client-cacert"}
	withSecret := []string{"--usher-tls-client-secret", "edge-client", "--usher-tls-san"}
	for _, c := range []struct {
		name    string
		args    []string
		secrets []string // of the certificate and the authority, as istiod calls them
		credentials
		open bool
	}{
		{"a Secret of the gateway", append(withSecret, usherID), credential, credentials{client, m.usherCA}, true},
		{"certificates of the mesh", []string{"--usher-in-mesh", "--usher-tls-san", usherID}, []string{"default", "ROOTCA"}, credentials{client, m.usherCA}, true},
		{"another id of Envoy", append(withSecret, usherID), credential, credentials{m.issue(t, m.envoyCA, "spiffe://mesh.example.com/ns/gate/sa/other"), m.usherCA}, false},
		{"another id of Usher", append(withSecret, "spiffe://mesh.example.com/ns/usher/sa/other"), credential, credentials{client, m.usherCA}, false},
		{"another id of Usher in the mesh", []string{"--usher-in-mesh", "--usher-tls-san", "spiffe://mesh.example.com/ns/usher/sa/other"}, []string{"default", "ROOTCA"}, credentials{client, m.usherCA}, false},
		{"another authority of Usher", append(withSecret, usherID), credential, credentials{client, m.envoyCA}, false},
		{"no client certificate", []string{"--usher-tls-ca", "edge-client", "--usher-tls-san", usherID}, credential, credentials{client, m.usherCA}, false},
		{"no TLS", nil, credential, credentials{client, m.usherCA}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := ingressOf(t, c.args...)
			in.secrets = c.credentials.secrets(c.secrets[0], c.secrets[1])
			text, name := in.bootstrap(t, m.checks), "istio-"+strings.ReplaceAll(c.name, " ", "-")
			if !c.open {
				startShut(t, name, text).shut(t)
				return
			}
			conversation(t, start(t, name, text))
		})
	}
}
