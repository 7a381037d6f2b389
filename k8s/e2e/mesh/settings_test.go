package mesh

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"
)

// What a gate's Envoy must set (envoy/settings_test.go says it for the bootstrap), in what Envoy Gateway's translator makes of
// our objects. docs/envoy-gateway.md lists those that it does not reach.
func TestEnvoyGatewaySetsWhatAGateNeeds(t *testing.T) {
	tr, err := translate(t.Context(), t.TempDir(), inCluster+written(t, "--format", "envoy-gateway", "--namespace", "gate", "--gateway-class", "eg"))
	if err != nil {
		t.Fatal(err)
	}
	manager, err := tr.manager()
	if err != nil {
		t.Fatal(err)
	}
	filters := list(manager["httpFilters"])
	var names []string
	for _, f := range filters {
		names = append(names, fmt.Sprint(at(f, "name")))
	}
	want := []string{
		"envoy.filters.http.cors", "envoy.filters.http.ext_authz/securitypolicy/gate/usher-conversations",
		"envoy.filters.http.lua/envoyextensionpolicy/gate/usher-edit/lua/0", "envoy.filters.http.rbac", "envoy.filters.http.router",
	}
	if !slices.Equal(names, want) {
		t.Fatalf("the filters are %v\nwant %v", names, want)
	}
	var usher map[string]any
	for _, c := range tr.Clusters {
		if c["name"] == at(filters[1], "typedConfig", "grpcService", "envoyGrpc", "clusterName") {
			usher = c
		}
	}
	for _, c := range []struct {
		name string
		got  any
		want string
	}{
		{"the path is normalised", manager["normalizePath"], "true"},
		{"slashes are merged", manager["mergeSlashes"], "true"},
		{"an encoded slash is 400", manager["pathWithEscapedSlashesAction"], "REJECT_REQUEST"},
		{"an underscore in a header name is 400", at(manager, "commonHttpProtocolOptions", "headersWithUnderscoresAction"), "REJECT_REQUEST"},
		{"a client's x-forwarded-for is not believed", manager["useRemoteAddress"], "true"},
		{"a client's x-forwarded-client-cert is dropped: SANITIZE, the default", manager["forwardClientCertDetails"], "<nil>"},
		{"the host has no final dot", manager["stripTrailingHostDot"], "true"},
		{"a client must send its headers soon", manager["requestHeadersTimeout"], "10s"},
		{"a client must send its body some time", manager["requestTimeout"], "300s"},
		{"no HTTP/1.0", at(manager, "httpProtocolOptions", "acceptHttp10"), "<nil>"},
		{"few streams", at(manager, "http2ProtocolOptions", "maxConcurrentStreams"), "100"},
		{"a window for a body", at(manager, "http2ProtocolOptions", "initialStreamWindowSize"), "5.24288e+06"},
		{"no extended CONNECT", at(manager, "http2ProtocolOptions", "allowConnect"), "<nil>"},
		{"raw headers", at(filters[1], "typedConfig", "encodeRawHeaders"), "true"},
		{"no header is hidden from Usher", at(filters[1], "typedConfig", "allowedHeaders"), "<nil>"},
		{"the client's certificate", at(filters[1], "typedConfig", "includePeerCertificate"), "true"},
		{"the server name", at(filters[1], "typedConfig", "includeTlsSession"), "true"},
		{"the body", at(filters[1], "typedConfig", "withRequestBody", "maxRequestBytes"), "4.194305e+06"},
		{"cut off, not refused", at(filters[1], "typedConfig", "withRequestBody", "allowPartialMessage"), "true"},
		{"as bytes", at(filters[1], "typedConfig", "withRequestBody", "packAsBytes"), "true"},
		{"no pass without an answer: the default", at(filters[1], "typedConfig", "failureModeAllow"), "<nil>"},
		{"but 503", at(filters[1], "typedConfig", "statusOnError", "code"), "ServiceUnavailable"},
		{"a header that cannot be set is an error", at(filters[1], "typedConfig", "validateMutations"), "true"},
		{"the route is the one that was asked about: the default", at(filters[1], "typedConfig", "clearRouteCache"), "<nil>"},
		{"for how long", at(filters[1], "typedConfig", "grpcService", "timeout"), "1s"},
		{"a check that reached no replica is put to another", at(filters[1], "typedConfig", "grpcService", "retryPolicy", "retryOn"), "connect-failure,refused-stream"},
		{"each try has the whole time", at(filters[1], "typedConfig", "grpcService", "retryPolicy", "retryBackOff", "maxInterval"), "1s"},
		{"a replica without answers is left out", at(usher, "outlierDetection", "consecutive5xx"), "5"},
		{"but not more than half of them", at(usher, "outlierDetection", "maxEjectionPercent"), "50"},
		{"the unhealthy are asked when there is no other", at(usher, "commonLbConfig", "healthyPanicThreshold", "value"), "1"},
		{"every check may be put again", at(usher, "circuitBreakers", "thresholds", 0, "maxRetries"), "4096"},
		{"no header of Envoy's from a client", at(filters[4], "typedConfig", "suppressEnvoyHeaders"), "true"},
		{"room for a body", tr.Listeners[len(tr.Listeners)-1]["perConnectionBufferLimitBytes"], "5.24288e+06"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if fmt.Sprint(c.got) != c.want {
				t.Errorf("got %v, want %s", c.got, c.want)
			}
		})
	}
	t.Run("each route is checked, and edited behind it", func(t *testing.T) {
		count := 0
		for _, config := range tr.Routes {
			for _, host := range list(config["virtualHosts"]) {
				for _, r := range list(at(host, "routes")) {
					count++
					for _, name := range []string{want[1], want[2], want[3]} {
						if at(r, "typedPerFilterConfig", name) == nil {
							t.Errorf("route %v has no %s", at(r, "name"), name)
						}
					}
					if timeout := at(r, "route", "timeout"); at(r, "route") != nil && timeout != "0s" {
						t.Errorf("route %v ends after %v", at(r, "name"), timeout)
					}
					if at(r, "route", "retryPolicy") != nil {
						t.Errorf("route %v is retried", at(r, "name"))
					}
				}
			}
		}
		if count != 3 {
			t.Errorf("%d routes", count)
		}
	})
}

