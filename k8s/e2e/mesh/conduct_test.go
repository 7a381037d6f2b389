package mesh

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// guards shows that the gate guards the LangGraph server: it is the same for each mesh.
func guards(t *testing.T, g *gate) {
	conversation(t, g)
	attacks(t, g)
}

// conversation is what Alice may do, and Bob may not.
func conversation(t *testing.T, g *gate) {
	t.Run("Alice has a thread that is hers, and Bob sees nothing of it", func(t *testing.T) {
		backend.reset()
		created := g.want(t, 200, call{method: "POST", path: "/threads", token: alice, body: `{"metadata": {"topic": "weather", "owner": "bob"}}`})
		var thread struct {
			ID       string `json:"thread_id"`
			Metadata map[string]any
		}
		if err := json.Unmarshal([]byte(created.body), &thread); err != nil {
			t.Fatalf("%v: %s", err, created.body)
		}
		if thread.Metadata["owner"] != "alice" || thread.Metadata["topic"] != "weather" {
			t.Errorf("metadata is %v, want it stamped with its owner", thread.Metadata)
		}
		for _, r := range backend.take() {
			if r.URL.Path != "/threads" {
				t.Errorf("the backend saw %s", r.URL)
			}
		}
		found := g.want(t, 200, call{method: "POST", path: "/threads/search", token: alice, body: `{"metadata": {"topic": "weather"}, "limit": 1000}`})
		if !strings.Contains(found.body, thread.ID) {
			t.Errorf("Alice does not find her thread: %.500s", found.body)
		}
		if found := g.want(t, 200, call{method: "POST", path: "/threads/search", token: bob, body: `{"limit": 1000}`}); strings.Contains(found.body, thread.ID) {
			t.Errorf("Bob finds it: %.500s", found.body)
		}
		g.want(t, 200, call{path: "/threads/" + thread.ID, token: alice})
		g.want(t, 404, call{path: "/threads/" + thread.ID, token: bob})
		g.want(t, 401, call{path: "/threads/" + thread.ID})
		g.want(t, 404, call{method: "DELETE", path: "/threads/" + thread.ID, token: bob})
	})
	t.Run("a run streams", func(t *testing.T) {
		created := g.want(t, 200, call{method: "POST", path: "/threads", token: alice, body: `{}`})
		var thread struct {
			ID string `json:"thread_id"`
		}
		if err := json.Unmarshal([]byte(created.body), &thread); err != nil {
			t.Fatal(err)
		}
		body := `{"assistant_id": "agent", "input": {"messages": [{"role": "user", "content": "hello"}]}}`
		r := g.want(t, 200, call{method: "POST", path: "/threads/" + thread.ID + "/runs/stream", token: alice, body: body})
		if kind := r.header.Get("Content-Type"); !strings.HasPrefix(kind, "text/event-stream") || strings.Count(r.body, "event: ") < 2 {
			t.Errorf("%s: %.300s", kind, r.body)
		}
		g.want(t, 404, call{method: "POST", path: "/threads/" + thread.ID + "/runs/stream", token: bob, body: body})
	})
}

