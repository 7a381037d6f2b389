package e2e

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/usher-authz/usher/envoy/e2e/stack"
)

// A tenant may write in a namespace of his own, and must not touch others': what he tries, on a real API server.

// policyOf is a policy with that spec.
func policyOf(ns, name, spec string) string {
	return fmt.Sprintf("apiVersion: usher.dev/v1alpha1\nkind: AuthPolicy\nmetadata: {name: %s, namespace: %s}\nspec: {%s}\n---\n", name, ns, spec)
}

// anybody is the spec of a policy that lets everybody in.
func anybody(hosts string) string {
	return "hosts: [" + hosts + "], providers: [], api: {routes: [{method: GET, path: '/{rest=**}', public: true}]}"
}

// post asks for a POST of JSON, and returns what the client would be answered.
func (u *usher) post(t *testing.T, host, path, token, body string) int {
	t.Helper()
	r, err := u.check.Check(t.Context(), &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{
		Http: &authv3.AttributeContext_HttpRequest{Method: "POST", Path: path, Host: host, Scheme: "https", RawBody: []byte(body), HeaderMap: &corev3.HeaderMap{Headers: []*corev3.HeaderValue{
			{Key: "authorization", RawValue: []byte("Bearer " + token)}, {Key: "content-type", RawValue: []byte("application/json")},
		}}},
	}}})
	switch {
	case err != nil:
		return 0
	case r.GetOkResponse() != nil:
		return 200
	}
	return int(r.GetDeniedResponse().GetStatus().GetCode())
}

// anyCondition waits until the object has the condition of this generation, and returns it.
func anyCondition(t *testing.T, ns, object, kind string) (c condition) {
	t.Helper()
	eventually(t, func() (err error) {
		c, err = conditionOf(t, ns, object, kind)
		return err
	})
	return c
}

func TestShadowPoliciesSeeTheirOwnNamespaceOnly(t *testing.T) {
	own, good, evil := namespace(t, "shadow-own"), namespace(t, "shadow-good"), namespace(t, "shadow-evil")
	p := newProvider(t)
	var seen sync.Map // tokens and paths
	thief := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.Store(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")+r.URL.Path, true)
		_, _ = io.WriteString(w, `{"sub":"x","metadata":{}}`)
	}))
	defer thief.Close()
	u := startUsher(t, own, admin(t), "--all-namespaces", "--allow-local-addresses")
	const transfers = "api: {routes: [{method: POST, path: /transfers, on: transfers:create}, {method: GET, path: /items, on: items:read}]}, rules: [{on: '*'}]"
	kubectl(t, p.manifest(good, "idp", "")+policyOf(good, "one", "hosts: [one.test], providers: [idp], "+transfers)+
		p.manifest(evil, "same-issuer", "")+policyOf(evil, "mine", "hosts: [mine.test], providers: [same-issuer], "+transfers)+
		fmt.Sprintf("apiVersion: usher.dev/v1alpha1\nkind: IdentityProvider\nmetadata: {name: thief, namespace: %s}\nspec: {issuer: %q, audiences: [api], allowHTTP: true, userinfo: {endpoint: %q, anyAudience: true}}\n---\n", evil, p.url, thief.URL+"/me")+
		policyOf(evil, "tokens", "mode: Shadow, hosts: ['*'], providers: [thief], api: {routes: [{method: GET, path: '/{rest=**}', on: a:b}]}, rules: [{on: a:b}]")+
		policyOf(evil, "bodies", fmt.Sprintf("mode: Shadow, hosts: ['*'], providers: [same-issuer], backend: {url: %q}, api: {routes: [{method: POST, path: '/{p=**}', on: a:b, object: {get: '/stolen/{id}', id: 'value.body.account'}}]}, rules: [{on: a:b, filter: {x: user.identity}}]", thief.URL))+
		policyOf(evil, "idle", "mode: Shadow, hosts: [one.test], providers: [same-issuer], "+transfers), "apply", "-f", "-")
	wantCondition(t, evil, "authpolicy/tokens", "Programmed", "True", "Programmed", "In force.")
	wantCondition(t, evil, "authpolicy/bodies", "Programmed", "True", "Programmed", "In force.")
	wantCondition(t, evil, "authpolicy/idle", "Programmed", "True", "Programmed", "watches nothing")
	victims, own1 := p.Mint(), p.Mint()
	u.wantStatus(t, 200, "one.test", "GET", "/items", victims)
	ask := func() {
		for range 20 {
			u.status(t.Context(), "one.test", "GET", "/items", victims)
			u.status(t.Context(), "nobody.test", "GET", "/items", victims)
			if got := u.post(t, "one.test", "/transfers", victims, `{"account":"DE89370400440532013000"}`); got != 200 {
				t.Errorf("a transfer: %d", got)
			}
		}
	}
	ask()
	// What the tenant's own policy guards, they do see.
	eventually(t, func() error {
		u.status(t.Context(), "mine.test", "GET", "/items", own1)
		u.post(t, "mine.test", "/transfers", own1, `{"account":"1"}`)
		for _, what := range []string{own1 + "/me", "/stolen/1"} {
			if _, ok := seen.Load(what); !ok {
				return fmt.Errorf("%s was not seen", what)
			}
		}
		return nil
	})
	ask()
	u.status(t.Context(), "mine.test", "GET", "/items", p.Mint())
	for _, what := range []string{victims + "/me", "/stolen/DE89370400440532013000"} {
		if _, ok := seen.Load(what); ok {
			t.Errorf("another tenant was sent %.40s...", what)
		}
	}
	counted := u.metrics(t)
	if strings.Contains(counted, fmt.Sprintf(`policy="%s/idle"`, evil)) || !strings.Contains(counted, fmt.Sprintf(`policy="%s/tokens"`, evil)) {
		t.Errorf("who looked at requests:\n%s", counted)
	}
}

