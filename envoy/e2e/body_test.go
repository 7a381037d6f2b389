package e2e_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/usher-authz/usher/envoy/e2e/stack"
	"github.com/usher-authz/usher/extauthz/attacktest"
)

// The limit of a body that Usher reads, and that the generated bootstrap sets: 4 MiB.
const bodyLimit = 4 << 20

// threadOf returns a request body of exactly this many bytes.
func threadOf(size int) string {
	const frame = `{"metadata":{"pad":""}}`
	return strings.Replace(frame, `""`, `"`+strings.Repeat("x", size-len(frame))+`"`, 1)
}

func TestABodyAtTheLimitPassesAndOneByteMoreIs413(t *testing.T) {
	ctx := begin(t)
	t.Run("at the limit it passes, whole and stamped", func(t *testing.T) {
		body := threadOf(bodyLimit)
		if len(body) != bodyLimit {
			t.Fatal("the test's body is not at the limit")
		}
		r := want(ctx, t, watched, http.StatusOK, call{method: "POST", path: "/threads", token: alice, body: body, header: marking(t.Name())})
		thread := r.object(t)
		t.Cleanup(func() { // past the gate: it is only to keep the server light
			want(ctx, t, &stack.Gate{URL: parts.Backend}, http.StatusNoContent, call{method: "DELETE", path: "/threads/" + thread["thread_id"].(string)})
		})
		arrived := recorded.marked(t.Name())
		if len(arrived) != 1 || arrived[0].path != "/threads" {
			t.Fatalf("the backend got %d requests, want 1 for /threads", len(arrived))
		}
		var got struct {
			Metadata struct{ Owner, Pad string }
		}
		if err := json.Unmarshal(arrived[0].body, &got); err != nil {
			t.Fatal(err)
		}
		if got.Metadata.Owner != "alice" || len(got.Metadata.Pad) != bodyLimit-len(`{"metadata":{"pad":""}}`) {
			t.Errorf("the backend got owner %q and %d bytes of padding", got.Metadata.Owner, len(got.Metadata.Pad))
		}
	})
	t.Run("one byte more is 413", func(t *testing.T) {
		r := want(ctx, t, watched, http.StatusRequestEntityTooLarge,
			call{method: "POST", path: "/threads", token: alice, body: threadOf(bodyLimit + 1), header: marking(t.Name())})
		if !json.Valid([]byte(r.body)) || !strings.Contains(r.body, "detail") {
			t.Errorf("the answer is %q, want JSON with a detail", r.body)
		}
		if n := len(recorded.marked(t.Name())); n != 0 {
			t.Errorf("the backend got %d requests, want 0", n)
		}
	})
	t.Run("one byte more is 413 without a content-length too", func(t *testing.T) {
		// A reader that net/http knows nothing about is sent in chunks.
		body := struct{ io.Reader }{strings.NewReader(threadOf(bodyLimit + 1))}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, watched.URL+"/threads", body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header = marking(t.Name())
		req.Header.Set("Authorization", "Bearer "+alice)
		req.Header.Set("Content-Type", "application/json")
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("got %s", res.Status)
		}
		if n := len(recorded.marked(t.Name())); n != 0 {
			t.Errorf("the backend got %d requests, want 0", n)
		}
	})
	t.Run("a stranger's is 401, whatever its size", func(t *testing.T) {
		want(ctx, t, watched, http.StatusUnauthorized, call{method: "POST", path: "/threads", body: threadOf(bodyLimit + 1)})
	})
}

