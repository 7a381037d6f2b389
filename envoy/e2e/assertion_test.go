package e2e_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/usher-authz/usher/envoy/e2e/stack"
)

const (
	assertionIssuer   = "https://usher.example.com"
	assertionAudience = "https://agents.example.com"
)

// assertionWorld is a gate whose policy asserts, before a backend; the test knows the gate's key.
type assertionWorld struct {
	gate *stack.Gate
	key  *ecdsa.PrivateKey
	kid  string
	env  []string // of a handler
}

// startAsserting starts the gate. Its admin server is where handlers get the keys.
func startAsserting(ctx context.Context, t *testing.T, name, backend string) *assertionWorld {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	quoted, err := json.Marshal(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	if err != nil {
		t.Fatal(err)
	}
	manifests := strings.NewReplacer("ISSUER", parts.Issuer, "BACKEND", backend, "KEY", string(quoted)).Replace(`
apiVersion: usher.dev/v1alpha1
kind: IdentityProvider
metadata: {name: provider}
spec:
  issuer: ISSUER
  allowHTTP: true
  audiences: [langgraph]
  identity: {permissions: 'claims.?scope.orValue("").split(" ")'}
---
apiVersion: usher.dev/v1alpha1
kind: AuthPolicy
metadata: {name: agents}
spec:
  hosts: ["*"]
  providers: [provider]
  api: {preset: langgraph}
  backend: {url: BACKEND}
  rules: [{on: "*", allow: "true"}]
  assertion:
    header: usher-assertion
    issuer: ` + assertionIssuer + `
    audience: ` + assertionAudience + `
    keyRefs: [{name: assertion-key}]
    claims: {permissions: user.permissions}
---
apiVersion: v1
kind: Secret
metadata: {name: assertion-key}
stringData: {privateKey: KEY}
`)
	w := &assertionWorld{key: key}
	if w.gate, err = parts.NewGateNotReady(ctx, name, manifests); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.gate.Usher.Stop)
	t.Cleanup(w.gate.Envoy.Stop)
	jwks := w.gate.UsherAdmin + "/assertion/jwks.json"
	r, err := askAt(ctx, oauthClient, w.gate.UsherAdmin, "/assertion/jwks.json", "", nil)
	if err != nil || r.status != http.StatusOK {
		t.Fatalf("the published keys: %v %d", err, r.status)
	}
	var set struct {
		Keys []map[string]string
	}
	if err := json.Unmarshal([]byte(r.body), &set); err != nil || len(set.Keys) != 1 || set.Keys[0]["d"] != "" {
		t.Fatalf("the published keys are %s", r.body)
	}
	w.kid = set.Keys[0]["kid"]
	w.env = []string{"USHER_JWKS_URL=" + jwks, "USHER_ISSUER=" + assertionIssuer, "USHER_AUDIENCE=" + assertionAudience}
	return w
}

// sign makes a token as the gate does, except for what change says; a nil value leaves a member out.
func (w *assertionWorld) sign(t *testing.T, key *ecdsa.PrivateKey, header, change map[string]any) string {
	t.Helper()
	now := time.Now().Unix()
	head := map[string]any{"alg": "ES256", "typ": "usher-assertion+jwt", "kid": w.kid}
	claims := map[string]any{"iss": assertionIssuer, "aud": assertionAudience, "sub": "mallory", "iat": now, "nbf": now, "exp": now + 60}
	for into, from := range map[*map[string]any]map[string]any{&head: header, &claims: change} {
		for name, v := range from {
			if (*into)[name] = v; v == nil {
				delete(*into, name)
			}
		}
	}
	part := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	input := part(head) + "." + part(claims)
	sum := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	signature := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	return input + "." + base64.RawURLEncoding.EncodeToString(signature)
}

type assertionCase struct {
	name      string
	assertion *string // nil: no header
	want      int
}

