package e2e_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/usher-authz/usher/envoy/e2e/stack"
)

// frontProxy ends the clients' TLS, and speaks TLS of its own with the gate. DETAILS is what it does with
// x-forwarded-client-cert.
const frontProxy = `
admin: {address: {socket_address: {address: 127.0.0.1, port_value: ADMIN}}}
static_resources:
  listeners:
  - address: {socket_address: {address: 127.0.0.1, port_value: LISTEN}}
    filter_chains:
    - transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            tls_certificates: [{certificate_chain: {filename: SERVER_CERT}, private_key: {filename: SERVER_KEY}}]
            validation_context: {trusted_ca: {filename: CLIENTS}}
      filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          forward_client_cert_details: DETAILS
          set_current_client_cert_details: {cert: true, subject: true}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
          route_config:
            virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: "/"}, route: {cluster: gate}}]}]
  clusters:
  - name: gate
    load_assignment:
      cluster_name: gate
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: GATE}}}}]}]
    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        common_tls_context:
          tls_certificates: [{certificate_chain: {filename: EDGE_CERT}, private_key: {filename: EDGE_KEY}}]
          validation_context: {trusted_ca: {filename: SERVER_CA}}
`

// mesh is an authority whose certificates have a SPIFFE name.
type mesh struct {
	t   *testing.T
	dir string
	key *ecdsa.PrivateKey
	ca  *x509.Certificate
	PEM string // its file
}

func newMesh(t *testing.T) *mesh {
	t.Helper()
	pair, text := clientCertificate(t, "mesh")
	ca, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	m := &mesh{t: t, dir: t.TempDir(), key: pair.PrivateKey.(*ecdsa.PrivateKey), ca: ca}
	m.PEM = m.write("mesh.pem", text)
	return m
}

func (m *mesh) write(name string, text []byte) string {
	path := filepath.Join(m.dir, name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		m.t.Fatal(err)
	}
	return path
}

// issue makes a certificate for spiffe://mesh.test/NAME, in memory and as two files.
func (m *mesh) issue(name string) (pair tls.Certificate, cert, key string) {
	m.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		m.t.Fatal(err)
	}
	now := time.Now()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: name},
		URIs:      []*url.URL{{Scheme: "spiffe", Host: "mesh.test", Path: "/" + name}},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, m.ca, private.Public(), m.key)
	if err != nil {
		m.t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		m.t.Fatal(err)
	}
	cert = m.write(name+".pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	key = m.write(name+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, cert, key
}

