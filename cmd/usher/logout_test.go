package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/usher-authz/usher/k8s/watch"
)

// logouts serves the logout endpoint for a provider whose list cannot be reached.
func logouts(t *testing.T) (*httptest.Server, *observer.ObservedLogs) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "usher.yaml")
	err := os.WriteFile(path, []byte(`
apiVersion: usher.dev/v1alpha1
kind: IdentityProvider
metadata: {name: idp}
spec:
  issuer: https://idp.test
  audiences: [api]
  jwt: {keys: {keys: [{kty: OKP, crv: Ed25519, x: 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo}]}}
  revocation:
    redis: {url: "redis://127.0.0.1:1"}
    backChannelLogout: {clientIDs: [chat]}
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zap.WarnLevel)
	files := watch.Files{Paths: []string{path}, Presets: presets(), Logger: zap.NewNop()}
	g := newGate(zap.New(core), 0, nil)
	if problems := g.apply(context.Background(), files.Read()); len(problems) > 0 {
		t.Fatal(problems)
	}
	t.Cleanup(g.close)
	mux := http.NewServeMux()
	mux.Handle("POST /backchannel-logout/{provider...}", newLogout(g))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server, logs
}

func TestWhatStrangersCallAProviderDoesNotComeIntoTheLog(t *testing.T) {
	server, logs := logouts(t)
	for _, name := range []string{"nobody", "%0Aidp", strings.Repeat("x", 8<<10)} {
		r, err := http.PostForm(server.URL+"/backchannel-logout/"+name, url.Values{"logout_token": {"a.b.c"}})
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode != http.StatusNotFound {
			t.Errorf("%.20q: got %d", name, r.StatusCode)
		}
	}
	if text := fmt.Sprint(logs.All()); strings.Contains(text, "nobody") || strings.Contains(text, "xxx") {
		t.Errorf("logged %.200s", text)
	}
}

func TestSlowBodiesKeepNoProviderOut(t *testing.T) {
	server, _ := logouts(t)
	for range 2 * maxLogouts {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		// The answer to Expect says that the handler reads the body.
		if _, err := fmt.Fprint(c, "POST /backchannel-logout/idp HTTP/1.1\r\nHost: usher\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 99\r\nExpect: 100-continue\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(make([]byte, 12)); err != nil || n != 12 {
			t.Fatal(n, err)
		}
	}
	r, err := http.PostForm(server.URL+"/backchannel-logout/idp", url.Values{"logout_token": {"a.b.c"}})
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != http.StatusBadRequest {
		t.Errorf("got %d, want 400: the token is none", r.StatusCode)
	}
}
