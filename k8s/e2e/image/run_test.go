package image

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/usher-authz/usher/envoy/e2e/stack"
	"github.com/usher-authz/usher/extauthz/token/tokentest"
	"github.com/usher-authz/usher/k8s/e2e/container"
)

// patience is how long anything may take: these are real processes, on a machine that may be busy.
const patience = 3 * time.Minute

// alone is the image where there is nothing else: no shell, no /etc, /proc, /dev or /tmp, and no right to write.
func alone(t *testing.T, args ...string) container.Container {
	t.Helper()
	// A root of its own, as mount points are made there.
	root := t.TempDir()
	if err := os.CopyFS(root, os.DirFS(theImage(t).root)); err != nil {
		t.Fatal(err)
	}
	for dir := root; strings.HasPrefix(dir, os.TempDir()+"/"); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return container.Container{Root: root, Args: append([]string{"/usher"}, args...), User: 65532, Group: 65532}
}

// output runs it to its end.
func output(t *testing.T, c container.Container) (string, error) {
	t.Helper()
	cmd, err := c.Cmd(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestVersion(t *testing.T) {
	out, err := output(t, alone(t, "version"))
	if err != nil || !strings.HasPrefix(out, "usher "+version+" ") {
		t.Errorf("%q, %v", out, err)
	}
}

func TestNothingCanBeWritten(t *testing.T) {
	c := alone(t, "serve", "--config", "/policy.yaml", "--grpc-address", "unix:///usher.sock", "--admin-address", "")
	c.Mounts = []container.Mount{{Source: manifests(t, ""), Target: "/policy.yaml", ReadOnly: true}}
	out, err := output(t, c)
	if err == nil || !strings.Contains(out, `listen on "unix:///usher.sock": read-only file system`) {
		t.Errorf("%q, %v", out, err)
	}
}

// manifests is a file with a policy and its provider, whose keys are in it; and more.
func manifests(t *testing.T, more string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	text := fmt.Sprintf(`apiVersion: usher.dev/v1alpha1
kind: IdentityProvider
metadata: {name: inline}
spec: {issuer: %q, audiences: [api], jwt: {keys: %s}}
---
%s%s`, inline.Issuer, inline.Set(), guard("inline"), more)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil { //nolint:gosec // another user reads it
		t.Fatal(err)
	}
	return path
}

var inline = tokentest.New("https://inline.example.com", tokentest.NewKey("k1", "ES256"))

// guard is a policy for NAME.test.
func guard(name string) string {
	return fmt.Sprintf(`apiVersion: usher.dev/v1alpha1
kind: AuthPolicy
metadata: {name: %[1]s}
spec:
  hosts: [%[1]s.test]
  providers: [%[1]s]
  api: {routes: [{method: GET, path: /items, on: items:read}]}
  rules: [{on: items:read}]
---
`, name)
}

// served is `usher serve` of the image, in the background.
type served struct {
	part  *stack.Part
	check authv3.AuthorizationClient
	admin string
}

func serve(t *testing.T, c container.Container, config string) *served {
	t.Helper()
	var addresses [2]string
	for i := range addresses {
		port, err := stack.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		addresses[i] = fmt.Sprintf("127.0.0.1:%d", port)
	}
	c.Args = append(c.Args, "serve", "--config", "/etc/usher", "--grpc-address", addresses[0], "--admin-address", addresses[1])
	c.Mounts = []container.Mount{{Source: filepath.Dir(config), Target: "/etc/usher", ReadOnly: true}}
	s := &served{admin: "http://" + addresses[1]}
	var err error
	if s.part, err = c.Part("usher", filepath.Join(t.TempDir(), "usher.log"), stack.Answers200(s.admin+"/healthz")); err != nil {
		t.Fatal(err)
	}
	if err := s.part.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.part.Stop()
		if t.Failed() {
			t.Log(s.part.Tail())
		}
	})
	connection, err := grpc.NewClient(addresses[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	s.check = authv3.NewAuthorizationClient(connection)
	return s
}

// status is what a GET of /items is answered.
func (s *served) status(t *testing.T, host, token string) int {
	t.Helper()
	list := &corev3.HeaderMap{}
	if token != "" {
		list.Headers = []*corev3.HeaderValue{{Key: "authorization", RawValue: []byte("Bearer " + token)}}
	}
	r, err := s.check.Check(t.Context(), &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{
		Http: &authv3.AttributeContext_HttpRequest{Method: "GET", Path: "/items", Host: host, Scheme: "https", HeaderMap: list},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	if r.GetOkResponse() != nil {
		return 200
	}
	return int(r.GetDeniedResponse().GetStatus().GetCode())
}

func (s *served) readyz(t *testing.T) string {
	t.Helper()
	r, err := http.Get(s.admin + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestChecksAreAnswered(t *testing.T) {
	s := serve(t, alone(t), manifests(t, ""))
	if got := s.status(t, "inline.test", inline.Mint()); got != 200 {
		t.Errorf("a good token: %d", got)
	}
	if got := s.status(t, "inline.test", ""); got != 401 {
		t.Errorf("no token: %d", got)
	}
	if got := s.readyz(t); !strings.Contains(got, `"ready": true`) {
		t.Error(got)
	}
}
