package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
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
const limit = 30 * time.Second

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

func TestServe(t *testing.T) {
	assistant := "/assistants/" + thread

	t.Run("it_answers_and_ends_well_on_SIGTERM", func(t *testing.T) {
		noLeaks(t)
		w := newWorld(t)
		p := start(t, w.config).ready()
		for _, c := range []struct {
			path, token string
			want        int
		}{
			{"/ok", "", 200},
			{assistant, w.provider.Mint(), 200},
			{"/threads/" + thread, w.provider.Mint(), 200},
			{"/threads/" + thread, w.provider.Mint(tokentest.Claims{"sub": "bob"}), 404},
			{assistant, "", 401},
			{assistant, "a.b.c", 401},
			{"/nowhere", w.provider.Mint(), 404},
		} {
			if got := p.status("GET", c.path, c.token); got != c.want {
				t.Errorf("GET %s: %d, want %d", c.path, got, c.want)
			}
		}
		if got := p.health(); got != grpc_health_v1.HealthCheckResponse_SERVING {
			t.Errorf("health is %v", got)
		}
		if code, body := p.get("/readyz"); code != 200 || !strings.Contains(body, `"company"`) || strings.Contains(body, "problem") {
			t.Errorf("readyz: %d %s", code, body)
		}
		if code, _ := p.get("/healthz"); code != 200 {
			t.Errorf("healthz: %d", code)
		}
		if code, _ := p.get("/"); code != 404 {
			t.Errorf("/: %d", code)
		}
		if !strings.Contains(strings.Join(p.services(), " "), "envoy.service.auth.v3.Authorization") {
			t.Error("reflection does not list the service")
		}
		p.terminate()
		p.logged("stopped")
		if code := p.wait(); code != exitGood {
			t.Errorf("exit code %d", code)
		}
	})

	t.Run("a_check_in_flight_is_finished_after_SIGTERM", func(t *testing.T) {
		noLeaks(t)
		w := newWorld(t)
		asked, release := make(chan struct{}), make(chan struct{})
		w.lookup = func() {
			close(asked)
			<-release
		}
		p := start(t, w.config).ready()
		answered := make(chan error, 1)
		go func() {
			_, err := p.check("GET", "/threads/"+thread, w.provider.Mint())
			answered <- err
		}()
		<-asked
		p.terminate()
		p.logged("draining")
		close(release)
		if err := <-answered; err != nil {
			t.Errorf("the check was cut off: %v", err)
		}
		if code := p.wait(); code != exitGood {
			t.Errorf("exit code %d", code)
		}
	})

	t.Run("while_draining_it_serves_on_and_says_so", func(t *testing.T) {
		noLeaks(t)
		w := newWorld(t)
		p := start(t, w.config, "--drain-delay", "1s").ready()
		watch, err := grpc_health_v1.NewHealthClient(p.connection).Watch(t.Context(), &grpc_health_v1.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if r, err := watch.Recv(); err != nil || r.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
			t.Fatalf("%v %v", r, err)
		}
		p.terminate()
		if r, err := watch.Recv(); err != nil || r.GetStatus() != grpc_health_v1.HealthCheckResponse_NOT_SERVING {
			t.Fatalf("%v %v", r, err)
		}
		if code, body := p.get("/readyz"); code != 503 || !strings.Contains(body, `"draining": true`) {
			t.Errorf("readyz: %d %s", code, body)
		}
		if got := p.status("GET", "/ok", ""); got != 200 {
			t.Errorf("status %d", got)
		}
		if code := p.wait(); code != exitGood {
			t.Errorf("exit code %d", code)
		}
	})

	t.Run("a_change_is_put_in_force_and_a_mistake_is_not", func(t *testing.T) {
		noLeaks(t)
		w := newWorld(t)
		p := start(t, w.config).ready()
		token := w.provider.Mint()
		if got := p.status("GET", assistant, token); got != 200 {
			t.Fatalf("status %d", got)
		}
		fetched := w.provider.Hits(tokentest.JWKS)

		w.write(t, "false")
		p.logged("manifests are in force")
		if got := p.status("GET", assistant, token); got != 403 {
			t.Errorf("after the change: %d", got)
		}
		if got := w.provider.Hits(tokentest.JWKS); got != fetched {
			t.Errorf("a rule's change made the provider's keys be fetched again: %d, %d", fetched, got)
		}

		w.write(t, "user.nobody")
		p.logged("manifests are invalid")
		if got := p.status("GET", assistant, token); got != 403 {
			t.Errorf("after the mistake: %d", got)
		}
		code, body := p.get("/readyz")
		if code != 200 || !strings.Contains(body, "undefined field 'nobody'") || !strings.Contains(body, `"problemCount": 1`) {
			t.Errorf("readyz: %d %s", code, body)
		}

		if err := os.Remove(w.config); err != nil {
			t.Fatal(err)
		}
		p.logged("manifests are invalid")
		if got := p.status("GET", assistant, token); got != 403 {
			t.Errorf("without a manifest: %d", got)
		}

		w.write(t, "true")
		p.logged("manifests are in force")
		if got := p.status("GET", assistant, token); got != 200 {
			t.Errorf("after the repair: %d", got)
		}
		if _, body := p.get("/readyz"); strings.Contains(body, "problem") {
			t.Errorf("readyz: %s", body)
		}
		p.stop()
	})

	t.Run("a_provider_that_is_down_at_start_is_waited_for", func(t *testing.T) {
		noLeaks(t)
		w := newWorld(t)
		w.provider.Say(tokentest.Discovery, tokentest.Answer{Status: 500})
		p := start(t, w.config)
		if line := p.logged("not ready"); fmt.Sprint(line["providers"]) != "[company]" {
			t.Errorf("waits for %v", line["providers"])
		}
		if code, body := p.get("/readyz"); code != 503 || !strings.Contains(body, `"problem": `) {
			t.Errorf("readyz: %d %s", code, body)
		}
		if got := p.health(); got != grpc_health_v1.HealthCheckResponse_NOT_SERVING {
			t.Errorf("health is %v", got)
		}
		if got := p.status("GET", assistant, w.provider.Mint()); got != 503 {
			t.Errorf("status %d, want our own fault", got)
		}
		w.provider.Truth(tokentest.Discovery)
		p.ready()
		if got := p.status("GET", assistant, w.provider.Mint()); got != 200 {
			t.Errorf("status %d", got)
		}
		p.stop()
	})

	t.Run("a_Unix_socket_is_served_and_removed_and_a_stale_one_replaced", func(t *testing.T) {
		noLeaks(t)
		w := newWorld(t)
		// The path of a socket holds about 100 bytes, which a test's own directory may exceed.
		dir, err := os.MkdirTemp("", "usher")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		path := filepath.Join(dir, "usher.sock")
		stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
		if err != nil {
			t.Fatal(err)
		}
		stale.SetUnlinkOnClose(false)
		_ = stale.Close()

		p := start(t, w.config, "--grpc-address", "unix://"+path).ready()
		if got := p.status("GET", assistant, w.provider.Mint()); got != 200 {
			t.Errorf("status %d", got)
		}
		var second strings.Builder
		if code := run([]string{"serve", "--config", w.config, "--grpc-address", "unix://" + path, "--admin-address", ""}, io.Discard, &second); code != exitFailed || !strings.Contains(second.String(), "address already in use") {
			t.Errorf("a second usher on the socket: %d %s", code, &second)
		}
		p.stop()
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("the socket is still there: %v", err)
		}
	})

	t.Run("an_address_in_use_is_exit_1_with_a_hint", func(t *testing.T) {
		noLeaks(t)
		w := newWorld(t)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		for _, args := range [][]string{
			{"--grpc-address", l.Addr().String(), "--admin-address", ""},
			{"--grpc-address", "127.0.0.1:0", "--admin-address", l.Addr().String()},
		} {
			var errOut lockedBuilder
			code := run(append([]string{"serve", "--config", w.config}, args...), io.Discard, &errOut)
			text := errOut.String()
			if code != exitFailed || !strings.Contains(text, `usher: listen on "`+l.Addr().String()+`": address already in use`) || !strings.Contains(text, "hint: ") {
				t.Errorf("%d %s", code, text)
			}
		}
	})

	t.Run("a_body_of_the_limit_fits_into_a_check", func(t *testing.T) {
		noLeaks(t)
		w := newWorld(t)
		p := start(t, w.config).ready()
		body := `{"metadata": {}, "x": "` + strings.Repeat("x", maxRequestBytes-64) + `"}`
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		_, err := authv3.NewAuthorizationClient(p.connection).Check(ctx, &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
			Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
				Method: "POST", Path: "/threads", Host: "agents.test", RawBody: []byte(body), Size: int64(len(body)),
				Headers: map[string]string{"authorization": "Bearer " + w.provider.Mint(), "content-type": "application/json"},
			}},
		}}, grpc.MaxCallRecvMsgSize(16<<20))
		if err != nil {
			t.Error(err)
		}
		p.stop()
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
