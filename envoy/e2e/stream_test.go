package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// wordGate lets the graph named gated go on, one word at a time.
type wordGate struct {
	server *httptest.Server
	asked  chan struct{} // the graph waits
	open   chan struct{} // it may go on
}

func newWordGate(t *testing.T) *wordGate {
	t.Helper()
	g := &wordGate{asked: make(chan struct{}, 100), open: make(chan struct{}, 100)}
	g.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.asked <- struct{}{}
		select {
		case <-g.open:
			w.WriteHeader(http.StatusNoContent)
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(func() {
		g.server.CloseClientConnections() // what still waits
		g.server.Close()
	})
	return g
}

func (g *wordGate) input(words ...string) map[string]any {
	return map[string]any{"gate": g.server.URL, "words": words}
}

// waitUntilAsked returns when the graph waits for the gate.
func (g *wordGate) waitUntilAsked(ctx context.Context, t *testing.T) {
	t.Helper()
	select {
	case <-g.asked:
	case <-ctx.Done():
		t.Fatal("the graph never came to its gate")
	}
}

// Each word is read by the client before the graph is allowed to say the next: whatever held events back, until the
// stream's end or until more had come, would make this hang, and the deadline would end it.
func TestEventsArriveOneByOneAndNotAtTheEnd(t *testing.T) {
	ctx := begin(t)
	thread := newThread(ctx, t, alice, nil)
	words := []string{"slow", "and", "steady", "wins"}
	g := newWordGate(t)
	stream, err := sdk.Stream(gate.URL, alice, "runs.stream", thread, "gated",
		map[string]any{"input": g.input(words...), "streamMode": "custom"})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()

	for i, word := range words {
		for {
			event, err := stream.Next(ctx)
			if err != nil {
				t.Fatalf("before word %d: %v", i+1, err)
			}
			if event.Event != "custom" {
				continue
			}
			var got struct {
				Word string `json:"word"`
			}
			if err := json.Unmarshal(event.Data, &got); err != nil || got.Word != word {
				t.Fatalf("word %d is %s, want %q", i+1, event.Data, word)
			}
			break
		}
		if i < len(words)-1 {
			g.waitUntilAsked(ctx, t) // the graph is still running
			g.open <- struct{}{}
		}
	}
	for {
		event, err := stream.Next(ctx)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if event.Event == "custom" || event.Event == "error" {
			t.Fatalf("after the last word came %s %s", event.Event, event.Data)
		}
	}
}

// The same on the wire, without the SDK.
func TestAStreamIsServerSentEventsThatNameTheirRun(t *testing.T) {
	ctx := begin(t)
	thread := newThread(ctx, t, alice, nil)
	g := newWordGate(t)
	input, err := json.Marshal(map[string]any{"assistant_id": "gated", "input": g.input("ready", "steady"), "stream_mode": "custom"})
	if err != nil {
		t.Fatal(err)
	}
	res := open(ctx, t, gate, call{
		method: "POST", path: "/threads/" + thread + "/runs/stream", token: alice, body: string(input),
		header: http.Header{"Accept": {"text/event-stream"}},
	})
	defer res.Body.Close()
	if got := res.Header.Get("Content-Type"); res.StatusCode != http.StatusOK || !strings.HasPrefix(got, "text/event-stream") {
		t.Fatalf("got %s, %s", res.Status, got)
	}
	// The SDK follows a broken stream by this address.
	location := res.Header.Get("Content-Location")
	if !strings.HasPrefix(location, "/threads/"+thread+"/runs/") {
		t.Errorf("Content-Location is %q", location)
	}

	lines := bufio.NewReader(res.Body)
	readUntil := func(word string) {
		t.Helper()
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				t.Fatalf("before %q: %v", word, err)
			}
			if strings.HasPrefix(line, "data:") && strings.Contains(line, fmt.Sprintf("%q", word)) {
				return
			}
		}
	}
	readUntil("ready")
	g.waitUntilAsked(ctx, t)

	// A second reader joins the same run: she may, he may not.
	run := strings.TrimSuffix(location, "/stream")
	path := run + "/stream?stream_mode=custom"
	want(ctx, t, gate, http.StatusNotFound, call{method: "GET", path: path, token: bob})
	want(ctx, t, gate, http.StatusUnauthorized, call{method: "GET", path: path})
	joined := open(ctx, t, gate, call{method: "GET", path: path, token: alice, header: http.Header{"Last-Event-Id": {"-1"}}})
	defer joined.Body.Close()
	if joined.StatusCode != http.StatusOK {
		t.Errorf("joining her own run: %s", joined.Status)
	}

	g.open <- struct{}{}
	readUntil("steady")
	if _, err := io.Copy(io.Discard, lines); err != nil {
		t.Errorf("the stream did not end well: %v", err)
	}
}

// A run's stream is found by the run's id alone on this server, without a thread: nobody's rule can be asked about it.
func TestARunsStreamWithoutItsThreadIsRefused(t *testing.T) {
	ctx := begin(t)
	thread := newThread(ctx, t, alice, nil)
	g := newWordGate(t)
	var run struct {
		ID string `json:"run_id"`
	}
	if err := use(ctx, t, alice, &run, "runs.create", thread, "gated", map[string]any{"input": g.input("a", "secret")}); err != nil {
		t.Fatal(err)
	}
	g.waitUntilAsked(ctx, t)
	r := ask(ctx, t, gate, call{method: "GET", path: "/runs/" + run.ID + "/stream", token: bob})
	if r.status < 400 || strings.Contains(r.body, "secret") {
		t.Errorf("got %d: %s", r.status, r.body)
	}
	want(ctx, t, gate, http.StatusUnauthorized, call{method: "GET", path: "/runs/" + run.ID + "/stream"})
}