func (u *usher) metrics(t *testing.T) string {
	t.Helper()
	response, err := http.Get(u.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestHostsOfNamespaces(t *testing.T) {
	own, good, evil := namespace(t, "hosts-own"), namespace(t, "hosts-good"), namespace(t, "hosts-evil")
	p := newProvider(t)
	older := func() { time.Sleep(1100 * time.Millisecond) } // the age of objects is in whole seconds
	all := []string{"--namespaces", own + "," + good + "," + evil, "--allow-local-addresses"}
	free := startUsher(t, own, admin(t), all...)
	kubectl(t, p.manifest(good, "idp", "")+guard(good, "secret-project", "'*.good.test'", "idp", ""), "apply", "-f", "-")
	free.wantStatus(t, 401, "admin.good.test", "GET", "/items", "")
	older()
	kubectl(t, policyOf(evil, "under", anybody("admin.good.test"))+policyOf(evil, "over", anybody("'*'"))+policyOf(evil, "beside", anybody("evil.test")), "apply", "-f", "-")
	free.wantStatus(t, 200, "evil.test", "GET", "/items", "")
	for _, name := range []string{"under", "over"} {
		c := anyCondition(t, evil, "authpolicy/"+name, "Accepted")
		if c.Status != "False" || c.Reason != "Conflicted" || strings.Contains(c.Message, "secret-project") || strings.Contains(c.Message, good) {
			t.Errorf("%s: %+v, want Conflicted, and nothing of whose the host is", name, c)
		}
	}
	if got := free.status(t.Context(), "admin.good.test", "GET", "/items", ""); got != 401 {
		t.Errorf("admin.good.test without a token: %d", got)
	}
	free.part.Stop()
	kubectl(t, "", "delete", "authpolicies", "--all", "-n", evil)

	t.Run("what_the_clusters_owner_grants", func(t *testing.T) {
		port, err := stack.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		address := fmt.Sprintf("127.0.0.1:%d", port)
		// evil's objects are the older ones.
		kubectl(t, "", "delete", "authpolicies", "--all", "-n", good)
		kubectl(t, policyOf(evil, "parked", anybody("mine.evil.test")), "apply", "-f", "-")
		older()
		kubectl(t, guard(good, "secret-project", "app.example.test", "idp", "")+p.manifest(own, "idp", "")+guard(own, "platform", "'*.example.test'", "idp", ""), "apply", "-f", "-")
		u := startUsher(t, own, admin(t), append(all, "--namespace-hosts", good+"=app.example.test", "--namespace-hosts", evil+"=*.evil.test,evil.test",
			"--webhook-address", address, "--webhook-host", "127.0.0.1", "--webhook-configuration", "")...)
		u.wantStatus(t, 200, "mine.evil.test", "GET", "/items", "")
		wantCondition(t, good, "authpolicy/secret-project", "Accepted", "True", "Accepted", "")
		wantCondition(t, own, "authpolicy/platform", "Accepted", "True", "Accepted", "")
		kubectl(t, policyOf(evil, "parked", anybody("mine.evil.test, app.example.test, new.example.test")), "apply", "-f", "-")
		wantCondition(t, evil, "authpolicy/parked", "Accepted", "False", "HostNotGranted",
			fmt.Sprintf(`spec.hosts[1]: found host "app.example.test", which is not granted to namespace %q, expected *.evil.test or evil.test (usher serve --namespace-hosts %s=HOST grants one)`, evil, evil))
		wantCondition(t, evil, "authpolicy/parked", "Programmed", "False", "LastGoodInForce", "")
		for host, want := range map[string]int{"app.example.test": 401, "new.example.test": 401, "mine.evil.test": 200} {
			u.wantStatus(t, want, host, "GET", "/items", "")
		}
		eventually(t, func() error { // the webhook says the same
			answer, err := review(address, evil, "AuthPolicy", evil, "another", map[string]any{"hosts": []any{"app.example.test"}, "providers": []any{}, "api": map[string]any{"routes": []any{map[string]any{"method": "GET", "path": "/x", "public": true}}}})
			if err == nil && !strings.Contains(answer, "which is not granted to namespace") {
				err = fmt.Errorf("%s", answer)
			}
			return err
		})
	})
}

// review sends an AdmissionReview as anybody can who reaches the port.
func review(address, requested, kind, ns, name string, spec map[string]any) (string, error) {
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // loopback
	defer client.CloseIdleConnections()
	body, err := json.Marshal(map[string]any{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": map[string]any{
		"uid": "1", "operation": "CREATE", "namespace": requested, "object": map[string]any{
			"apiVersion": "usher.dev/v1alpha1", "kind": kind, "metadata": map[string]any{"name": name, "namespace": ns}, "spec": spec,
		},
	}})
	if err != nil {
		return "", err
	}
	r, err := client.Post("https://"+address+"/validate", "application/json", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s", r.Status, text)
	}
	return string(text), err
}

func TestReviewsTellNothingOfSecrets(t *testing.T) {
	own, good := namespace(t, "review-own"), namespace(t, "review-good")
	port, err := stack.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	kubectl(t, "", "create", "secret", "generic", "payment-gateway", "-n", good, "--from-literal=stripe-live-key=sk_live_123", "--from-literal=rotation-2026=x")
	kubectl(t, fmt.Sprintf("{apiVersion: v1, kind: ConfigMap, metadata: {name: app, namespace: %s}, data: {app.yaml: 'openapi: 3.1.0\npaths:\n  /internal/refunds-of-acme: {get: {operationId: bad}}\n', other.yaml: 'password: hunter2\n'}}", good), "apply", "-f", "-")
	startUsher(t, own, admin(t), "--all-namespaces", "--webhook-address", address, "--webhook-host", "127.0.0.1", "--webhook-configuration", "")
	provider := func(name, key string) map[string]any {
		return map[string]any{"issuer": "https://a.example.com", "audiences": []any{"a"}, "introspection": map[string]any{"endpoint": "https://a.example.com/i", "clientID": "a", "clientSecretRef": map[string]any{"name": name, "key": key}}}
	}
	eventually(t, func() error {
		_, err := review(address, good, "IdentityProvider", good, "forged", provider("none", "x"))
		return err
	})
	ask := func(requested, kind string, spec map[string]any) string {
		t.Helper()
		answer, err := review(address, requested, kind, good, "forged", spec)
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	t.Run("of_another_namespace_than_the_requests", func(t *testing.T) {
		if got := ask("somewhere-else", "IdentityProvider", provider("payment-gateway", "x")); !strings.Contains(got, `"allowed":false`) || !strings.Contains(got, "which the request names") {
			t.Error(got)
		}
	})
	t.Run("whether_there_is_one", func(t *testing.T) {
		one, none := ask(good, "IdentityProvider", provider("payment-gateway", "stripe-live-key")), ask(good, "IdentityProvider", provider("nothing-there", "stripe-live-key"))
		if strings.ReplaceAll(one, "payment-gateway", "nothing-there") != none || !strings.Contains(none, "which was not read yet") || !strings.Contains(none, `"allowed":true`) {
			t.Errorf("%s\n%s", one, none)
		}
	})
	t.Run("what_stands_in_a_ConfigMap", func(t *testing.T) {
		for _, key := range []string{"app.yaml", "other.yaml", "none"} {
			got := ask(good, "AuthPolicy", map[string]any{"hosts": []any{"x.test"}, "providers": []any{}, "rules": []any{map[string]any{"on": "*"}}, "api": map[string]any{"openapi": map[string]any{"configMapRef": map[string]any{"name": "app", "key": key}}}})
			if strings.Contains(got, "acme") || strings.Contains(got, "hunter2") || key == "none" && strings.Contains(got, "app.yaml") {
				t.Errorf("%s: %s", key, got)
			}
		}
	})
	t.Run("and_a_status_lists_no_keys", func(t *testing.T) {
		spec, err := json.Marshal(provider("payment-gateway", "guess"))
		if err != nil {
			t.Fatal(err)
		}
		kubectl(t, fmt.Sprintf("{apiVersion: usher.dev/v1alpha1, kind: IdentityProvider, metadata: {name: guess, namespace: %s}, spec: %s}", good, spec), "apply", "-f", "-")
		c := anyCondition(t, good, "identityprovider/guess", "Accepted")
		if !strings.Contains(c.Message, `found no key "guess" in Secret "payment-gateway"`) || strings.Contains(c.Message, "stripe") || strings.Contains(c.Message, "rotation") {
			t.Errorf("%+v", c)
		}
		if got := ask(good, "IdentityProvider", provider("payment-gateway", "guess")); strings.Contains(got, "stripe") || strings.Contains(got, "rotation") {
			t.Error(got)
		}
	})
}

func TestTenantsReachNothingOfUshersOwn(t *testing.T) {
	own, evil := namespace(t, "local-own"), namespace(t, "local-evil")
	p := newProvider(t)
	var came atomic.Int64
	inner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		came.Add(1)
		w.WriteHeader(http.StatusTeapot)
	}))
	defer inner.Close()
	u := startUsher(t, own, admin(t), "--namespaces", own+","+evil)
	// The tenant's provider has its keys inline, so that only the look-up connects.
	text := fmt.Sprintf("apiVersion: usher.dev/v1alpha1\nkind: IdentityProvider\nmetadata: {name: idp, namespace: %s}\nspec: {issuer: %q, audiences: [api], allowHTTP: true, jwt: {keys: %s}}\n---\n", evil, p.url, p.Set())
	for i, address := range []string{inner.URL, "http://127.0.0.1:1", strings.Replace(inner.URL, "127.0.0.1", "localhost", 1)} {
		text += fmt.Sprintf("apiVersion: usher.dev/v1alpha1\nkind: IdentityProvider\nmetadata: {name: p%d, namespace: %s}\nspec: {issuer: 'https://x.example.com', audiences: [a], allowHTTP: true, jwt: {jwksURI: '%s/keys'}}\n---\n", i, evil, address)
	}
	text += policyOf(evil, "probe", fmt.Sprintf("hosts: [probe.test], providers: [idp], backend: {url: %q}, api: {routes: [{method: GET, path: '/{id}', on: a:b, object: {get: '/{id}', metadata: '{\"x\": has(body.ready) ? \"yes\" : \"no\"}'}}]}, rules: [{on: a:b, filter: {x: '\"yes\"'}}]", u.admin))
	kubectl(t, text, "apply", "-f", "-")
	for i := range 3 {
		wantCondition(t, evil, fmt.Sprintf("identityprovider/p%d", i), "Healthy", "False", "Unhealthy", "a loopback address, for another namespace than Usher's own (usher serve --allow-local-addresses permits it)")
	}
	wantCondition(t, evil, "authpolicy/probe", "Programmed", "True", "Programmed", "")
	u.wantStatus(t, 503, "probe.test", "GET", "/readyz", p.Mint())
	if n := came.Load(); n > 0 {
		t.Errorf("Usher connected to %s %d times", inner.URL, n)
	}
	// What is trusted may, and what is permitted.
	kubectl(t, p.manifest(own, "idp", "")+guard(own, "one", "one.test", "idp", ""), "apply", "-f", "-")
	u.wantStatus(t, 200, "one.test", "GET", "/items", p.Mint())
	permitted := startUsher(t, own, admin(t), "--namespaces", own+","+evil, "--allow-local-addresses")
	permitted.wantStatus(t, 200, "probe.test", "GET", "/readyz", p.Mint())
}

