package attacktest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Paths at an issuer.
const (
	discoveryPath  = "/.well-known/openid-configuration"
	jwksPath       = "/jwks"
	introspectPath = "/introspect"
)

// ClientSecret is what the gate's client has at the issuer that introspects; its manifests name it as a Secret.
const ClientSecret = "introspection-secret-7d1f0a"

// Servers are the names of the servers of a World, as placeholders name them.
func Servers() []string {
	return []string{"issuer.a", "issuer.b", "issuer.o", "issuer.s", "backend", "canary", "canary_http"}
}

// MemoryURLs are base URLs for a World that is reached by its RoundTrip alone.
func MemoryURLs() map[string]string {
	return map[string]string{
		"issuer.a": "https://issuer-a.test", "issuer.b": "https://issuer-b.test", "issuer.o": "https://issuer-o.test",
		"issuer.s": "https://issuer-s.test", "backend": "http://backend.test",
		"canary": "https://canary.test", "canary_http": "http://canary.test",
	}
}

func isEndpoint(name string) bool {
	kind, issuer, of := strings.Cut(name, ".")
	switch kind {
	case "discovery", "jwks", "introspect":
		return of && issuer != ""
	case "backend", "canary":
		return !of
	}
	return false
}

// World is everything around a gate: issuers, a backend, and a canary that nobody may call. It is an
// http.RoundTripper, so that a whole run fits into one synctest bubble, and gives http.Handlers for real sockets.
// It is safe for concurrent use.
type World struct {
	lab  *lab
	urls map[string]string

	mu       sync.Mutex
	fixtures map[string]reply
	hits     map[string]int
	read     map[string]int64 // the most that was read of one answer
	strange  []string         // calls that no gate may make
}

// NewWorld returns the servers of a suite at those base URLs, by name.
func NewWorld(s *Suite, urls map[string]string) *World {
	return &World{
		lab: &lab{suite: s, urls: urls}, urls: urls,
		fixtures: map[string]reply{}, hits: map[string]int{}, read: map[string]int64{},
	}
}

// reply is the answer of an endpoint.
type reply struct {
	status  int
	headers [][2]string
	body    []byte
	hang    bool
	close   bool
	pause   time.Duration // between two bytes of the body
}

// pause returns how long a dripping answer waits between two bytes.
func (f *Fixture) pause() (time.Duration, error) {
	switch f.Drip.kind {
	case 0, 'f', 'n':
		return 0, nil
	case 't':
		return time.Second, nil
	}
	n, err := f.Drip.number()
	return time.Duration(n) * time.Millisecond, err
}

// Install puts fixtures in place of the normal answers; a nil one restores the normal answer.
func (w *World) Install(fixtures map[string]*Fixture) error {
	for name, f := range fixtures {
		if f == nil {
			w.mu.Lock()
			delete(w.fixtures, name)
			w.mu.Unlock()
			continue
		}
		r := reply{status: f.Status, hang: f.Hang, close: f.Close}
		var err error
		if r.pause, err = f.pause(); err != nil {
			return fmt.Errorf("fixture of %q: %w", name, err)
		}
		if r.body, err = w.lab.bytes(f.Body); err != nil {
			return fmt.Errorf("fixture of %q: %w", name, err)
		}
		for _, h := range f.Headers {
			name, err := w.lab.text(h[0])
			if err != nil {
				return err
			}
			value, err := w.lab.text(h[1])
			if err != nil {
				return err
			}
			r.headers = append(r.headers, [2]string{name, value})
		}
		w.mu.Lock()
		w.fixtures[name] = r
		w.mu.Unlock()
	}
	return nil
}

// Hits returns how often each endpoint was called since the last ResetHits.
func (w *World) Hits() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.hits)
}

// ResetHits begins the count of calls anew.
func (w *World) ResetHits() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.hits)
}

// mostRead returns the most bytes that were read of one answer, by endpoint.
func (w *World) mostRead() map[string]int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.read)
}

// Strange returns what was called that nobody may call: unknown hosts, issuers in the clear, other methods.
func (w *World) Strange() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.strange...)
}

func (w *World) count(endpoint string) (reply, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hits[endpoint]++
	r, ok := w.fixtures[endpoint]
	return r, ok
}

func (w *World) oddity(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.strange = append(w.strange, fmt.Sprintf(format, args...))
}

// errClosed is what a client sees of a connection that breaks.
var errClosed = errors.New("connection closed by the test")

