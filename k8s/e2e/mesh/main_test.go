package mesh

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/usher-authz/usher/envoy/e2e/stack"
)

// What all tests share: an OpenID provider, a LangGraph server with a recorder before it, and one usher, which serves the
// example's policy for the host of the example.
var (
	parts    *stack.Stack
	usher    *stack.Part
	checks   string // usher's address
	policies string // the example's file, as it is in the repository
	backend  *recorder

	alice, bob string
)

const host = "agents.example.com"

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	defer func() {
		if parts != nil {
			parts.Close()
		}
	}()
	if err := setUp(ctx); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "the tests of the mesh cannot start:", err)
		return 1
	}
	defer usher.Stop()
	defer backend.Close()
	defer func() {
		if oneServer != nil {
			oneServer.Stop()
		}
	}()
	return m.Run()
}

func setUp(ctx context.Context) (err error) {
	if parts, err = stack.Start(ctx, stack.Options{}); err != nil {
		return err
	}
	if backend, err = newRecorder(parts.Backend); err != nil {
		return err
	}
	root, err := stack.Root()
	if err != nil {
		return err
	}
	policies = filepath.Join(root, "examples", "langgraph", "policy.yaml")
	text, err := os.ReadFile(policies)
	if err != nil {
		return err
	}
	here := strings.NewReplacer("issuer: https://auth.example.com", "issuer: "+parts.Issuer+"\n  allowHTTP: true",
		"url: http://langgraph.agents.svc:8000", "url: "+parts.Backend).Replace(string(text))
	file := filepath.Join(parts.Dir, "policy.yaml")
	if err := os.WriteFile(file, []byte(here), 0o600); err != nil {
		return err
	}
	var ports [2]int
	for i := range ports {
		if ports[i], err = stack.FreePort(); err != nil {
			return err
		}
	}
	checks = fmt.Sprintf("127.0.0.1:%d", ports[0])
	admin := fmt.Sprintf("127.0.0.1:%d", ports[1])
	usher = stack.NewPart(stack.Process{
		Name: "usher", Log: filepath.Join(parts.Dir, "logs", "usher.log"), Dir: parts.Dir,
		Command: []string{parts.Usher, "serve", "--config", file, "--grpc-address", checks, "--admin-address", admin},
		Ready:   stack.Answers200("http://" + admin + "/readyz"),
	})
	if err := usher.Start(ctx); err != nil {
		return err
	}
	for token, user := range map[*string]stack.User{&alice: stack.Alice, &bob: stack.Bob} {
		got, err := parts.Login(ctx, user)
		if err != nil {
			return err
		}
		*token = got.Access
	}
	return nil
}

// unhurried is for the Envoys that run: a busy machine must not make a 503 of an answer.
const unhurried = "--check-timeout=5s"

// written is what `usher envoy` writes for the example.
func written(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), parts.Usher, append([]string{"envoy", "--config", policies}, args...)...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		t.Fatalf("usher envoy: %v: %s", err, &errOut)
	}
	return out.String()
}

// recorder passes requests on to the LangGraph server, and keeps them.
type recorder struct {
	*httptest.Server
	mu   sync.Mutex
	seen []*http.Request
}

func newRecorder(to string) (*recorder, error) {
	target, err := url.Parse(to)
	if err != nil {
		return nil, err
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		FlushInterval: -1,
		// Node keeps an idle connection for 5 s: a POST that meets its end is an error.
		Transport: &http.Transport{IdleConnTimeout: 2 * time.Second},
	}
	r := &recorder{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r.mu.Lock()
		r.seen = append(r.seen, q.Clone(context.WithoutCancel(q.Context())))
		r.mu.Unlock()
		proxy.ServeHTTP(w, q)
	}))
	return r, nil
}

// reset forgets what was seen.
func (r *recorder) reset() { r.take() }

// take returns what was seen, and forgets it.
func (r *recorder) take() []*http.Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := r.seen
	r.seen = nil
	return seen
}

// gate is an Envoy that stands before them.
type gate struct {
	Address string
	Envoy   *stack.Part
}

// start runs an Envoy with that bootstrap, and waits until it reaches Usher and the backend.
func start(t *testing.T, name, bootstrap string) *gate {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	part, address, err := parts.NewEnvoy(ctx, name, bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		part.Stop()
		if t.Failed() {
			t.Logf("Envoy %s: see its access log", name)
		}
	})
	g := &gate{Address: address, Envoy: part}
	err = stack.Poll(ctx, func() error {
		if r := g.ask(t, call{path: "/ok"}); r.status != http.StatusOK {
			return fmt.Errorf("GET /ok: %d %s", r.status, r.body)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, part.Tail())
	}
	backend.reset()
	return g
}

// call is a client's request; the zero value is a GET of no path for the example's host.
type call struct {
	method, path, host, token, body string
	header                          map[string]string
	h2                              bool
}

func (c call) as(token string) call { c.token = token; return c }

type answer struct {
	status int
	header http.Header
	body   string
}

func (g *gate) ask(t *testing.T, c call) answer {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true, Protocols: &http.Protocols{}}
	transport.Protocols.SetHTTP1(!c.h2)
	transport.Protocols.SetUnencryptedHTTP2(c.h2)
	defer transport.CloseIdleConnections()
	method := c.method
	if method == "" {
		method = http.MethodGet
	}
	var body io.Reader
	if c.body != "" {
		body = strings.NewReader(c.body)
	}
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+g.Address, body)
	if err != nil {
		t.Fatal(err)
	}
	// As it is written, without a second thought about escapes and dots.
	request.URL = &url.URL{Scheme: "http", Host: g.Address, Opaque: c.path}
	request.Host = c.host
	if c.host == "" {
		request.Host = host
	}
	if c.token != "" {
		request.Header.Set("Authorization", "Bearer "+c.token)
	}
	if c.body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for name, value := range c.header {
		request.Header[name] = []string{value}
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return answer{body: err.Error()}
	}
	defer response.Body.Close()
	b, err := io.ReadAll(io.LimitReader(response.Body, 16<<20))
	if err != nil {
		return answer{status: response.StatusCode, body: err.Error()}
	}
	return answer{response.StatusCode, response.Header, string(b)}
}

// patience is how long anything may take: these are real processes, on a machine that may be busy.
const patience = 3 * time.Minute

// inTime asks until the answer is not that Usher could not look something up in time, which happens on a busy machine.
func (g *gate) inTime(t *testing.T, c call) answer {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		r := g.ask(t, c)
		if r.status != http.StatusServiceUnavailable || r.header.Get("Retry-After") == "" || time.Now().After(end) {
			return r
		}
	}
}

// want asks and fails the test unless the answer has this status.
func (g *gate) want(t *testing.T, status int, c call) answer {
	t.Helper()
	r := g.inTime(t, c)
	if r.status != status {
		t.Errorf("%s %s: got %d, want %d: %.300s", c.method, c.path, r.status, status, r.body)
	}
	return r
}

// raw sends these bytes and returns the status line of the answer, empty if there was none.
func (g *gate) raw(t *testing.T, text string) string {
	t.Helper()
	conn, err := net.DialTimeout("tcp", g.Address, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	n, _ := conn.Read(b)
	line, _, _ := strings.Cut(string(b[:n]), "\r\n")
	return line
}
