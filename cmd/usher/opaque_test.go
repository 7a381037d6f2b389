package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/extauthz/token/tokentest"
)

// opaque writes manifests whose provider is asked about tokens, with the secret in a Secret beside it.
func (w *world) opaque(t *testing.T, secret string) {
	t.Helper()
	text := fmt.Sprintf(`apiVersion: v1
kind: Secret
metadata: {name: usher}
stringData: {clientSecret: %q}
---
apiVersion: usher.dev/v1alpha1
kind: IdentityProvider
metadata: {name: company}
spec:
  issuer: %q
  allowHTTP: true
  audiences: [%s]
  introspection: {endpoint: %q, clientID: %s, clientSecretRef: {name: usher}, cacheFor: 1h}
---
apiVersion: usher.dev/v1alpha1
kind: AuthPolicy
metadata: {name: conversations}
spec:
  hosts: [agents.test]
  providers: [company]
  api: {preset: langgraph}
  backend: {url: %q}
  rules:
    - {on: assistants, allow: "true"}
`, secret, w.issuer.URL, tokentest.Audience, w.issuer.URL+tokentest.Introspection, tokentest.ClientID, w.backend.URL)
	next := w.config + ".next"
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, w.config); err != nil {
		t.Fatal(err)
	}
}

// TestSecretsAreReadAgain: the Secret in the files changes, and the new one is used, without a restart.
func TestSecretsAreReadAgain(t *testing.T) {
	assistant := "/assistants/" + thread
	w := newWorld(t)
	w.opaque(t, "an old secret")
	w.provider.Opaque("good", w.provider.Good())
	w.provider.Opaque("other", w.provider.Good())
	p := start(t, w.config).ready()
	if got := p.status("GET", assistant, "good"); got != 503 {
		t.Errorf("with the old secret: %d", got)
	}

	w.opaque(t, tokentest.ClientSecret)
	p.logged("manifests are in force")
	p.becomes(200, assistant, "good")
	if _, body := p.get("/readyz"); strings.Contains(body, "problem") {
		t.Errorf("readyz: %s", body)
	}
	// What was said with one secret is not asked again; a new one is another specification, with a memory of its own.
	asked := w.provider.Hits(tokentest.Introspection)
	if got := p.status("GET", assistant, "good"); got != 200 || w.provider.Hits(tokentest.Introspection) != asked {
		t.Errorf("a token seen before: %d, asked again", got)
	}
	w.opaque(t, "a wrong secret")
	p.logged("manifests are in force")
	for _, token := range []string{"good", "other"} {
		if got := p.status("GET", assistant, token); got != 503 {
			t.Errorf("%s, with a wrong secret: %d", token, got)
		}
	}
	p.stop()
}

// becomes asks until the answer is this one. A provider that gives none in time, as it is on a busy machine, is 503 until then.
func (p *process) becomes(want int, path, token string) {
	p.t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		got := p.status("GET", path, token)
		if got == want {
			return
		}
		if got != 503 || time.Now().After(end) {
			p.t.Fatalf("GET %s: %d, want %d", path, got, want)
		}
	}
}

// TestAWrongEndpointIsSaidOnce: hundreds of requests, one line of the log, and what to do in /readyz.
func TestAWrongEndpointIsSaidOnce(t *testing.T) {
	for name, c := range map[string]struct {
		secret string
		answer *tokentest.Answer
		want   string
	}{
		"a_wrong_secret":     {"wrong", nil, "the client id or secret is wrong"},
		"no_introspection":   {tokentest.ClientSecret, &tokentest.Answer{Status: 404}, "no such endpoint: check its URL"},
		"a_page_of_HTML":     {tokentest.ClientSecret, &tokentest.Answer{Header: http.Header{"Content-Type": {"text/html"}}, Body: "<html>log in</html>"}, "answered an HTML page, expected application/json: check its URL"},
		"a_page_of_its_own":  {tokentest.ClientSecret, &tokentest.Answer{Status: 302, Header: http.Header{"Location": {"/login"}}}, "it redirects, which is not followed: check its URL"},
		"the_token_endpoint": {tokentest.ClientSecret, &tokentest.Answer{Status: 400, Body: `{"error":"invalid_request"}`}, "400 invalid_request"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.opaque(t, c.secret)
			if c.answer != nil {
				w.provider.Say(tokentest.Introspection, *c.answer)
			}
			// An answer that does not come in time is another problem, and on a busy machine there may be one.
			for range 10 {
				if problems, late := w.saysOnce(t, c.want); !late {
					for _, problem := range problems {
						t.Error(problem)
					}
					return
				}
			}
			t.Error("in ten times an answer did not come in time")
		})
	}
}

// saysOnce asks about many tokens, and returns what is wrong with what is said of the provider; late: it did not answer in time.
func (w *world) saysOnce(t *testing.T, want string) (wrong []string, late bool) {
	t.Helper()
	p := start(t, w.config).ready()
	for n := range 200 {
		if got := p.status("GET", "/assistants/"+thread, fmt.Sprint("opaque-", n)); got != 503 {
			t.Fatalf("got %d", got)
		}
	}
	_, body := p.get("/readyz")
	var shown struct {
		Providers map[string]token.Status `json:"providers"`
	}
	if err := json.Unmarshal([]byte(body), &shown); err != nil || !strings.Contains(shown.Providers["company"].Problem, want) {
		wrong = append(wrong, fmt.Sprintf("%v; readyz: %s", err, body))
	}
	p.terminate()
	said := 0
	for end := false; !end; {
		line, ok := <-p.lines
		if !ok || line["msg"] == "stopped" {
			end = true
		}
		if strings.HasPrefix(fmt.Sprint(line["msg"]), "the provider does not answer about tokens") {
			problem := fmt.Sprint(line["problem"])
			late = late || strings.Contains(problem, context.DeadlineExceeded.Error())
			if said++; !strings.Contains(problem, want) {
				wrong = append(wrong, fmt.Sprintf("logged %v", line))
			}
		}
	}
	if said != 1 {
		wrong = append(wrong, fmt.Sprintf("said %d times", said))
	}
	if code := p.wait(); code != exitGood {
		t.Errorf("exit code %d", code)
	}
	return wrong, late
}