// A proxy in front ends the clients' TLS: it alone can connect to the gate, and what it forwards is the client's certificate.
func TestACertificateThatAProxyForwards(t *testing.T) {
	ctx := begin(t)
	certs, authority := newCertificates(t), newMesh(t)
	edge, edgeCert, edgeKey := authority.issue("edge")
	stranger, _, _ := authority.issue("stranger")
	mine, minePEM := clientCertificate(t, "mine")
	other, otherPEM := clientCertificate(t, "other")
	clients := authority.write("clients.pem", append(append([]byte(nil), minePEM...), otherPEM...))

	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get("X-User-Id"))
	}))
	t.Cleanup(backend.Close)
	provider, err := parts.NewOAuth(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(provider.Stop)
	connect := func(pairs ...tls.Certificate) *http.Client {
		config := certs.client.Clone()
		config.Certificates = pairs
		return &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
	}
	manifests := strings.ReplaceAll(oauthManifests, "  backend: {url: BACKEND}\n", "  backend: {url: BACKEND}\n  clientCertificate: {forwardedHeader: x-forwarded-client-cert}\n")
	gate, err := parts.NewGateAs(ctx, "forwarded", stack.GateOptions{
		Manifests: strings.NewReplacer("ISSUER", provider.Issuer, "BACKEND", backend.URL).Replace(manifests),
		EnvoyArgs: []string{"--check-timeout=5s", "--tls-certificate-file", certs.cert, "--tls-key-file", certs.key,
			"--tls-client-ca-file", authority.PEM, "--trusted-proxy-san", "spiffe://mesh.test/edge"},
		Ping: pingOver(connect(edge)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(gate.Usher.Stop)
	t.Cleanup(gate.Envoy.Stop)
	front := func(name, details string) string {
		t.Helper()
		part, address, err := parts.NewEnvoy(ctx, name, strings.NewReplacer("DETAILS", details, "CLIENTS", clients, "SERVER_CERT", certs.cert,
			"SERVER_KEY", certs.key, "SERVER_CA", certs.ca, "EDGE_CERT", edgeCert, "EDGE_KEY", edgeKey, "GATE", gate.Address[strings.LastIndexByte(gate.Address, ':')+1:]).Replace(frontProxy))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(part.Stop)
		return "https://" + address
	}
	right, careless, direct := front("front", "SANITIZE_SET"), front("careless-front", "APPEND_FORWARD"), "https://"+gate.Address

	o := &oauth{provider: provider, gate: gate}
	token := o.token(ctx, t, "jwt", "bound", http.Header{"X-Test-Client-Certificate": {url.PathEscape(string(minePEM))}})
	plain := http.Header{"Authorization": {"Bearer " + token}}
	naming := func(pems ...[]byte) http.Header {
		header := plain.Clone()
		for _, text := range pems {
			header["X-Forwarded-Client-Cert"] = append(header["X-Forwarded-Client-Cert"], `Cert="`+url.PathEscape(string(text))+`"`)
		}
		return header
	}
	joined := plain.Clone()
	joined.Set("X-Forwarded-Client-Cert", strings.Join(naming(otherPEM, minePEM)["X-Forwarded-Client-Cert"], ","))

	r := until(ctx, t, http.StatusOK, func() (reply, error) { return askMe(ctx, connect(mine), right, jwtHost, plain) }, http.StatusServiceUnavailable)
	if r.body != "bound" {
		t.Errorf("the backend was told of user %q", r.body)
	}
	for _, c := range []struct {
		name   string
		base   string
		header http.Header
		pairs  []tls.Certificate
		want   int // 0: no connection
	}{
		{"the right one through the proxy", right, plain, []tls.Certificate{mine}, 200},
		{"the right one through the proxy, which replaces what the client wrote", right, naming(otherPEM), []tls.Certificate{mine}, 200},
		{"another one through the proxy", right, plain, []tls.Certificate{other}, 401},
		{"none through the proxy", right, plain, nil, 401},
		{"another one and the right one in the client's header", right, naming(minePEM), []tls.Certificate{other}, 401},
		{"none and the right one in the client's header", right, naming(minePEM), nil, 401},
		{"the right one through a proxy that appends", careless, plain, []tls.Certificate{mine}, 200},
		{"another one behind the right one in the client's header, through a proxy that appends", careless, naming(minePEM), []tls.Certificate{other}, 401},
		{"none and the right one in the client's header, through a proxy that appends", careless, naming(minePEM), nil, 401},
		{"the right one twice, through a proxy that appends", careless, naming(minePEM), []tls.Certificate{mine}, 401},
		{"a proxy that forwards none", direct, plain, []tls.Certificate{edge}, 401},
		{"a proxy that forwards two in two headers", direct, naming(minePEM, otherPEM), []tls.Certificate{edge}, 401},
		{"a proxy that forwards two in one header", direct, joined, []tls.Certificate{edge}, 401},
		{"a client past the proxy without a certificate", direct, naming(minePEM), nil, 0},
		{"a client past the proxy with its own", direct, naming(minePEM), []tls.Certificate{mine}, 0},
		{"somebody else of the proxy's authority", direct, naming(minePEM), []tls.Certificate{stranger}, 0},
		{"a client past the proxy in the clear", "http://" + gate.Address, naming(minePEM), nil, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			ask := func() (reply, error) { return askMe(ctx, connect(c.pairs...), c.base, jwtHost, c.header) }
			if c.want != 0 {
				until(ctx, t, c.want, ask, http.StatusServiceUnavailable)
				return
			}
			if r, err := refused(ctx, ask); err == nil {
				t.Errorf("got %d %s, want no connection", r.status, r.body)
			}
		})
	}
}

// refused asks once. The deadline must not be what refuses.
func refused(ctx context.Context, ask func() (reply, error)) (reply, error) {
	r, err := ask()
	if ctx.Err() != nil {
		return reply{}, nil
	}
	return r, err
}
