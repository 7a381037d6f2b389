package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// TestTestsDialNobody runs PolicyTests whose issuer, keys, introspection, revocation list and backend are all one listener
// that counts who comes. So does explain, as long as it is not told to ask.
func TestTestsDialNobody(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var came atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			came.Add(1)
			_ = c.Close()
		}
	}()
	manifests := strings.ReplaceAll(`apiVersion: usher.dev/v1alpha1
kind: IdentityProvider
metadata: {name: jwts}
spec:
  issuer: http://ADDRESS/one
  audiences: [a]
  allowHTTP: true
  revocation: {redis: {url: "redis://ADDRESS/0"}}
---
apiVersion: usher.dev/v1alpha1
kind: IdentityProvider
metadata: {name: opaque}
spec:
  issuer: http://ADDRESS/two
  audiences: [a]
  allowHTTP: true
  introspection: {endpoint: "http://ADDRESS/introspect", clientID: usher, clientSecretRef: {name: secrets}}
---
apiVersion: v1
kind: Secret
metadata: {name: secrets}
stringData: {clientSecret: hush}
---
apiVersion: usher.dev/v1alpha1
kind: AuthPolicy
metadata: {name: threads}
spec:
  hosts: [a.example.com]
  providers: [jwts, opaque]
  api: {preset: langgraph}
  backend: {url: "http://ADDRESS"}
  rules: [{on: threads, filter: {owner: user.identity}}]
---
apiVersion: usher.dev/v1alpha1
kind: PolicyTest
metadata: {name: threads}
spec:
  defaults: {host: a.example.com}
  identities:
    alice: {provider: jwts, claims: {sub: alice}}
    bob: {provider: opaque, claims: {sub: bob}}
  objects: [{resource: threads, id: 8f9c3a52-7f0e-4d8b-9d53-6f1c2a4b7e01, metadata: {owner: alice}}]
  requests:
    mine: {path: /threads/8f9c3a52-7f0e-4d8b-9d53-6f1c2a4b7e01}
    missing: {path: /threads/8f9c3a52-7f0e-4d8b-9d53-6f1c2a4b7e02}
  tables: [{name: Look-ups, allow: {alice: [mine]}}]
`, "ADDRESS", listener.Addr().String())
	path := filepath.Join(t.TempDir(), "all.yaml")
	if err := os.WriteFile(path, []byte(manifests), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"test", path, "--min-coverage", "100"},
		{"explain", "--config", path, "--path", "/threads/8f9c3a52-7f0e-4d8b-9d53-6f1c2a4b7e01", "--user", "alice"},
	} {
		var out, errOut bytes.Buffer
		if code := run(args, &out, &errOut); code != exitGood {
			t.Errorf("%s: exit code %d\n%s%s", args[0], code, &out, &errOut)
		}
	}
	// Whoever dialled was accepted before this one.
	last, err := new(net.Dialer).DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprint(last, "x"); err != nil {
		t.Error(err)
	}
	var one [1]byte
	_, _ = last.Read(one[:]) // until the other end has closed it
	_ = last.Close()
	_ = listener.Close()
	<-done
	if n := came.Load(); n != 1 {
		t.Errorf("%d connections, want the test's own", n)
	}
}
