package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"

	"github.com/usher-authz/usher/extauthz/token/tokentest"
)

// limit is how long anything may take in these tests, which run in real time on real sockets.
const limit = 2 * time.Minute

// world is an identity provider, a backend and manifests about them.
type world struct {
	provider *tokentest.Provider
	issuer   *httptest.Server
	backend  *httptest.Server
	config   string

	mu     sync.Mutex
	lookup func() // runs when the backend is asked
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{config: filepath.Join(t.TempDir(), "policy.yaml")}
	w.issuer = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.provider.ServeHTTP(rw, r) }))
	t.Cleanup(w.issuer.Close)
	w.provider = tokentest.New(w.issuer.URL, tokentest.NewKey("k1", "ES256"))
	w.backend = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		w.mu.Lock()
		lookup := w.lookup
		w.mu.Unlock()
		if lookup != nil {
			lookup()
		}
		rw.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(rw, `{"thread_id": "`+thread+`", "metadata": {"owner": "alice"}}`)
	}))
	t.Cleanup(w.backend.Close)
	w.write(t, "true")
	return w
}

const thread = "6f1c0e9a-5d0b-4c39-9b26-7d1d3bd6d4f1"

// write writes the manifests; allow is the rule for assistants.
func (w *world) write(t *testing.T, allow string) {
	t.Helper()
	text := fmt.Sprintf(`apiVersion: usher.dev/v1alpha1
kind: IdentityProvider
metadata: {name: company}
spec: {issuer: %q, allowHTTP: true, audiences: [%s]}
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
    - {on: assistants, allow: %q}
    - {on: threads, filter: {owner: user.identity}}
`, w.issuer.URL, tokentest.Audience, w.backend.URL, allow)
	next := w.config + ".next"
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, w.config); err != nil {
		t.Fatal(err)
	}
}

// process is a running `usher serve`, in this process.
type process struct {
	t           *testing.T
	lines       chan map[string]any
	grpc, admin string
	ended       chan int
	connection  *grpc.ClientConn
}

// start runs usher serve and returns once it serves.
func start(t *testing.T, config string, args ...string) *process {
	t.Helper()
	p := &process{t: t, lines: make(chan map[string]any, 4096), ended: make(chan int, 1)}
	r, w := io.Pipe()
	go func() {
		defer close(p.lines)
		scanner := bufio.NewScanner(r)
		for scanner.Scan() {
			var line map[string]any
			if json.Unmarshal(scanner.Bytes(), &line) != nil {
				line = map[string]any{"msg": scanner.Text()}
			}
			p.lines <- line
		}
	}()
	if !slices.Contains(args, "--grpc-address") {
		args = append(args, "--grpc-address", "127.0.0.1:0")
	}
	args = append([]string{"serve", "--config", config, "--admin-address", "127.0.0.1:0", "--log-level", "debug"}, args...)
	go func() {
		code := run(args, io.Discard, w)
		_ = w.Close()
		p.ended <- code
	}()
	line := p.logged("serving")
	p.grpc, p.admin = line["grpc"].(string), "http://"+line["admin"].(string)
	target := p.grpc
	if strings.HasPrefix(target, "/") {
		target = "unix://" + target
	}
	var err error
	if p.connection, err = grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		t.Fatal(err)
	}
	return p
}

// logged waits for a line of the log that begins so.
func (p *process) logged(message string) map[string]any {
	p.t.Helper()
	deadline := time.After(limit)
	var seen []string
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				p.t.Fatalf("the log ended without %q: %s", message, strings.Join(seen, "\n"))
			}
			msg, _ := line["msg"].(string)
			if strings.HasPrefix(msg, message) {
				return line
			}
			seen = append(seen, fmt.Sprint(line))
		case <-deadline:
			p.t.Fatalf("no %q was logged: %s", message, strings.Join(seen, "\n"))
		}
	}
}

// terminate sends SIGTERM, as Kubernetes does.
func (p *process) terminate() {
	p.t.Helper()
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
}

// wait returns the exit code.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case code := <-p.ended:
		_ = p.connection.Close()
		for range p.lines { // until the reader of the log has ended
		}
		return code
	case <-time.After(limit):
		p.t.Fatal("usher did not end")
		return -1
	}
}

func (p *process) stop() {
	p.t.Helper()
	p.terminate()
	if code := p.wait(); code != exitGood {
		p.t.Errorf("exit code %d", code)
	}
}

// ready waits for "ready" in the log.
func (p *process) ready() *process {
	p.t.Helper()
	p.logged("ready")
	return p
}

func (p *process) check(method, path, token string) (*authv3.CheckResponse, error) {
	headers := map[string]string{}
	if token != "" {
		headers["authorization"] = "Bearer " + token
	}
	ctx, cancel := context.WithTimeout(p.t.Context(), limit)
	defer cancel()
	return authv3.NewAuthorizationClient(p.connection).Check(ctx, &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source:  &authv3.AttributeContext_Peer{Address: &corev3.Address{}},
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{Method: method, Path: path, Host: "agents.test", Scheme: "http", Headers: headers}},
	}})
}

// status is the HTTP status that the answer gives; 200 is a pass.
func (p *process) status(method, path, token string) int {
	p.t.Helper()
	r, err := p.check(method, path, token)
	if err != nil {
		p.t.Fatal(err)
	}
	if d := r.GetDeniedResponse(); d != nil {
		return int(d.GetStatus().GetCode())
	}
	if r.GetOkResponse() == nil || r.GetStatus().GetCode() != 0 {
		p.t.Fatalf("neither allowed nor denied: %v", r)
	}
	return 200
}

func (p *process) health() grpc_health_v1.HealthCheckResponse_ServingStatus {
	p.t.Helper()
	r, err := grpc_health_v1.NewHealthClient(p.connection).Check(p.t.Context(), &grpc_health_v1.HealthCheckRequest{Service: "envoy.service.auth.v3.Authorization"})
	if err != nil {
		p.t.Fatal(err)
	}
	return r.GetStatus()
}

// get asks an admin page.
func (p *process) get(path string) (int, string) {
	p.t.Helper()
	r, err := http.Get(p.admin + path)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

func noLeaks(t *testing.T) {
	t.Helper()
	current := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		goleak.VerifyNone(t, current)
	})
}

// lockedBuilder is a strings.Builder that the log may write to at the same time.
type lockedBuilder struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuilder) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuilder) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// services asks reflection what there is.
func (p *process) services() (out []string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), limit)
	defer cancel()
	stream, err := grpc_reflection_v1.NewServerReflectionClient(p.connection).ServerReflectionInfo(ctx)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := stream.Send(&grpc_reflection_v1.ServerReflectionRequest{MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{}}); err != nil {
		p.t.Fatal(err)
	}
	r, err := stream.Recv()
	if err != nil {
		p.t.Fatal(err)
	}
	for _, s := range r.GetListServicesResponse().GetService() {
		out = append(out, s.GetName())
	}
	return out
}
