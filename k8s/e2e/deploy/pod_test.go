package deploy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/usher-authz/usher/envoy/e2e/stack"
	"github.com/usher-authz/usher/extauthz/token/tokentest"
	"github.com/usher-authz/usher/k8s/e2e/cluster"
	"github.com/usher-authz/usher/k8s/e2e/container"
)

// inCluster gives a pod what a kubelet gives it to reach the API server: its ServiceAccount's token, and the server's name.
func (n *node) inCluster(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	if mount := n.pod.Spec.AutomountServiceAccountToken; mount == nil || !*mount {
		t.Fatal("the pod asks for no token")
	}
	token, err := c.ServiceAccountToken(t.Context(), n.pod.Namespace, n.pod.Spec.ServiceAccountName)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(filepath.Join(c.Dir, "certificates", "apiserver.crt"))
	if err != nil {
		t.Fatal(err)
	}
	account := filepath.Join(n.dir, "serviceaccount")
	if err := os.Mkdir(account, 0o755); err != nil { //nolint:gosec // another user looks into it
		t.Fatal(err)
	}
	hosts := filepath.Join(n.dir, "hosts")
	for path, text := range map[string]string{
		filepath.Join(account, "token"): token, filepath.Join(account, "ca.crt"): string(ca), filepath.Join(account, "namespace"): n.pod.Namespace,
		hosts: "127.0.0.1 kubernetes.default.svc\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		own(t, path, n.fsGroup(), 0o644)
	}
	n.mounts = append(n.mounts,
		container.Mount{Source: account, Target: "/var/run/secrets/kubernetes.io/serviceaccount", ReadOnly: true},
		container.Mount{Source: hosts, Target: "/etc/hosts", ReadOnly: true})
	server, err := url.Parse(c.URL)
	if err != nil {
		t.Fatal(err)
	}
	n.vars = map[string]string{"KUBERNETES_SERVICE_HOST": "kubernetes.default.svc", "KUBERNETES_SERVICE_PORT": server.Port()}
}

// objectsFor are a provider and a policy of a namespace, for HOST.
func objectsFor(p *tokentest.Provider, namespace string) string {
	return fmt.Sprintf(`apiVersion: usher.dev/v1alpha1
kind: IdentityProvider
metadata: {name: company, namespace: %[1]s}
spec: {issuer: %[2]q, audiences: [api], allowHTTP: true}
---
apiVersion: usher.dev/v1alpha1
kind: AuthPolicy
metadata: {name: items, namespace: %[1]s}
spec:
  hosts: [%[1]s.example.com]
  providers: [company]
  api: {routes: [{method: GET, path: /items, on: "items:read"}]}
  rules: [{"on": "items:read"}]
`, namespace, p.Issuer)
}

// storeAll applies objects for good, Secrets and namespaces first.
func storeAll(t *testing.T, all []object) {
	t.Helper()
	var first, rest []object
	for _, o := range all {
		if kind := o.text("kind"); kind == "Namespace" || kind == "CustomResourceDefinition" {
			first = append(first, o)
		} else {
			rest = append(rest, o)
		}
	}
	for _, list := range [][]object{first, rest} {
		if out, err := apply(t, list); err != nil {
			t.Fatalf("%s, %v", out, err)
		}
	}
	forget(t, rest)
}

// forget deletes what has no namespace when the test ends: it would meet that of others.
func forget(t *testing.T, all []object) {
	t.Helper()
	var text strings.Builder
	for _, o := range all {
		if kind := o.text("kind"); o.text("metadata", "namespace") == "" && kind != "Namespace" && kind != "CustomResourceDefinition" {
			text.WriteString("---\n" + o.yaml(t))
		}
	}
	t.Cleanup(func() {
		if text.Len() > 0 {
			_, _ = shared.Kubectl(context.Background(), text.String(), "delete", "--ignore-not-found", "-f", "-")
		}
	})
}

// check asks Usher about a GET of /items, by gRPC.
func check(t *testing.T, target string, c credentials.TransportCredentials, host, token string) int {
	t.Helper()
	connection, err := grpc.NewClient(target, grpc.WithTransportCredentials(c))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	list := &corev3.HeaderMap{}
	if token != "" {
		list.Headers = []*corev3.HeaderValue{{Key: "authorization", RawValue: []byte("Bearer " + token)}}
	}
	r, err := authv3.NewAuthorizationClient(connection).Check(t.Context(), &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{
		Http: &authv3.AttributeContext_HttpRequest{Method: "GET", Path: "/items", Host: host, Scheme: "https", HeaderMap: list},
	}}})
	switch {
	case err != nil:
		t.Log(err)
		return 0
	case r.GetOkResponse() != nil:
		return 200
	}
	return int(r.GetDeniedResponse().GetStatus().GetCode())
}