func TestAReplacedObjectIsANewOne(t *testing.T) {
	ns := namespace(t, "replaced")
	p := newProvider(t)
	u := startUsher(t, ns, admin(t))
	kubectl(t, p.manifest(ns, "idp", "")+guard(ns, "first", "one.test", "idp", ""), "create", "-f", "-")
	u.wantStatus(t, 401, "one.test", "GET", "/items", "")
	time.Sleep(1100 * time.Millisecond) // the age of objects is in whole seconds
	kubectl(t, policyOf(ns, "second", anybody("one.test")), "create", "-f", "-")
	wantCondition(t, ns, "authpolicy/second", "Accepted", "False", "Conflicted", "one.test")
	time.Sleep(1100 * time.Millisecond)
	kubectl(t, guard(ns, "first", "one.test", "idp", ""), "replace", "--force", "-f", "-") // the same, and the youngest
	wantCondition(t, ns, "authpolicy/first", "Accepted", "False", "Conflicted", "one.test")
	wantCondition(t, ns, "authpolicy/second", "Accepted", "True", "Accepted", "")
	u.wantStatus(t, 200, "one.test", "GET", "/items", "")
	another := startUsher(t, ns, admin(t))
	another.wantStatus(t, 200, "one.test", "GET", "/items", "")
}
