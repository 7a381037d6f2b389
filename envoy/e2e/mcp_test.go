package e2e_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/usher-authz/usher/envoy/e2e/stack"
)

// mcpManifests have the provider's issuer for ISSUER, the server's URL for BACKEND, and the gate's for GATE.
const mcpManifests = `
apiVersion: usher.dev/v1alpha1
kind: IdentityProvider
metadata: {name: company}
spec:
  issuer: ISSUER
  allowHTTP: true
  audiences: [langgraph]
  identity: {permissions: 'claims.?scope.orValue("").split(" ")'}
---
apiVersion: usher.dev/v1alpha1
kind: AuthPolicy
metadata: {name: tools}
spec:
  hosts: ["127.0.0.1"]
  providers: [company]
  api: {preset: langgraph}
  backend: {url: BACKEND}
  protectedResource: {resource: GATE/mcp, scopes: ["threads:read", "threads:write"], name: Agents}
  rules:
    - {on: "*", allow: "false"}
    - {on: assistants, allow: "'threads:read' in user.permissions"}
    - {on: threads, allow: "'threads:write' in user.permissions"}
  identityHeaders: {x-user-id: user.identity}
`

// A Model Context Protocol client that is told nothing but a URL finds the login, and calls a tool as the user (RFC 9728,
// section 5; Model Context Protocol, Authorization).
func TestAnMCPClientFindsItsWayToTheLogin(t *testing.T) {
	ctx := begin(t)
	server, base, err := parts.NewMCP(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	text := strings.NewReplacer("ISSUER", parts.Issuer, "BACKEND", base).Replace(mcpManifests)
	gate, err := parts.NewGateAs(ctx, "mcp", stack.GateOptions{
		Manifests: strings.ReplaceAll(text, "GATE", "http://127.0.0.1:1"),
		EnvoyArgs: []string{"--check-timeout=5s"}, // a busy machine must not make a 503 of an answer
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(gate.Usher.Stop)
	t.Cleanup(gate.Envoy.Stop)
	// Where the resource is is known only now.
	if err := os.WriteFile(gate.Manifest, []byte(strings.ReplaceAll(text, "GATE", gate.URL)), 0o600); err != nil {
		t.Fatal(err)
	}
	metadata := gate.URL + "/.well-known/oauth-protected-resource/mcp"
	document := until(ctx, t, http.StatusOK, func() (reply, error) {
		r := ask(ctx, t, gate, call{method: http.MethodGet, path: "/.well-known/oauth-protected-resource/mcp"})
		if r.status == http.StatusOK && !strings.Contains(r.body, gate.URL) {
			r.status = http.StatusNotFound // the old one
		}
		return r, nil
	}, http.StatusNotFound, http.StatusUnauthorized, http.StatusServiceUnavailable).object(t)
	if document["resource"] != gate.URL+"/mcp" {
		t.Fatalf("the document is %v", document)
	}

	client, err := parts.NewScript(ctx, "mcp-client", "mcp/client.mjs", gate.URL+"/mcp", stack.ClientID, stack.RedirectURI)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Stop)
	var said struct {
		Login  string
		Tools  []string
		Result struct {
			Content []struct{ Text string }
		}
		Error string
		Asked []string
	}
	next := func() {
		t.Helper()
		if err := client.Next(ctx, &said); err != nil {
			t.Fatal(err)
		}
		if said.Error != "" {
			_ = client.Next(ctx, &said)
			t.Fatalf("%s\n%s", said.Error, strings.Join(said.Asked, "\n"))
		}
	}
	next()
	login, err := url.Parse(said.Login)
	if err != nil || !strings.HasPrefix(said.Login, parts.Issuer+"/") {
		t.Fatalf("the client wants to log in at %q, want the provider %s", said.Login, parts.Issuer)
	}
	for name, want := range map[string]string{
		"resource": gate.URL + "/mcp", "scope": "threads:read threads:write", "code_challenge_method": "S256", "client_id": stack.ClientID,
	} {
		if got := login.Query().Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	answer, err := parts.Authorize(ctx, stack.Alice, said.Login)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Send(map[string]any{"code": answer.Get("code")}); err != nil {
		t.Fatal(err)
	}
	next()
	if !slices.Contains(said.Tools, "agent") {
		t.Fatalf("tools %v", said.Tools)
	}
	use := map[string]any{"tool": "agent", "arguments": map[string]any{"messages": []any{map[string]any{"role": "user", "content": "Hello"}}}}
	if err := client.Send(use); err != nil {
		t.Fatal(err)
	}
	next()
	var result struct {
		User   string
		Values map[string]json.RawMessage
	}
	if len(said.Result.Content) != 1 {
		t.Fatalf("result %+v", said.Result)
	}
	if err := json.Unmarshal([]byte(said.Result.Content[0].Text), &result); err != nil {
		t.Fatal(err)
	}
	if result.User != "alice" || len(result.Values["messages"]) == 0 {
		t.Errorf("the tool ran for %q and said %s", result.User, result.Values)
	}
	next()
	// First a 401, then the document that it names, then the authorization server that that names.
	for i, want := range []string{
		"POST " + gate.URL + "/mcp 401",
		"GET " + metadata + " 200",
		"GET " + parts.Issuer + "/.well-known/",
	} {
		if i >= len(said.Asked) || !strings.HasPrefix(said.Asked[i], want) {
			t.Fatalf("request %d is not %s:\n%s", i+1, want, strings.Join(said.Asked, "\n"))
		}
	}
	if n := strings.Count(strings.Join(said.Asked, "\n"), "POST "+gate.URL+"/mcp 401"); n != 1 {
		t.Errorf("%d requests were answered 401", n)
	}
}
