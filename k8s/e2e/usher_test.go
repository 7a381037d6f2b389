package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/usher-authz/usher/envoy/e2e/stack"
	"github.com/usher-authz/usher/extauthz/token/tokentest"
)

// patience is how long anything may take: these are real processes, on a machine that may be busy.
const patience = 3 * time.Minute

// binary is usher, built once.
var binary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(shared.Dir, "usher")
	out, err := exec.Command("go", "build", "-C", "../..", "-o", path, "./cmd/usher").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build usher: %w: %s", err, out)
	}
	return path, nil
})

// usher is a running `usher serve --kubernetes`.
type usher struct {
	part  *stack.Part
	grpc  string
	admin string
	check authv3.AuthorizationClient
}

// startUsher starts one in that namespace, with the kubeconfig of that user. It does not wait until it is ready.
func startUsher(t *testing.T, namespace, kubeconfig string, args ...string) *usher {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	var ports [2]int
	for i := range ports {
		if ports[i], err = stack.FreePort(); err != nil {
			t.Fatal(err)
		}
	}
	u := &usher{grpc: fmt.Sprintf("127.0.0.1:%d", ports[0]), admin: fmt.Sprintf("http://127.0.0.1:%d", ports[1])}
	u.part = stack.NewPart(stack.Process{
		Name: "usher", Log: filepath.Join(t.TempDir(), "usher.log"), Env: []string{"POD_NAMESPACE=" + namespace, "HOME=" + t.TempDir()},
		Command: append([]string{path, "serve", "--kubernetes", "--kubeconfig", kubeconfig, "--grpc-address", u.grpc, "--admin-address", u.admin[len("http://"):]}, args...),
		Ready:   stack.Answers200(u.admin + "/healthz"),
	})
	if err := u.part.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		u.part.Stop()
		if t.Failed() {
			t.Log(u.part.Tail())
		}
	})
	connection, err := grpc.NewClient(u.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	u.check = authv3.NewAuthorizationClient(connection)
	return u
}

// status asks for a request, and returns what the client would be answered.
func (u *usher) status(ctx context.Context, host, method, path, token string) int {
	list := &corev3.HeaderMap{}
	if token != "" {
		list.Headers = append(list.Headers, &corev3.HeaderValue{Key: "authorization", RawValue: []byte("Bearer " + token)})
	}
	r, err := u.check.Check(ctx, &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{
		Http: &authv3.AttributeContext_HttpRequest{Method: method, Path: path, Host: host, Scheme: "https", HeaderMap: list},
	}}})
	switch {
	case err != nil:
		return 0
	case r.GetOkResponse() != nil:
		return 200
	}
	return int(r.GetDeniedResponse().GetStatus().GetCode())
}

// wantStatus waits until the request is answered so.
func (u *usher) wantStatus(t *testing.T, want int, host, method, path, token string) {
	t.Helper()
	eventually(t, func() error {
		if got := u.status(t.Context(), host, method, path, token); got != want {
			return fmt.Errorf("%s %s at %s: %d, want %d", method, path, host, got, want)
		}
		return nil
	})
}

func (u *usher) readyz(t *testing.T) string {
	t.Helper()
	response, err := http.Get(u.admin + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d %s", response.StatusCode, body)
}

func eventually(t *testing.T, f func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := stack.Poll(ctx, f); err != nil {
		t.Fatal(err)
	}
}

// kubectl runs it, and fails the test if it fails.
func kubectl(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	out, err := shared.Kubectl(t.Context(), stdin, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// namespace makes a namespace of its own for the test.
func namespace(t *testing.T, name string) string {
	t.Helper()
	kubectl(t, fmt.Sprintf("{apiVersion: v1, kind: Namespace, metadata: {name: %s}}", name), "apply", "-f", "-")
	t.Cleanup(func() { // one request for each kind, or a few: the API server ends one after a minute, however many objects are left
		for _, kind := range []string{"authpolicies", "identityproviders"} {
			for range 20 {
				if _, err := shared.Kubectl(context.Background(), "", "delete", "--raw", "/apis/usher.dev/v1alpha1/namespaces/"+name+"/"+kind); err == nil {
					break
				}
			}
		}
	})
	return name
}

// condition is a condition of an object: its status, reason and message.
type condition struct{ Type, Status, Reason, Message string }

func conditionOf(t *testing.T, ns, object, kind string) (condition, error) {
	t.Helper()
	var o struct {
		Metadata struct{ Generation int64 }
		Status   struct {
			Conditions []struct {
				condition
				ObservedGeneration int64
			}
		}
	}
	if err := json.Unmarshal([]byte(kubectl(t, "", "get", object, "--namespace", ns, "-o", "json")), &o); err != nil {
		t.Fatal(err)
	}
	for _, c := range o.Status.Conditions {
		if c.Type == kind && c.ObservedGeneration == o.Metadata.Generation {
			return c.condition, nil
		}
	}
	return condition{}, errors.New("no condition " + kind + " of this generation yet")
}

// wantCondition waits until the condition is so, and its message holds the text.
func wantCondition(t *testing.T, ns, object, kind, status, reason, message string) {
	t.Helper()
	eventually(t, func() error {
		c, err := conditionOf(t, ns, object, kind)
		if err == nil && (c.Status != status || c.Reason != reason || !strings.Contains(c.Message, message)) {
			err = fmt.Errorf("%s %s is %+v, want %s %s with %q", object, kind, c, status, reason, message)
		}
		return err
	})
}

// provider is an identity provider on a socket, and its manifest.
type provider struct {
	*tokentest.Provider
	url string
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	p := &provider{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	p.url, p.Provider = server.URL, tokentest.New(server.URL, tokentest.NewKey("k1", "ES256"))
	return p
}

func (p *provider) manifest(ns, name, more string) string {
	return fmt.Sprintf("apiVersion: usher.dev/v1alpha1\nkind: IdentityProvider\nmetadata: {name: %s, namespace: %s}\nspec: {issuer: %q, audiences: [api], allowHTTP: true%s}\n---\n", name, ns, p.url, more)
}

// guard is a policy of two routes.
func guard(ns, name, host, providers, more string) string {
	return fmt.Sprintf(`apiVersion: usher.dev/v1alpha1
kind: AuthPolicy
metadata: {name: %s, namespace: %s}
spec:
  hosts: [%s]
  providers: [%s]
  api: {routes: [{method: GET, path: /items, on: items:read}, {method: GET, path: /ok, public: true}]}
  rules: [{on: items:read%s}]
---
`, name, ns, host, providers, more)
}
