package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/usher-authz/usher/envoy/e2e/stack"
)

// What all tests share. The recorder stands before the LangGraph server and sees what gets through its gate.
var (
	parts    *stack.Stack
	gate     *stack.Gate // before the LangGraph server
	watched  *stack.Gate // before the recorder
	recorded *recorder
	sdk      *stack.SDK

	alice, bob, aliceReadOnly string // access tokens
)

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		if parts != nil {
			parts.Close()
		}
		os.Exit(130)
	}()

	if err := setUp(ctx); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "the end-to-end tests cannot start:", err)
		if parts != nil {
			parts.Close()
		}
		return 1
	}
	defer parts.Close()
	defer recorded.Close()
	code := m.Run()

	// A panic that became a 503, or a race (see USHER_RACE below), is a failure though every answer was right.
	for _, p := range parts.Parts() {
		p.Stop()
		for _, word := range []string{"WARNING: DATA RACE", "\npanic: ", "fatal error: "} {
			if strings.HasPrefix(p.Name, "usher") && strings.Contains("\n"+p.Log(), word) {
				_, _ = fmt.Fprintf(os.Stderr, "%s wrote %q:\n%s\n", p.Name, strings.TrimSpace(word), p.Tail())
				code = 1
			}
		}
	}
	return code
}

func setUp(ctx context.Context) (err error) {
	// Not by default: with the race detector Usher is too slow for Envoy's deadline with a body of 4 MiB.
	race := os.Getenv("USHER_RACE") != ""
	if parts, err = stack.Start(ctx, stack.Options{Race: race}); err != nil {
		return err
	}
	if recorded, err = newRecorder(parts.Backend); err != nil {
		return err
	}
	if gate, err = newMainGate(ctx, "main", parts.Backend); err != nil {
		return err
	}
	if watched, err = newMainGate(ctx, "watched", recorded.URL); err != nil {
		return err
	}
	if sdk, err = parts.NewSDK(ctx); err != nil {
		return err
	}
	for _, login := range []struct {
		token  *string
		user   stack.User
		scopes []string
	}{
		{&alice, stack.Alice, nil},
		{&bob, stack.Bob, nil},
		{&aliceReadOnly, stack.Alice, []string{"openid", "profile", "threads:read"}},
	} {
		token, err := parts.Login(ctx, login.user, login.scopes...)
		if err != nil {
			return err
		}
		*login.token = token.Access
	}
	return nil
}

// newMainGate is a gate with the example's policy. A busy machine must not make a 503 of an answer.
func newMainGate(ctx context.Context, name, backend string) (*stack.Gate, error) {
	manifests, err := parts.Manifests(backend)
	if err != nil {
		return nil, err
	}
	return parts.NewGateAs(ctx, name, stack.GateOptions{Manifests: manifests, EnvoyArgs: []string{"--check-timeout=5s"}})
}

// begin gives a test its deadline, and shows the ends of the logs if it fails.
func begin(t *testing.T) context.Context {
	t.Helper()
	return beginFor(t, 4*time.Minute)
}

func beginFor(t *testing.T, limit time.Duration) context.Context {
	t.Helper()
	// It outlives the test's own context, which ends before cleanups run. This cleanup comes last of all.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), limit)
	t.Cleanup(func() {
		cancel()
		if t.Failed() {
			t.Log("\n" + parts.Tails("usher", "envoy", "langgraph"))
		}
	})
	return ctx
}

// call is one of a client's requests. Without a token there is no Authorization header, without a body no body.
type call struct {
	method, path, token, body string
	header                    http.Header
}

type reply struct {
	status int
	header http.Header
	body   string
}

// object decodes a JSON object.
func (r reply) object(t *testing.T) map[string]any {
	t.Helper()
	var o map[string]any
	if err := json.Unmarshal([]byte(r.body), &o); err != nil {
		t.Fatalf("a body that is no JSON object: %q", r.body)
	}
	return o
}

func (r reply) list(t *testing.T) []any {
	t.Helper()
	var out []any
	if err := json.Unmarshal([]byte(r.body), &out); err != nil {
		t.Fatalf("the answer is no JSON list: %v", err)
	}
	return out
}

// client keeps no connection for as long as Node does, 5 s: a request that meets its end is an error, unless it can be sent again.
var client = &http.Client{
	Transport:     &http.Transport{MaxIdleConnsPerHost: 8, IdleConnTimeout: 2 * time.Second},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func open(ctx context.Context, t *testing.T, g *stack.Gate, c call) *http.Response {
	t.Helper()
	var body io.Reader
	if c.body != "" {
		body = bytes.NewReader([]byte(c.body))
	}
	req, err := http.NewRequestWithContext(ctx, c.method, g.URL+c.path, body)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range c.header {
		req.Header[name] = values
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if c.body != "" && req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", c.method, c.path, err)
	}
	return res
}

func ask(ctx context.Context, t *testing.T, g *stack.Gate, c call) reply {
	t.Helper()
	return read(t, c, open(ctx, t, g, c))
}

func read(t *testing.T, c call, res *http.Response) reply {
	t.Helper()
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", c.method, c.path, err)
	}
	return reply{res.StatusCode, res.Header, string(b)}
}

// want asks and fails the test unless the answer has this status. Where Usher could not look something up in time, which
// happens on a busy machine, it asks again, as a client should.
func want(ctx context.Context, t *testing.T, g *stack.Gate, status int, c call) reply {
	t.Helper()
	for {
		res := open(ctx, t, g, c)
		if res.StatusCode == status {
			return read(t, c, res)
		}
		kind, b := res.Header.Get("Content-Type"), []byte(nil)
		if !strings.HasPrefix(kind, "text/event-stream") { // which may have no end
			b, _ = io.ReadAll(io.LimitReader(res.Body, 500))
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" || !again(ctx, t) {
			t.Fatalf("%s %s: got %d, want %d: %s %s", c.method, c.path, res.StatusCode, status, kind, b)
		}
	}
}

// again waits before a second try. It returns false when there is no time left.
func again(ctx context.Context, t *testing.T) bool {
	t.Helper()
	select {
	case <-ctx.Done():
		return false
	case <-time.After(200 * time.Millisecond):
		t.Log("503 with Retry-After: asking again")
		return true
	}
}

// use calls the SDK through the main gate, and asks again as want does.
func use(ctx context.Context, t *testing.T, token string, result any, name string, args ...any) error {
	t.Helper()
	for {
		err := sdk.Call(ctx, gate.URL, token, result, name, args...)
		var refused *stack.SDKError
		if !errors.As(err, &refused) || refused.Status != http.StatusServiceUnavailable || !again(ctx, t) {
			return err
		}
	}
}

// status returns an SDK call's refusal, 200 if there was none.
func status(t *testing.T, err error) int {
	t.Helper()
	if err == nil {
		return http.StatusOK
	}
	var refused *stack.SDKError
	if !errors.As(err, &refused) {
		t.Fatal(err)
	}
	if refused.Status == 0 {
		t.Fatalf("no answer: %v", err)
	}
	return refused.Status
}

// newThread makes one through the SDK.
func newThread(ctx context.Context, t *testing.T, token string, metadata map[string]any) string {
	t.Helper()
	var thread struct {
		ID string `json:"thread_id"`
	}
	if err := use(ctx, t, token, &thread, "threads.create", map[string]any{"metadata": metadata}); err != nil {
		t.Fatal(err)
	}
	return thread.ID
}

// question is the input of the graph named agent.
func question(text string) map[string]any {
	return map[string]any{"messages": []any{map[string]any{"role": "user", "content": text}}}
}