// RoundTrip answers as the server whose base URL the request is for. Any other host is an oddity.
func (w *World) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.Body != nil {
		defer request.Body.Close()
	}
	server := ""
	for _, name := range Servers() {
		u, err := url.Parse(w.urls[name])
		if err == nil && u.Host == request.URL.Host && u.Scheme == request.URL.Scheme {
			server = name
		}
	}
	if server == "" {
		w.oddity("a call to %s://%s", request.URL.Scheme, request.URL.Host)
		return nil, errClosed
	}
	endpoint, r := w.answer(server, request)
	ctx := request.Context()
	switch {
	case r.hang:
		<-ctx.Done()
		return nil, ctx.Err()
	case r.close:
		return nil, errClosed
	}
	response := &http.Response{
		Status: strconv.Itoa(r.status) + " " + http.StatusText(r.status), StatusCode: r.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, ContentLength: int64(len(r.body)), Request: request,
	}
	for _, h := range r.headers {
		response.Header.Add(h[0], h[1])
	}
	response.Body = &body{world: w, endpoint: endpoint, ctx: ctx, rest: bytes.NewReader(r.body), pause: r.pause}
	return response, nil
}

// body counts what is read of it.
type body struct {
	world    *World
	endpoint string
	ctx      context.Context
	rest     *bytes.Reader
	pause    time.Duration
	read     int64
}

func (b *body) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	if b.pause > 0 && len(p) > 0 {
		timer := time.NewTimer(b.pause)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-b.ctx.Done():
			return 0, b.ctx.Err()
		}
		p = p[:1]
	}
	n, err := b.rest.Read(p)
	b.read += int64(n)
	b.world.mu.Lock()
	b.world.read[b.endpoint] = max(b.world.read[b.endpoint], b.read)
	b.world.mu.Unlock()
	return n, err
}

func (b *body) Close() error { return nil }

// Handler returns one of the Servers for a real socket.
func (w *World) Handler(server string) http.Handler {
	return http.HandlerFunc(func(out http.ResponseWriter, request *http.Request) {
		_, r := w.answer(server, request)
		switch {
		case r.hang:
			<-request.Context().Done()
			return
		case r.close:
			panic(http.ErrAbortHandler)
		}
		for _, h := range r.headers {
			out.Header().Add(h[0], h[1])
		}
		out.WriteHeader(r.status)
		if r.pause == 0 {
			out.Write(r.body)
			return
		}
		flush := http.NewResponseController(out)
		for i := range r.body {
			select {
			case <-request.Context().Done():
				return
			case <-time.After(r.pause):
			}
			out.Write(r.body[i : i+1])
			flush.Flush()
		}
	})
}

// answer returns the endpoint that is called, and what it says.
func (w *World) answer(server string, request *http.Request) (string, reply) {
	kind, issuer, _ := strings.Cut(server, ".")
	endpoint := kind
	switch {
	case kind == "canary" || kind == "canary_http":
		endpoint = "canary"
	case kind == "issuer":
		switch request.URL.Path {
		case discoveryPath:
			endpoint = "discovery." + issuer
		case jwksPath:
			endpoint = "jwks." + issuer
		case introspectPath:
			endpoint = "introspect." + issuer
		default:
			endpoint = "other." + issuer
		}
	}
	if r, replaced := w.count(endpoint); replaced {
		return endpoint, r
	}
	var err error
	var r reply
	switch {
	case kind == "backend":
		r = w.backend(request)
	case strings.HasPrefix(endpoint, "discovery."):
		r.body, err = w.lab.discovery(textValue(issuer), Value{})
	case strings.HasPrefix(endpoint, "jwks."):
		r.body, err = w.lab.jwks(textValue(issuer), Value{})
	case strings.HasPrefix(endpoint, "introspect."):
		r = w.introspect(request)
	case endpoint == "canary":
		r.status = http.StatusTeapot
	default:
		r.status = http.StatusNotFound
	}
	if err != nil {
		w.oddity("%s cannot answer: %v", endpoint, err)
		r.status = http.StatusInternalServerError
	}
	if r.status == 0 {
		r.status = http.StatusOK
	}
	if r.headers == nil {
		r.headers = [][2]string{{"content-type", "application/json"}}
	}
	return endpoint, r
}

// introspect answers as RFC 7662, section 2.2, asks: only to the gate's own client.
func (w *World) introspect(request *http.Request) reply {
	user, password, ok := request.BasicAuth()
	if request.Method != http.MethodPost || !ok || user != "usher" || password != ClientSecret {
		return reply{status: http.StatusUnauthorized}
	}
	text, err := io.ReadAll(io.LimitReader(request.Body, 1<<20))
	form, formErr := url.ParseQuery(string(text))
	if err != nil || formErr != nil || len(form["token"]) != 1 {
		return reply{status: http.StatusBadRequest}
	}
	known := w.lab.suite.Environment.OpaqueTokens
	v, ok := known[form.Get("token")]
	if !ok || form.Get("token") == "*" {
		v = known["*"]
	}
	out, err := w.lab.json(v)
	if err != nil {
		w.oddity("introspection cannot answer: %v", err)
		return reply{status: http.StatusInternalServerError}
	}
	return reply{body: out}
}