func TestABodyThatCouldBeReadTwoWaysIsRefused(t *testing.T) {
	ctx := begin(t)
	for name, c := range map[string]struct {
		status int
		body   string
		header http.Header
	}{
		"two members of one name": {status: http.StatusBadRequest, body: `{"metadata":{"owner":"alice"},"metadata":{}}`},
		"bytes after the end":     {status: http.StatusBadRequest, body: `{} {}`},
		"no JSON":                 {status: http.StatusBadRequest, body: `owner=alice`},
		"bad UTF-8":               {status: http.StatusBadRequest, body: "{\"metadata\":{\"a\":\"\xff\"}}"},
		"compressed": {
			status: http.StatusUnsupportedMediaType, body: "\x1f\x8b\x08\x00", header: http.Header{"Content-Encoding": {"gzip"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			header := marking(t.Name())
			for k, v := range c.header {
				header[k] = v
			}
			want(ctx, t, watched, c.status, call{method: "POST", path: "/threads", token: alice, body: c.body, header: header})
			if n := len(recorded.marked(t.Name())); n != 0 {
				t.Errorf("the backend got %d requests, want 0", n)
			}
		})
	}
	for _, contentType := range []string{"text/plain", "foo/bar"} {
		t.Run("JSON under another content type is edited all the same: "+contentType, func(t *testing.T) {
			header := http.Header{"Content-Type": {contentType}}
			r := want(ctx, t, gate, http.StatusOK, call{method: "POST", path: "/threads", token: bob, body: `{"metadata":{"owner":"alice"}}`, header: header})
			if got := r.object(t)["metadata"].(map[string]any)["owner"]; got != "bob" {
				t.Errorf("owner is %v", got)
			}
			// The JS server takes a body of a type that it does not know for an empty one: everybody's threads.
			for _, body := range []string{`{}`, `{"metadata":{"owner":"bob"}}`} {
				found := want(ctx, t, gate, http.StatusOK, call{method: "POST", path: "/threads/search", token: bob, body: body, header: header})
				for _, thread := range found.list(t) {
					if got := thread.(map[string]any)["metadata"].(map[string]any)["owner"]; got != "bob" {
						t.Errorf("a search with body %s found a thread of %v", body, got)
					}
				}
			}
		})
	}
}

// payments is a policy that decides without the body, and one that decides by it.
const payments = `
apiVersion: usher.dev/v1alpha1
kind: IdentityProvider
metadata: {name: company}
spec: {issuer: ISSUER, allowHTTP: true, audiences: [langgraph]}
---
apiVersion: usher.dev/v1alpha1
kind: AuthPolicy
metadata: {name: payments}
spec:
  hosts: ["127.0.0.1"]
  providers: [company]
  backend: {url: BACKEND}
  api: {routes: [{method: GET, path: /ok, public: true}, {method: POST, path: /payments, on: "payments:create"}]}
  rules: [{on: payments, allow: "ALLOW"}]
`

// A policy may change without Envoy's configuration. Where that sends no bodies, and the policy then needs one, nothing but the
// configuration says that there may be one: HTTP/2 needs no content-length, and Envoy takes out what Connection names.
func TestABodyThatEnvoyDoesNotSendIsNotTakenForNone(t *testing.T) {
	ctx := begin(t)
	manifest := func(allow string) string {
		return strings.NewReplacer("ISSUER", parts.Issuer, "BACKEND", recorded.URL, "ALLOW", allow).Replace(payments)
	}
	g, err := parts.NewGateWith(ctx, "unsent", manifest("true"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Usher.Stop)
	t.Cleanup(g.Envoy.Stop)
	overHTTP2 := &http.Transport{Protocols: &http.Protocols{}}
	overHTTP2.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(overHTTP2.CloseIdleConnections)
	tries := map[string]func(mark string) (int, error){
		"HTTP/2": func(mark string) (int, error) {
			body := struct{ io.Reader }{strings.NewReader(`{"amount":1000}`)} // of a length that net/http does not know
			request, err := http.NewRequestWithContext(ctx, http.MethodPost, g.URL+"/payments", body)
			if err != nil {
				return 0, err
			}
			request.Header = marking(mark)
			request.Header.Set("Authorization", "Bearer "+bob)
			response, err := overHTTP2.RoundTrip(request)
			if err != nil {
				return 0, err
			}
			return response.StatusCode, response.Body.Close()
		},
	}
	for name, rest := range map[string]string{
		"a length":                      "Content-Length: 15\r\n\r\n{\"amount\":1000}",
		"a length that is taken out":    "Content-Length: 15\r\nConnection: content-length\r\n\r\n{\"amount\":1000}",
		"chunks":                        "Transfer-Encoding: chunked\r\n\r\nf\r\n{\"amount\":1000}\r\n0\r\n\r\n",
		"chunks that nobody is told of": "Transfer-Encoding: chunked\r\nConnection: transfer-encoding\r\n\r\nf\r\n{\"amount\":1000}\r\n0\r\n\r\n",
	} {
		tries[name] = func(mark string) (int, error) {
			raw := "POST /payments HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer " + bob + "\r\n" + marker + ": " + mark + "\r\n" + rest
			o, err := send(ctx, g.Address, nil, attacktest.Shot{Raw: []byte(raw)})
			return o.Status, err
		}
	}
	for name, try := range tries {
		mark := t.Name() + " before " + name
		if _, err := try(mark); err != nil {
			t.Fatal(err)
		}
		if got := recorded.marked(mark); len(got) != 1 || string(got[0].body) != `{"amount":1000}` {
			t.Errorf("%s: the backend got %d requests while no body was needed", name, len(got))
		}
	}

	const small = "!has(value.body) || !has(value.body.amount) || value.body.amount < 100"
	if err := os.WriteFile(g.Manifest, []byte(manifest(small)), 0o600); err != nil {
		t.Fatal(err)
	}
	err = stack.Poll(ctx, func() error {
		if status, err := tries["a length"](t.Name()); status != http.StatusServiceUnavailable {
			return fmt.Errorf("the changed policy is not in force: %d, %w", status, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, try := range tries {
		mark := t.Name() + " after " + name
		if status, err := try(mark); status != http.StatusServiceUnavailable {
			t.Errorf("%s: %d, want 503: %v", name, status, err)
		}
		if got := recorded.marked(mark); len(got) > 0 {
			t.Errorf("%s: the backend got it", name)
		}
	}
	mark := t.Name() + " nothing, and a content-length that says so"
	want(ctx, t, g, http.StatusNotFound, call{method: "POST", path: "/payments", token: bob, header: marking(mark)})
	if got := recorded.marked(mark); len(got) != 1 {
		t.Errorf("the backend got %d requests of no body", len(got))
	}
}
