package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/usher-authz/usher/envoy/e2e/stack"
)

// oauth is a real provider of every kind of token, and a gate with a policy per kind, told apart by their hosts.
type oauth struct {
	provider *stack.OAuth
	gate     *stack.Gate
	backend  string // its URL
}

// The hosts of oauthManifests.
const (
	jwtHost    = "jwt.test"
	opaqueHost = "opaque.test"
)

// oauthManifests has the provider's issuer for ISSUER and the backend for BACKEND.
const oauthManifests = `
apiVersion: v1
kind: Secret
metadata: {name: client}
stringData: {clientSecret: rs-basic-secret, post: rs-post-secret}
---
apiVersion: usher.dev/v1alpha1
kind: IdentityProvider
metadata: {name: jwt}
spec:
  issuer: ISSUER
  allowHTTP: true
  audiences: [api]
  jwt: {typ: [at+jwt], algorithms: [ES256]}
  identity: {identity: claims.client_id}
---
apiVersion: usher.dev/v1alpha1
kind: IdentityProvider
metadata: {name: opaque}
spec:
  issuer: ISSUER
  allowHTTP: true
  audiences: [api]
  introspection: {endpoint: ISSUER/token/introspection, clientID: rs-basic, clientSecretRef: {name: client}, cacheFor: 1s}
  identity: {identity: claims.client_id}
---
apiVersion: usher.dev/v1alpha1
kind: AuthPolicy
metadata: {name: jwt}
spec:
  hosts: [jwt.test, "127.0.0.1"]
  providers: [jwt]
  api: {routes: [{method: GET, path: /ok, public: true}, {method: GET, path: /me, on: "me:read"}]}
  backend: {url: BACKEND}
  rules: [{on: "me:read", allow: "true"}]
  identityHeaders: {x-user-id: user.identity}
---
apiVersion: usher.dev/v1alpha1
kind: AuthPolicy
metadata: {name: opaque}
spec:
  hosts: [opaque.test]
  providers: [opaque]
  api: {routes: [{method: GET, path: /me, on: "me:read"}]}
  backend: {url: BACKEND}
  rules: [{on: "me:read", allow: "true"}]
  identityHeaders: {x-user-id: user.identity}
`

// clientKeySecret has the private key of client rs-jwt for CLIENTKEY, as a JWK.
const clientKeySecret = `
---
apiVersion: v1
kind: Secret
metadata: {name: client-key}
stringData: {privateKey: 'CLIENTKEY'}
`

// clientKey is the private key of client rs-jwt, which the provider made.
func (o *oauth) clientKey(ctx context.Context, t *testing.T) string {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, o.provider.Issuer+"/test/client-key", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := oauthClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("the provider's client key: %v %s", err, res.Status)
	}
	return string(b)
}

// rewrite replaces a manifest as a whole.
func rewrite(t *testing.T, name, text string) {
	t.Helper()
	next := filepath.Join(filepath.Dir(name), "."+filepath.Base(name)+".next")
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, name); err != nil {
		t.Fatal(err)
	}
}

// startOAuth starts a provider and a gate before a backend that answers with the user's name. Each test has its own: none
// sees another's keys, or its tokens in a cache.
func startOAuth(ctx context.Context, t *testing.T, name string, manifests string, envoyArgs ...string) *oauth {
	t.Helper()
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get("X-User-Id"))
	}))
	t.Cleanup(backend.Close)
	provider, err := parts.NewOAuth(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(provider.Stop)
	o := &oauth{provider: provider, backend: backend.URL}
	if strings.Contains(manifests, "CLIENTKEY") {
		manifests = strings.Replace(manifests, "CLIENTKEY", o.clientKey(ctx, t), 1)
	}
	text := strings.NewReplacer("ISSUER", provider.Issuer, "BACKEND", backend.URL).Replace(manifests)
	o.gate, err = parts.NewGateAs(ctx, "oauth-"+name, stack.GateOptions{
		Manifests: text,
		// A busy machine must not make a 503 of an answer.
		EnvoyArgs: append([]string{"--check-timeout=5s"}, envoyArgs...),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.gate.Usher.Stop)
	t.Cleanup(o.gate.Envoy.Stop)
	return o
}

// post sends a form to the provider as a client with a secret and decodes the answer, unless into is nil.
func (o *oauth) post(ctx context.Context, t *testing.T, path, client string, form url.Values, header http.Header, into any) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.provider.Issuer+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		req.Header[name] = values
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if client != "" {
		req.SetBasicAuth(client, client+"-secret")
	}
	res, err := oauthClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("the provider's %s: %v %s: %s", path, err, res.Status, b)
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatalf("the provider's %s: %v", path, err)
	}
}

// token gets an access token by the client credentials grant (RFC 6749, section 4.4). The format is jwt or opaque.
func (o *oauth) token(ctx context.Context, t *testing.T, format, client string, header http.Header) string {
	t.Helper()
	var answer struct {
		Access string `json:"access_token"`
	}
	o.post(ctx, t, "/token", client, url.Values{
		"grant_type": {"client_credentials"}, "resource": {"https://" + format + ".example.com/"},
	}, header, &answer)
	if isJWT := strings.Count(answer.Access, ".") == 2; isJWT != (format == "jwt") {
		t.Fatalf("the provider's token is not %s", format)
	}
	return answer.Access
}

// command uses one of the provider's switches.
func (o *oauth) command(ctx context.Context, t *testing.T, name string) {
	t.Helper()
	o.post(ctx, t, "/test/"+name, "", nil, nil, nil)
}

// fetches returns how often a path of the provider was asked for.
func (o *oauth) fetches(ctx context.Context, t *testing.T, path string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, o.provider.Issuer+"/test/counts", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := oauthClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	counts := map[string]int{}
	if err := json.NewDecoder(res.Body).Decode(&counts); err != nil {
		t.Fatal(err)
	}
	return counts[path]
}

// oauthClient keeps no connection, which a stopped provider would break.
var oauthClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// me asks the gate who the token's user is.
func (o *oauth) me(ctx context.Context, host, token string) (reply, error) {
	return askMe(ctx, client, o.gate.URL, host, http.Header{"Authorization": {"Bearer " + token}})
}

func askMe(ctx context.Context, c *http.Client, base, host string, header http.Header) (reply, error) {
	return askAt(ctx, c, base, "/me", host, header)
}

// askAt gets a path; an empty host is the URL's own.
func askAt(ctx context.Context, c *http.Client, base, path, host string, header http.Header) (reply, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
	if err != nil {
		return reply{}, err
	}
	req.Host = host
	for name, values := range header {
		req.Header[name] = values
	}
	res, err := c.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer res.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(res.Body); err != nil {
		return reply{}, err
	}
	return reply{res.StatusCode, res.Header, b.String()}, nil
}

// until asks until the answer has this status. Meanwhile it may be one of the others.
func until(ctx context.Context, t *testing.T, status int, f func() (reply, error), others ...int) reply {
	t.Helper()
	for {
		r, err := f()
		if err != nil {
			t.Fatal(err)
		}
		if r.status == status {
			return r
		}
		ok := false
		for _, o := range others {
			ok = ok || r.status == o
		}
		if !ok {
			t.Fatalf("got %d, want %d: %q %s", r.status, status, r.header.Get("WWW-Authenticate"), r.body)
		}
		select {
		case <-ctx.Done():
			t.Fatalf("still %d, want %d", r.status, status)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