// attacks end at the gate, and what is odd is taken as what it is.
func attacks(t *testing.T, g *gate) {
	t.Run("what no rule allows is denied", func(t *testing.T) {
		backend.reset()
		g.want(t, 403, call{method: "PUT", path: "/store/items", token: alice, body: `{"namespace":["alice"],"key":"k","value":{}}`})
		g.want(t, 404, call{path: "/no/such/route", token: alice})
		g.want(t, 404, call{path: "/.usher/edit-filter-missing", token: alice})
		if seen := backend.take(); len(seen) > 0 {
			t.Errorf("the backend saw %s", seen[0].URL)
		}
	})
	t.Run("a client's identity headers never get through", func(t *testing.T) {
		backend.reset()
		g.want(t, 200, call{method: "POST", path: "/threads/search", token: alice, body: `{}`, header: map[string]string{
			"X-User-Id": "bob", "x-auth-scheme": "langsmith", "x-forwarded-client-cert": "Subject=\"CN=bob\"",
		}})
		seen := backend.take()
		if len(seen) != 1 {
			t.Fatalf("the backend saw %d requests", len(seen))
		}
		h := seen[0].Header
		if got := h.Values("x-user-id"); len(got) != 1 || got[0] != "alice" {
			t.Errorf("x-user-id is %q", got)
		}
		for _, name := range []string{"x-auth-scheme", "x-forwarded-client-cert", "authorization"} {
			if h.Get(name) != "" {
				t.Errorf("%s got through: %q", name, h.Values(name))
			}
		}
	})
	t.Run("tricks with paths, headers and upgrades end at the gate", func(t *testing.T) {
		backend.reset()
		for name, c := range map[string]struct {
			status int
			call
		}{
			"an encoded slash":          {400, call{path: "/threads%2fsearch", token: alice}},
			"an encoded backslash":      {400, call{path: "/threads%5csearch", token: alice}},
			"a parameter":               {400, call{path: "/ok;x=y/threads", token: alice}},
			"dots are gone":             {401, call{path: "/ok/../threads/1"}},
			"slashes are merged":        {401, call{path: "/threads//1"}},
			"an underscore":             {400, call{path: "/ok", header: map[string]string{"x_user_id": "bob"}}},
			"TRACE by a stranger":       {401, call{method: "TRACE", path: "/ok"}},
			"TRACE":                     {404, call{method: "TRACE", path: "/ok", token: alice}},
			"another host":              {404, call{path: "/threads", token: alice, host: "other.example.com"}},
			"the host with a port":      {401, call{path: "/threads/1", host: host + ":8443"}},
			"the host with a dot":       {401, call{path: "/threads/1", host: host + "."}},
			"the host in capitals":      {401, call{path: "/threads/1", host: strings.ToUpper(host)}},
			"a websocket that is none":  {403, call{path: "/info", header: map[string]string{"Connection": "Upgrade", "Upgrade": "websocket"}}},
			"a websocket by a stranger": {401, call{path: "/threads/1/stream/events", header: map[string]string{"Connection": "Upgrade", "Upgrade": "websocket"}}},
			"a websocket that is":       {403, call{path: "/threads/8f9c3a52-7f0e-4d8b-9d53-6f1c2a4b7e01/stream/events", token: alice, header: map[string]string{"Connection": "Upgrade", "Upgrade": "WebSocket"}}},
		} {
			t.Run(name, func(t *testing.T) {
				if r := g.ask(t, c.call); r.status != c.status {
					t.Errorf("got %d, want %d: %.300s", r.status, c.status, r.body)
				}
			})
		}
		for _, r := range backend.take() {
			t.Errorf("the backend saw %s %s", r.Method, r.URL)
		}
		if line := g.raw(t, "GET /ok HTTP/1.0\r\nHost: "+host+"\r\n\r\n"); !strings.Contains(line, " 426 ") && !strings.Contains(line, " 400 ") {
			t.Errorf("HTTP/1.0 is answered %q", line)
		}
		if line := g.raw(t, "POST /threads/search HTTP/1.1\r\nHost: "+host+"\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"); !strings.Contains(line, " 400 ") {
			t.Errorf("two framings are answered %q", line)
		}
		if line := g.raw(t, "CONNECT "+host+":80 HTTP/1.1\r\nHost: "+host+"\r\n\r\n"); strings.Contains(line, " 200 ") {
			t.Errorf("CONNECT is answered %q", line)
		}
	})
	t.Run("an upgrade to h2c is a request without one", func(t *testing.T) {
		backend.reset()
		g.want(t, 200, call{path: "/info", header: map[string]string{"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQCAAAAAAIAAAAA"}})
		for _, r := range backend.take() {
			if len(r.Header.Values("Upgrade"))+len(r.Header.Values("HTTP2-Settings")) > 0 {
				t.Errorf("the backend saw %v", r.Header)
			}
		}
	})
	t.Run("so it is with a body that is edited", func(t *testing.T) {
		r := g.want(t, 200, call{method: "POST", path: "/threads", token: alice, body: `{"metadata": {"owner": "bob"}}`, header: map[string]string{
			"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQCAAAAAAIAAAAA",
		}})
		if !strings.Contains(r.body, `"owner":"alice"`) {
			t.Errorf("not stamped: %.300s", r.body)
		}
	})
	t.Run("an extended CONNECT of HTTP/2 ends at the gate (RFC 8441)", func(t *testing.T) {
		rest := func(path string) [][2]string {
			return [][2]string{{":scheme", "http"}, {":authority", host}, {":path", path}, {"authorization", "Bearer " + alice}}
		}
		if status := g.overHTTP2(t, append([][2]string{{":method", "GET"}}, rest("/ok")...)...); status != 200 {
			t.Errorf("a GET is %d", status)
		}
		backend.reset()
		for _, path := range []string{"/ok", "/threads/8f9c3a52-7f0e-4d8b-9d53-6f1c2a4b7e01", "/threads/8f9c3a52-7f0e-4d8b-9d53-6f1c2a4b7e01/stream/events"} {
			if status := g.overHTTP2(t, append([][2]string{{":method", "CONNECT"}, {":protocol", "websocket"}}, rest(path)...)...); status != 0 && status < 400 {
				t.Errorf("%s: %d", path, status)
			}
		}
		for _, r := range backend.take() {
			t.Errorf("the backend saw %s %s", r.Method, r.URL)
		}
	})
	t.Run("two Authorization headers are none", func(t *testing.T) {
		line := g.raw(t, "POST /threads/search HTTP/1.1\r\nHost: "+host+"\r\nAuthorization: Bearer "+bob+"\r\nAuthorization: Bearer "+alice+
			"\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
		if !strings.Contains(line, " 400 ") && !strings.Contains(line, " 401 ") {
			t.Errorf("answered %q", line)
		}
	})
	t.Run("a client sets neither Envoy's timeouts nor its retries", func(t *testing.T) {
		backend.reset()
		g.want(t, 200, call{method: "POST", path: "/threads/search", token: alice, body: `{}`, header: map[string]string{
			"x-envoy-upstream-rq-timeout-ms": "1", "x-envoy-retry-on": "5xx,reset", "x-envoy-max-retries": "5",
		}})
	})
	t.Run("a body of 4 MiB is edited", func(t *testing.T) {
		body := `{"metadata": {"topic": "` + strings.Repeat("x", 4<<20-100) + `"}}`
		for _, h2 := range []bool{false, true} {
			r := g.want(t, 200, call{method: "POST", path: "/threads", token: alice, body: body, h2: h2})
			if !strings.Contains(r.body, `"owner":"alice"`) {
				t.Errorf("HTTP/2 %v: not stamped: %.100s", h2, r.body)
			}
		}
		g.want(t, 413, call{method: "POST", path: "/threads", token: alice, body: `{"x": "` + strings.Repeat("x", 4<<20+100) + `"}`})
	})
	t.Run("a preflight needs no token, and other pages get no permission", func(t *testing.T) {
		preflight := func(origin string) answer {
			return g.ask(t, call{method: "OPTIONS", path: "/threads", header: map[string]string{
				"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization",
			}})
		}
		if r := preflight("https://chat.example.com"); r.status != 200 || r.header.Get("Access-Control-Allow-Origin") != "https://chat.example.com" {
			t.Errorf("%d, %v", r.status, r.header)
		}
		if r := preflight("https://evil.example.com"); r.header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%d, %v", r.status, r.header)
		}
		r := g.ask(t, call{method: "POST", path: "/threads/search", body: "{}", token: alice, header: map[string]string{"Origin": "https://evil.example.com"}})
		if r.status != 200 || r.header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%d, %v", r.status, r.header)
		}
	})
	t.Run("without Usher nothing gets through", func(t *testing.T) {
		usher.Stop()
		t.Cleanup(func() {
			if err := usher.Start(context.Background()); err != nil {
				t.Error(err)
			}
		})
		backend.reset()
		if r := g.ask(t, call{path: "/ok"}); r.status != http.StatusServiceUnavailable {
			t.Errorf("got %d, want 503", r.status)
		}
		if seen := backend.take(); len(seen) > 0 {
			t.Errorf("the backend saw %s", seen[0].URL)
		}
	})
}
