package e2e_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

// The origin that the example's policy allows.
const origin = "https://chat.example.com"

// has tells whether a comma-separated header holds a word.
func has(h http.Header, name, word string) bool {
	for _, line := range h.Values(name) {
		for item := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(item), word) {
				return true
			}
		}
	}
	return false
}

func TestABrowsersPreflightIsAnsweredByEnvoyWithoutAToken(t *testing.T) {
	ctx := begin(t)
	for _, method := range []string{"GET", "POST", "PATCH", "DELETE", "PUT"} {
		t.Run(method, func(t *testing.T) {
			header := marking(t.Name())
			header.Set("Origin", origin)
			header.Set("Access-Control-Request-Method", method)
			header.Set("Access-Control-Request-Headers", "authorization,content-type,last-event-id")
			r := ask(ctx, t, watched, call{method: "OPTIONS", path: "/threads", header: header})
			if r.status != http.StatusOK && r.status != http.StatusNoContent {
				t.Fatalf("got %d: %s", r.status, r.body)
			}
			if got := r.header.Values("Access-Control-Allow-Origin"); !slices.Equal(got, []string{origin}) {
				t.Errorf("allow-origin is %q", got)
			}
			if !has(r.header, "Access-Control-Allow-Methods", method) {
				t.Errorf("allow-methods is %q", r.header.Values("Access-Control-Allow-Methods"))
			}
			for _, name := range []string{"authorization", "content-type", "last-event-id"} {
				if !has(r.header, "Access-Control-Allow-Headers", name) {
					t.Errorf("allow-headers is %q, it lacks %s", r.header.Values("Access-Control-Allow-Headers"), name)
				}
			}
			if n := len(recorded.marked(t.Name())); n != 0 {
				t.Errorf("the backend got %d requests, want 0", n)
			}
		})
	}
	t.Run("another origin gets no permission", func(t *testing.T) {
		header := marking(t.Name())
		header.Set("Origin", "https://evil.example.com")
		header.Set("Access-Control-Request-Method", "GET")
		r := ask(ctx, t, watched, call{method: "OPTIONS", path: "/threads", header: header})
		if got := r.header.Values("Access-Control-Allow-Origin"); len(got) > 0 {
			t.Errorf("allow-origin is %q", got)
		}
		if n := len(recorded.marked(t.Name())); n != 0 {
			t.Errorf("the backend got %d requests, want 0", n)
		}
	})
}

func TestABrowserMayReadTheAnswerAndTheHeadersThatItsClientNeeds(t *testing.T) {
	ctx := begin(t)
	thread := newThread(ctx, t, alice, nil)
	header := http.Header{"Origin": {origin}}
	for name, c := range map[string]struct {
		call
		status int
	}{
		"an answer":  {call{method: "GET", path: "/threads/" + thread, token: alice}, http.StatusOK},
		"a search":   {call{method: "POST", path: "/threads/search", token: alice, body: `{}`}, http.StatusOK},
		"a 401":      {call{method: "GET", path: "/threads/" + thread}, http.StatusUnauthorized},
		"a 404":      {call{method: "GET", path: "/threads/" + thread, token: bob}, http.StatusNotFound},
		"a 403":      {call{method: "POST", path: "/threads", token: aliceReadOnly, body: `{}`}, http.StatusForbidden},
		"a 413":      {call{method: "POST", path: "/threads", token: alice, body: threadOf(bodyLimit + 1)}, http.StatusRequestEntityTooLarge},
		"no such id": {call{method: "GET", path: "/threads/00000000-0000-4000-8000-000000000000", token: alice}, http.StatusNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			c.header = header
			r := want(ctx, t, gate, c.status, c.call)
			if got := r.header.Values("Access-Control-Allow-Origin"); !slices.Equal(got, []string{origin}) {
				t.Errorf("allow-origin is %q", got)
			}
			for _, name := range []string{"content-location", "x-pagination-total", "x-pagination-next"} {
				if !has(r.header, "Access-Control-Expose-Headers", name) {
					t.Errorf("expose-headers is %q, it lacks %s", r.header.Values("Access-Control-Expose-Headers"), name)
				}
			}
		})
	}
	t.Run("a page of another origin may not read hers", func(t *testing.T) {
		r := ask(ctx, t, gate, call{method: "GET", path: "/threads/" + thread, token: alice, header: http.Header{"Origin": {"https://evil.example.com"}}})
		if got := r.header.Values("Access-Control-Allow-Origin"); len(got) > 0 {
			t.Errorf("allow-origin is %q", got)
		}
	})
}

// The new protocol's stream of a thread is a websocket. Its frames carry commands, and nobody asks Usher about a frame: so
// it is refused even to the owner, who has the same over HTTP.
func TestAWebsocketIsRefused(t *testing.T) {
	ctx := begin(t)
	thread := newThread(ctx, t, alice, nil)
	for name, c := range map[string]struct {
		token  string
		status int
	}{
		"without a token": {"", http.StatusUnauthorized},
		"to Bob":          {bob, http.StatusForbidden},
		"to Alice":        {alice, http.StatusForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			header := marking(t.Name())
			header.Set("Connection", "Upgrade")
			header.Set("Upgrade", "websocket")
			header.Set("Sec-Websocket-Version", "13")
			header.Set("Sec-Websocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
			want(ctx, t, watched, c.status, call{method: "GET", path: "/threads/" + thread + "/stream/events", token: c.token, header: header})
			if n := len(recorded.marked(t.Name())); n != 0 {
				t.Errorf("the backend got %d requests, want 0", n)
			}
		})
	}
}