// The pod of the Deployment, as it is stored, with the rights that are stored beside it: it becomes ready, answers checks, and writes
// status; with mTLS and the webhook, which are the components.
func TestTheDeploymentsPodServes(t *testing.T) {
	const namespace = "serving"
	authorities, client, secret := certificates(t, namespace, "spiffe://mesh.example.com/ns/edge/sa/envoy", "spiffe://mesh.example.com/ns/edge/sa/other")
	all := append(ownOverlay(t, `
namespace: serving
resources: [kustomize/overlays/namespace]
components: [kustomize/components/webhook, kustomize/components/mtls]
patches:
  - target: {kind: Deployment, name: usher}
    patch: |-
      - {op: add, path: /spec/template/spec/containers/0/args/-, value: "--grpc-client-san=spiffe://mesh.example.com/ns/edge/sa/envoy"}
`), secret)
	storeAll(t, all)
	n := newNode(t, podOf(t, find(t, all, "Deployment", "usher")), all)
	n.inCluster(t, shared)
	checks := n.port(t, "--grpc-address=:9001", "--grpc-address=127.0.0.1:%d")
	admin := "http://" + n.port(t, "--admin-address=:9002", "--admin-address=127.0.0.1:%d")
	webhook := n.port(t, "--webhook-address=:9443", "--webhook-address=127.0.0.1:%d")
	start(t, n.container(t, "usher", usherRoot(t)), "usher", stack.Answers200(admin+"/healthz"))

	p := provider(t)
	if out, err := shared.Kubectl(t.Context(), objectsFor(p, namespace), "apply", "-f", "-"); err != nil {
		t.Fatalf("%s, %v", out, err)
	}
	envoy := func(pair tls.Certificate) credentials.TransportCredentials {
		return credentials.NewTLS(&tls.Config{RootCAs: authorities, Certificates: []tls.Certificate{pair}, ServerName: "usher.serving.svc", MinVersion: tls.VersionTLS13})
	}
	eventually(t, func() error {
		if got := check(t, checks, envoy(client[0]), "serving.example.com", p.Mint()); got != 200 {
			return fmt.Errorf("a good token: %d", got)
		}
		return nil
	})
	if got := check(t, checks, envoy(client[0]), "serving.example.com", ""); got != 401 {
		t.Errorf("no token: %d", got)
	}
	if got := check(t, checks, envoy(client[1]), "serving.example.com", p.Mint()); got != 0 {
		t.Errorf("another client of the same authority: %d", got)
	}
	if got := check(t, checks, insecure.NewCredentials(), "serving.example.com", p.Mint()); got != 0 {
		t.Errorf("without TLS: %d", got)
	}
	eventually(t, func() error { return stack.Answers200(admin + "/readyz")(t.Context()) })
	eventually(t, func() error {
		out, err := shared.Kubectl(t.Context(), "", "get", "authpolicy/items", "-n", namespace, "-o", `jsonpath={.status.conditions[?(@.type=="Programmed")].status}`)
		if err == nil && out != "True" {
			err = fmt.Errorf("Programmed is %q", out)
		}
		return err
	})
	eventually(t, func() error { return webhookIs(t, webhook, "usher", "usher-webhook.serving.svc") })
}

// webhookIs asks the webhook by the authority that is written into its configuration.
func webhookIs(t *testing.T, address, configuration, name string) error {
	t.Helper()
	out, err := shared.Kubectl(t.Context(), "", "get", "validatingwebhookconfiguration", configuration, "-o", "jsonpath={.webhooks[0].clientConfig.caBundle}")
	if err != nil {
		return err
	}
	bundle, err := base64.StdEncoding.DecodeString(out)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(bundle) {
		return fmt.Errorf("no authority: %q", out)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: name, MinVersion: tls.VersionTLS13}}}
	r, err := client.Post("https://"+address+"/validate", "application/json", strings.NewReader("{}"))
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusBadRequest { // it is no review
		return fmt.Errorf("the webhook answers %s", r.Status)
	}
	return nil
}
