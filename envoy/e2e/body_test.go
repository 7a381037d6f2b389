package e2e_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/usher-authz/usher/envoy/e2e/stack"
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
