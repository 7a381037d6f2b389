package deploy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/usher-authz/usher/envoy/e2e/stack"
	"github.com/usher-authz/usher/extauthz/token/tokentest"
	"github.com/usher-authz/usher/k8s/e2e/container"
)

// patience is how long anything may take: these are real processes, on a machine that may be busy.
const patience = 3 * time.Minute

// gate is an Envoy before a backend that shows what reached it.
type gate struct {
	url, host string
	idp       *tokentest.Provider
}

// ask is a GET through Envoy.
func (g *gate) ask(t *testing.T, path, token string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = g.host
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// run starts an Envoy with that bootstrap, which listens on 0.0.0.0:8080, as c says who it is.
func (g *gate) run(t *testing.T, bootstrap string, c container.Container) container.Container {
	t.Helper()
	port, err := stack.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	const listener = `address: "0.0.0.0", port_value: 8080`
	if !strings.Contains(bootstrap, listener) {
		t.Fatalf("the bootstrap has no %s:\n%s", listener, bootstrap)
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	g.url = "http://" + address
	file := filepath.Join(openDir(t), "envoy.yaml")
	if err := os.WriteFile(file, []byte(strings.Replace(bootstrap, listener, socketAddress(address), 1)), 0o644); err != nil { //nolint:gosec // another user reads it
		t.Fatal(err)
	}
	c.Root, c.Args = openDir(t), []string{"/usr/local/bin/envoy", "-c", "/etc/envoy/envoy.yaml", "--disable-hot-restart", "--log-level", "warn"}
	c.Mounts = append(c.Mounts, container.Mount{Source: filepath.Dir(file), Target: "/etc/envoy", ReadOnly: true})
	envoyRoot(t, &c)
	start(t, c, "envoy", listening(address))
	return c
}

// socketAddress is host:port as a bootstrap has it.
func socketAddress(address string) string {
	host, port, _ := strings.Cut(address, ":")
	return fmt.Sprintf("address: %q, port_value: %s", host, port)
}

// want waits until the request is answered so.
func (g *gate) want(t *testing.T, status int, path, token string) {
	t.Helper()
	eventually(t, func() error {
		if got, body := g.ask(t, path, token); got != status {
			return fmt.Errorf("GET %s: %d, want %d: %s", path, got, status, body)
		}
		return nil
	})
}

func eventually(t *testing.T, f func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := stack.Poll(ctx, f); err != nil {
		t.Fatal(err)
	}
}

// backend is a LangGraph server, and one with items, as far as these tests need them.
func backend(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/items" {
			fmt.Fprint(w, `["umbrella"]`)
			return
		}
		fmt.Fprintf(w, `{"assistant_id":%q,"graph_id":"agent","metadata":{"created_by":"system"}}`, path.Base(r.URL.Path))
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// provider is an identity provider on a socket.
func provider(t *testing.T) *tokentest.Provider {
	t.Helper()
	var p *tokentest.Provider
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.ServeHTTP(w, r) }))
	t.Cleanup(s.Close)
	p = tokentest.New(s.URL, tokentest.NewKey("k1", "ES256"))
	return p
}
