// Package cluster runs a real kube-apiserver with a real etcd on loopback, for tests. There is no kubelet and no controller
// manager: objects are stored, validated, watched and authorized, and nothing is scheduled.
package cluster

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"k8s.io/client-go/rest"

	"github.com/usher-authz/usher/envoy/e2e/stack"
)

// adminToken is the one token that the API server knows from the start; see [Cluster.ServiceAccountToken].
const adminToken = "admin-token"

// Cluster is one API server and its etcd. Its methods may be called from several goroutines.
type Cluster struct {
	// URL of the API server.
	URL string
	// Dir holds what it writes: logs, certificates, kubeconfigs.
	Dir string
	// APIServer and Etcd can be stopped and started again: what was stored is still there.
	APIServer, Etcd *stack.Part

	tools string
	ca    []byte
}

// root is the repository.
func root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..", "..")
}

// Tool returns the path of a program that install.sh has put into .tools/k8s: kubectl, helm, egctl.
func Tool(name string) (string, error) {
	path := filepath.Join(root(), ".tools", "k8s", name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s is missing: run `make k8s-tools`: %w", name, err)
	}
	return path, nil
}

// Start starts both, and returns when the API server is ready. Dir must exist; Stop ends them.
func Start(ctx context.Context, dir string) (*Cluster, error) {
	c := &Cluster{Dir: dir}
	etcd, err := Tool("etcd")
	if err != nil {
		return nil, err
	}
	apiserver, err := Tool("kube-apiserver")
	if err != nil {
		return nil, err
	}
	var ports [3]int
	for i := range ports {
		if ports[i], err = stack.FreePort(); err != nil {
			return nil, err
		}
	}
	client, peer := fmt.Sprintf("http://127.0.0.1:%d", ports[0]), fmt.Sprintf("http://127.0.0.1:%d", ports[1])
	c.Etcd = stack.NewPart(stack.Process{
		Name: "etcd", Log: filepath.Join(dir, "etcd.log"),
		Command: []string{
			etcd, "--name", "one", "--data-dir", filepath.Join(dir, "etcd"), "--listen-client-urls", client, "--advertise-client-urls", client,
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "one=" + peer, "--unsafe-no-fsync",
		},
		Ready: stack.Answers200(client + "/health"),
	})
	tokens, key := filepath.Join(dir, "tokens.csv"), filepath.Join(dir, "service-account.key")
	if err := os.WriteFile(tokens, []byte(adminToken+`,admin,admin,"system:masters"`+"\n"), 0o600); err != nil {
		return nil, err
	}
	if err := writeKey(key); err != nil {
		return nil, err
	}
	certificates := filepath.Join(dir, "certificates")
	c.URL = fmt.Sprintf("https://127.0.0.1:%d", ports[2])
	c.APIServer = stack.NewPart(stack.Process{
		Name: "kube-apiserver", Log: filepath.Join(dir, "kube-apiserver.log"),
		Command: []string{
			apiserver, "--etcd-servers", client, "--bind-address", "127.0.0.1", "--secure-port", fmt.Sprint(ports[2]), "--cert-dir", certificates,
			"--token-auth-file", tokens, "--authorization-mode", "RBAC", "--disable-admission-plugins", "ServiceAccount",
			"--service-cluster-ip-range", "10.0.0.0/24", "--service-account-issuer", "https://kubernetes.default.svc",
			"--service-account-key-file", key, "--service-account-signing-key-file", key, "--v", "1",
			"--delete-collection-workers", "8",
		},
		Ready: func(ctx context.Context) error { return c.get(ctx, "/readyz") },
	})
	if err := c.Etcd.Start(ctx); err != nil {
		return nil, err
	}
	if err := c.APIServer.Start(ctx); err != nil {
		c.Etcd.Stop()
		return nil, err
	}
	if c.ca, err = os.ReadFile(filepath.Join(certificates, "apiserver.crt")); err != nil {
		c.Stop()
		return nil, err
	}
	return c, nil
}

// Stop ends both.
func (c *Cluster) Stop() {
	c.APIServer.Stop()
	c.Etcd.Stop()
}

// Config is a client's configuration with that bearer token; empty: the administrator's.
func (c *Cluster) Config(token string) *rest.Config {
	if token == "" {
		token = adminToken
	}
	return &rest.Config{Host: c.URL, BearerToken: token, TLSClientConfig: rest.TLSClientConfig{CAData: c.ca, ServerName: "kubernetes"}, QPS: -1}
}

// Kubeconfig writes a kubeconfig file with that token, and returns its path.
func (c *Cluster) Kubeconfig(name, token string) (string, error) {
	if token == "" {
		token = adminToken
	}
	path := filepath.Join(c.Dir, name+".kubeconfig")
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: %q, certificate-authority: %q, tls-server-name: kubernetes}}]
users: [{name: %[3]q, user: {token: %[4]q}}]
contexts: [{name: test, context: {cluster: test, user: %[3]q, namespace: default}}]
current-context: test
`, c.URL, filepath.Join(c.Dir, "certificates", "apiserver.crt"), name, token)
	// Others may be reading it.
	file, err := os.CreateTemp(c.Dir, name)
	if err != nil {
		return "", err
	}
	_, err = file.WriteString(text)
	if err = errors.Join(err, file.Close()); err != nil {
		return "", err
	}
	return path, os.Rename(file.Name(), path)
}

// Kubectl runs kubectl as the administrator with that standard input, and returns what it printed on both outputs.
func (c *Cluster) Kubectl(ctx context.Context, stdin string, args ...string) (string, error) {
	kubectl, err := Tool("kubectl")
	if err != nil {
		return "", err
	}
	config, err := c.Kubeconfig("admin", "")
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, kubectl, append([]string{"--kubeconfig", config, "--cache-dir", filepath.Join(c.Dir, "kubectl")}, args...)...)
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &out
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, out.String())
	}
	return out.String(), nil
}

// ServiceAccountToken makes the account's token with kubectl.
func (c *Cluster) ServiceAccountToken(ctx context.Context, namespace, name string) (string, error) {
	out, err := c.Kubectl(ctx, "", "create", "token", name, "--namespace", namespace)
	return strings.TrimSpace(out), err
}

// get asks for a path as the administrator, without looking at the certificate: it is made at the first start.
func (c *Cluster) get(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL+path, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+adminToken)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // loopback
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return nil
}

// writeKey makes the key that service accounts' tokens are signed by.
func writeKey(path string) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	return os.WriteFile(path, pem.EncodeToMemory(block), 0o600)
}
