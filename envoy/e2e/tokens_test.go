package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"
)

func TestTokensOfARealProvider(t *testing.T) {
	ctx := begin(t)
	o := startOAuth(ctx, t, "tokens", oauthManifests)
	for _, c := range []struct{ format, host string }{{"jwt", jwtHost}, {"opaque", opaqueHost}} {
		t.Run(c.format+" access tokens are accepted", func(t *testing.T) {
			token := o.token(ctx, t, c.format, "machine", nil)
			r := until(ctx, t, http.StatusOK, func() (reply, error) { return o.me(ctx, c.host, token) }, http.StatusServiceUnavailable)
			if r.body != "machine" {
				t.Errorf("the backend was told of user %q", r.body)
			}
			bad := token[:len(token)-5] + "AAAAA"
			r = until(ctx, t, http.StatusUnauthorized, func() (reply, error) { return o.me(ctx, c.host, bad) }, http.StatusServiceUnavailable)
			if challenge := r.header.Get("WWW-Authenticate"); !strings.Contains(challenge, `error="invalid_token"`) {
				t.Errorf("the challenge is %q", challenge)
			}
		})
	}
}

func TestAnOpaqueTokenIsAskedAboutAndRefusedOnceTheProviderRevokedIt(t *testing.T) {
	const byBasic = "clientID: rs-basic, clientSecretRef: {name: client}"
	for method, is := range map[string]string{
		"client_secret_basic": byBasic,
		"client_secret_post":  "clientID: rs-post, clientAuthMethod: client_secret_post, clientSecretRef: {name: client, key: post}",
		"private_key_jwt":     "clientID: rs-jwt, clientAuthMethod: private_key_jwt, privateKeyRef: {name: client-key}",
	} {
		t.Run(method, func(t *testing.T) {
			ctx := begin(t)
			o := startOAuth(ctx, t, method, strings.Replace(oauthManifests, byBasic, is, 1)+clientKeySecret)
			token := o.token(ctx, t, "opaque", "machine", nil)
			ask := func() (reply, error) { return o.me(ctx, opaqueHost, token) }
			until(ctx, t, http.StatusOK, ask, http.StatusServiceUnavailable)
			o.post(ctx, t, "/token/revocation", "machine", url.Values{"token": {token}}, nil, nil) // RFC 7009
			begin := time.Now()
			until(ctx, t, http.StatusUnauthorized, ask, http.StatusOK, http.StatusServiceUnavailable)
			t.Logf("refused after %v, answers are good for 1s", time.Since(begin).Round(time.Millisecond))
		})
	}
	t.Run("private_key_jwt: another key is 503, and the right one counts as soon as the file has it", func(t *testing.T) {
		ctx := begin(t)
		o := startOAuth(ctx, t, "wrong-key", strings.Replace(oauthManifests, byBasic, "clientID: rs-jwt, clientAuthMethod: private_key_jwt, privateKeyRef: {name: client-key}", 1)+clientKeySecret)
		text, err := os.ReadFile(o.gate.Manifest)
		if err != nil {
			t.Fatal(err)
		}
		token := o.token(ctx, t, "opaque", "machine", nil)
		ask := func() (reply, error) { return o.me(ctx, opaqueHost, token) }
		until(ctx, t, http.StatusOK, ask, http.StatusServiceUnavailable)
		// The name that finds the key at the provider stays, and the key is another one.
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		block := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
		quoted, err := json.Marshal(string(block))
		if err != nil {
			t.Fatal(err)
		}
		other := strings.Replace(oauthManifests, byBasic, "clientID: rs-jwt, clientAuthMethod: private_key_jwt, privateKeyRef: {name: client-key}", 1) +
			"---\napiVersion: v1\nkind: Secret\nmetadata: {name: client-key}\nstringData: {privateKey: " + string(quoted) + "}\n"
		other = strings.NewReplacer("ISSUER", o.provider.Issuer, "BACKEND", o.backend).Replace(other)
		rewrite(t, o.gate.Manifest, other)
		eventually(ctx, t, "/readyz says what is wrong", func() error { // a provider that takes too long to answer is 503 as well
			until(ctx, t, http.StatusServiceUnavailable, ask, http.StatusOK)
			ready, err := askAt(ctx, oauthClient, o.gate.UsherAdmin, "/readyz", "", nil)
			if err == nil && !strings.Contains(ready.body, "401 invalid_client: the client id is wrong, or the provider has another key for it") {
				err = errors.New(ready.body)
			}
			return err
		})
		rewrite(t, o.gate.Manifest, string(text))
		until(ctx, t, http.StatusOK, ask, http.StatusServiceUnavailable)
		if strings.Contains(o.gate.Usher.Log(), token) {
			t.Error("the log has the token")
		}
	})
	t.Run("with a wrong secret it is 503, as the fault is not the client's", func(t *testing.T) {
		ctx := begin(t)
		o := startOAuth(ctx, t, "wrong-secret", strings.Replace(oauthManifests, "clientSecret: rs-basic-secret", "clientSecret: rs-basic-wrong", 1))
		token := o.token(ctx, t, "opaque", "machine", nil)
		for range 3 {
			r, err := o.me(ctx, opaqueHost, token)
			if err != nil {
				t.Fatal(err)
			}
			if r.status != http.StatusServiceUnavailable || r.header.Get("Retry-After") == "" {
				t.Errorf("got %d, want 503 with Retry-After", r.status)
			}
		}
		if log := o.gate.Usher.Log(); strings.Contains(log, token) || strings.Contains(log, "rs-basic-wrong") {
			t.Error("the log has the token or the secret")
		}
	})
}