// Each kind of object and each option: TLS, client certificates, https backends, addresses outside the cluster, "*".
func TestEnvoyGatewayTakesEveryOption(t *testing.T) {
	certificate, key := selfSigned(t)
	encode := base64.StdEncoding.EncodeToString
	there := strings.NewReplacer("CERTIFICATE", encode(certificate), "KEY", encode(key), "TEXT", strings.ReplaceAll(string(certificate), "\n", "\n    ")).Replace(`
apiVersion: v1
kind: Secret
metadata: {name: edge-tls, namespace: gate}
type: kubernetes.io/tls
data: {tls.crt: "CERTIFICATE", tls.key: "KEY"}
---
apiVersion: v1
kind: Secret
metadata: {name: clients, namespace: gate}
data: {ca.crt: "CERTIFICATE"}
---
apiVersion: v1
kind: Secret
metadata: {name: edge-client, namespace: gate}
type: kubernetes.io/tls
data: {tls.crt: "CERTIFICATE", tls.key: "KEY"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: usher-ca, namespace: authz}
data:
  ca.crt: |
    TEXT
---
apiVersion: v1
kind: ConfigMap
metadata: {name: backends, namespace: gate}
data:
  ca.crt: |
    TEXT
---
apiVersion: v1
kind: ConfigMap
metadata: {name: backends, namespace: agents}
data:
  ca.crt: |
    TEXT
---
apiVersion: v1
kind: Service
metadata: {name: usher, namespace: authz}
spec: {clusterIP: 10.0.0.3, ports: [{name: grpc, port: 9443}]}
---
apiVersion: v1
kind: Service
metadata: {name: langgraph, namespace: gate}
spec: {clusterIP: 10.0.0.4, ports: [{name: http, port: 8000}]}
---
apiVersion: v1
kind: Service
metadata: {name: langgraph, namespace: agents}
spec: {clusterIP: 10.0.0.1, ports: [{name: https, port: 8443}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: eg}
spec: {controllerName: gateway.envoyproxy.io/gatewayclass-controller}
---
`)
	tr, err := translate(t.Context(), t.TempDir(), there+golden(t, "gateway_everything")["gateway_everything.yaml"])
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range tr.Status {
		if !strings.Contains(s, "overridden") {
			t.Error(s)
		}
	}
	manager, err := tr.manager()
	if err != nil {
		t.Fatal(err)
	}
	if got := manager["forwardClientCertDetails"]; got != "SANITIZE_SET" {
		t.Errorf("x-forwarded-client-cert: %v", got)
	}
	tls := at(tr.Listeners[len(tr.Listeners)-1], "filterChains", 0, "transportSocket", "typedConfig")
	if tls == nil || at(tls, "requireClientCertificate") == true || at(tls, "commonTlsContext", "combinedValidationContext") == nil && at(tls, "commonTlsContext", "validationContextSdsSecretConfig") == nil {
		t.Errorf("the listener's TLS is %v", tls)
	}
	secured := 0
	for _, c := range tr.Clusters {
		if at(c, "transportSocketMatches") != nil || at(c, "transportSocket") != nil {
			secured++
		}
	}
	if secured < 2 {
		t.Errorf("%d clusters with TLS, want those of the https backends", secured)
	}
}

// selfSigned makes a certificate, as PEM.
func selfSigned(t *testing.T) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, DNSNames: []string{"orders.example.com"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	var c, k bytes.Buffer
	if err := pem.Encode(&c, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
		t.Fatal(err)
	}
	if err := pem.Encode(&k, &pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}); err != nil {
		t.Fatal(err)
	}
	return c.Bytes(), k.Bytes()
}