// assertionCases are what a handler must tell apart. good is one that the gate made.
func (w *assertionWorld) cases(t *testing.T, good string) []assertionCase {
	t.Helper()
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().Unix()
	text := func(s string) *string { return &s }
	signed := func(header, claims map[string]any) *string { return text(w.sign(t, w.key, header, claims)) }
	parts := strings.Split(good, ".")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	root := base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(payload), `"sub":"`, `"sub":"root-`, 1)))
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"usher-assertion+jwt"}`))
	return []assertionCase{
		{"of the gate", &good, 200},
		{"made as the gate does", signed(nil, nil), 200},
		{"none", nil, 401},
		{"empty", text(""), 401},
		{"no token", text("alice"), 401},
		{"expired", signed(nil, map[string]any{"iat": now - 120, "nbf": now - 120, "exp": now - 60}), 401},
		{"not valid yet", signed(nil, map[string]any{"nbf": now + 60}), 401},
		{"without an end", signed(nil, map[string]any{"exp": nil}), 401},
		{"without a user", signed(nil, map[string]any{"sub": nil}), 401},
		{"forged by another key", text(w.sign(t, other, nil, nil)), 401},
		{"forged by an unknown key", text(w.sign(t, other, map[string]any{"kid": "other"}, nil)), 401},
		{"changed", text(parts[0] + "." + root + "." + parts[2]), 401},
		{"not signed", text(none + "." + parts[1] + "."), 401},
		{"for another backend", signed(nil, map[string]any{"aud": "https://other.example.com"}), 401},
		{"for no backend", signed(nil, map[string]any{"aud": nil}), 401},
		{"of another gate", signed(nil, map[string]any{"iss": "https://other.example.com"}), 401},
		{"another kind of token", signed(map[string]any{"typ": "at+jwt"}, nil), 401},
		{"a token without a kind", signed(map[string]any{"typ": nil}, nil), 401},
	}
}

func TestTheDocumentedJavaScriptHandlerInARealLangGraphServer(t *testing.T) {
	ctx := begin(t)
	backend, err := parts.FreeURL()
	if err != nil {
		t.Fatal(err)
	}
	w := startAsserting(ctx, t, "assertion-js", backend)
	server, err := parts.NewLangGraphWithAuth(ctx, backend, w.env...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	w.gate.Ping = func(ctx context.Context, g *stack.Gate) error {
		r, err := askAt(ctx, client, g.URL, "/info", "", nil) // the one route that needs no user at the server
		if err == nil && r.status != http.StatusOK {
			err = fmt.Errorf("status %d", r.status)
		}
		return err
	}
	if err := w.gate.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	t.Run("through the gate a user gets through, whatever assertion she sends herself", func(t *testing.T) {
		for _, forged := range []string{"", "forged", w.sign(t, w.key, nil, nil)} {
			header := http.Header{"Usher-Assertion": {forged}}
			r := want(ctx, t, w.gate, http.StatusOK, call{method: "POST", path: "/threads", token: alice, body: "{}", header: header})
			if strings.Contains(r.body, "eyJ") {
				t.Errorf("the thread keeps a token: %s", r.body)
			}
		}
	})
	good := w.arrives(ctx, t)
	for _, c := range w.cases(t, good) {
		t.Run(c.name, func(t *testing.T) {
			header := http.Header{"Content-Type": {"application/json"}}
			if c.assertion != nil {
				header.Set("Usher-Assertion", *c.assertion)
			}
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, backend+"/threads/search", strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header = header
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			if res.StatusCode != c.want {
				t.Errorf("status %d, want %d", res.StatusCode, c.want)
			}
		})
	}
	t.Run("a run keeps no assertion", func(t *testing.T) {
		thread := want(ctx, t, w.gate, http.StatusOK, call{method: "POST", path: "/threads", token: alice, body: "{}"}).object(t)["thread_id"].(string)
		want(ctx, t, w.gate, http.StatusOK, call{method: "POST", path: "/threads/" + thread + "/runs/wait", token: alice, body: `{"assistant_id":"agent","input":{"messages":[{"role":"user","content":"Hello"}]}}`})
		for _, path := range []string{"/threads/" + thread, "/threads/" + thread + "/state", "/threads/" + thread + "/runs"} {
			if r := want(ctx, t, w.gate, http.StatusOK, call{method: "GET", path: path, token: alice}); strings.Contains(r.body, "usher-assertion") || strings.Contains(r.body, "eyJ") {
				t.Errorf("%s has the assertion: %s", path, r.body)
			}
		}
	})
}

func TestTheDocumentedPythonHandler(t *testing.T) {
	ctx := begin(t)
	w := startAsserting(ctx, t, "assertion-py", parts.Backend)
	good := w.arrives(ctx, t)
	cases := w.cases(t, good)
	var list []*string
	for _, c := range cases {
		list = append(list, c.assertion)
	}
	handled, err := parts.PythonAuth(ctx, list, w.env...)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range cases {
		if handled[i].Status != c.want {
			t.Errorf("%s: status %d, want %d", c.name, handled[i].Status, c.want)
		}
	}
	if u := handled[0].User; u["identity"] != "alice" || len(u["permissions"].([]any)) == 0 {
		t.Errorf("the user is %v", u)
	}
	dead, err := parts.FreeURL()
	if err != nil {
		t.Fatal(err)
	}
	if handled, err = parts.PythonAuth(ctx, list[:1], append([]string{"USHER_JWKS_URL=" + dead}, w.env[1:]...)...); err != nil || handled[0].Status != 503 {
		t.Errorf("without keys: %v, %v, want 503", handled, err)
	}
}

// arrives returns the assertion about Alice that a backend of the same gate gets.
func (w *assertionWorld) arrives(ctx context.Context, t *testing.T) string {
	t.Helper()
	got := make(chan string, 100)
	backend := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.Header.Get("Usher-Assertion") }))
	t.Cleanup(backend.Close)
	text, err := os.ReadFile(w.gate.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	g, err := parts.NewGateAs(ctx, "arrives-"+strings.TrimPrefix(t.Name(), "TestTheDocumented"), stack.GateOptions{
		Manifests: strings.Replace(string(text), "backend: {url: "+backendOf(string(text))+"}", "backend: {url: "+backend.URL+"}", 1),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Usher.Stop)
	t.Cleanup(g.Envoy.Stop)
	for len(got) > 0 {
		<-got // of the public route that says that the gate is ready
	}
	want(ctx, t, g, http.StatusOK, call{method: "GET", path: "/threads/00000000-0000-0000-0000-000000000000", token: alice})
	return <-got
}

func backendOf(manifests string) string {
	_, rest, _ := strings.Cut(manifests, "backend: {url: ")
	url, _, _ := strings.Cut(rest, "}")
	return url
}