// The example's policy before the real LangGraph server, with another provider: who vouches changes nothing else.
func TestConversationsWithOpaqueTokensOfALangGraphServer(t *testing.T) {
	ctx := begin(t)
	text, err := os.ReadFile(gate.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	manifests := string(text)
	for _, change := range [][2]string{
		{"issuer: " + parts.Issuer + "\n", "issuer: ISSUER\n  introspection: {endpoint: ISSUER/token/introspection, clientID: rs-basic, clientSecretRef: {name: client}, cacheFor: 1s}\n"},
		{"audiences: [langgraph]", "audiences: [api]"},
		{"identity: claims.sub\n", "identity: claims.client_id\n"},
		{"displayName: claims.?name.orValue(claims.sub)", "displayName: claims.client_id"},
		{`permissions: claims.?scope.orValue("").split(" ")`, `permissions: '["threads:read", "threads:write"]'`},
	} {
		if strings.Count(manifests, change[0]) != 1 {
			t.Fatalf("the example has not once %q", change[0])
		}
		manifests = strings.Replace(manifests, change[0], change[1], 1)
	}
	manifests += "---\napiVersion: v1\nkind: Secret\nmetadata: {name: client}\nstringData: {clientSecret: rs-basic-secret}\n"
	o := startOAuth(ctx, t, "langgraph", manifests)
	mine, theirs := o.token(ctx, t, "opaque", "machine", nil), o.token(ctx, t, "opaque", "neighbour", nil)
	r := want(ctx, t, o.gate, http.StatusOK, call{method: "POST", path: "/threads", token: mine, body: `{}`})
	id, _ := r.object(t)["thread_id"].(string)
	thread := call{method: "GET", path: "/threads/" + id, token: mine}
	want(ctx, t, o.gate, http.StatusOK, thread)
	thread.token = theirs
	want(ctx, t, o.gate, http.StatusNotFound, thread)
	o.post(ctx, t, "/token/revocation", "machine", url.Values{"token": {mine}}, nil, nil)
	thread.token = mine
	until(ctx, t, http.StatusUnauthorized, func() (reply, error) { return ask(ctx, t, o.gate, thread), nil }, http.StatusOK, http.StatusServiceUnavailable)
}
