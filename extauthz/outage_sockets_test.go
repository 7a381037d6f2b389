package extauthz

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"encoding/pem"
	"flag"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/extauthz/token/tokentest"
	"github.com/usher-authz/usher/policy"
)

var outage = flag.Duration("outage", 1500*time.Millisecond, "how long the provider is sick in the tests with real sockets")

// socketProvider is a tokentest.Provider behind TLS on a socket, which may be sick.
type socketProvider struct {
	*tokentest.Provider
	sick    atomic.Pointer[http.HandlerFunc]
	hits    atomic.Int64 // while it is sick
	open    atomic.Int64 // connections
	most    atomic.Int64 // of them at a time
	server  *httptest.Server
	address string
}

func newSocketProvider(t *testing.T, scheme string) *socketProvider {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &socketProvider{address: l.Addr().String()}
	p.Provider = tokentest.New(scheme+"://"+p.address, tokentest.NewKey("one", "ES256"))
	p.serve(l)
	t.Cleanup(func() { p.server.CloseClientConnections(); p.server.Close() })
	return p
}

func (p *socketProvider) serve(l net.Listener) {
	p.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if sick := p.sick.Load(); sick != nil {
			p.hits.Add(1)
			_, _ = io.Copy(io.Discard, r.Body) // only then does the server notice that a client went away
			(*sick)(w, r)
			return
		}
		p.ServeHTTP(w, r)
	}))
	_ = p.server.Listener.Close()
	p.server.Listener = l
	p.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	p.server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			n := p.open.Add(1)
			for old := p.most.Load(); n > old && !p.most.CompareAndSwap(old, n); old = p.most.Load() {
			}
		case http.StateClosed:
			p.open.Add(-1)
		}
	}
	if strings.HasPrefix(p.Issuer, "https:") {
		p.server.StartTLS()
	} else {
		p.server.Start()
	}
}

func (p *socketProvider) ca() []byte {
	if p.server.Certificate() == nil {
		return nil
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.server.Certificate().Raw})
}

// heal ends the sickness as a restart of the provider does: what hung is cut.
func (p *socketProvider) heal(t *testing.T, stopped bool) {
	p.sick.Store(nil)
	if !stopped {
		p.server.CloseClientConnections()
		return
	}
	l, err := net.Listen("tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	p.serve(l)
}

// gzipBomb is 50 MB of spaces, compressed.
func gzipBomb() []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	for range 50 {
		_, _ = z.Write(bytes.Repeat([]byte(" "), 1<<20))
	}
	_ = z.Close()
	return b.Bytes()
}

// TestA_sick_provider_on_a_socket_refuses_nobody_whose_key_is_known is the test in virtual time again, with TLS, the real
// gRPC server, and real time: as long as the flag -outage says for each sickness.
func TestA_sick_provider_on_a_socket_refuses_nobody_whose_key_is_known(t *testing.T) {
	var astray atomic.Int64
	elsewhere := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { astray.Add(1) }))
	t.Cleanup(func() {
		elsewhere.Close()
		if n := astray.Load(); n > 0 {
			t.Errorf("%d redirects to another host were followed", n)
		}
	})
	bomb := gzipBomb()
	for name, sick := range map[string]http.HandlerFunc{
		"stopped": nil,
		"hanging": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"500":     func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "oops", 500) },
		"HTML": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "<html>maintenance</html>")
		},
		"redirects": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) },
		"50 MB": func(w http.ResponseWriter, _ *http.Request) {
			for range 50 {
				if _, err := w.Write(bytes.Repeat([]byte(" "), 1<<20)); err != nil {
					return
				}
			}
		},
		"50 MB compressed": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(bomb)
		},
		"an empty key set": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"keys":[]}`) },
		"a byte at a time": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write([]byte(" ")); err != nil {
					return
				}
				_ = http.NewResponseController(w).Flush()
				time.Sleep(50 * time.Millisecond)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newSocketProvider(t, "https")
			client, state, logs := socketServer(t, p)
			known := func() string {
				return p.Mint(tokentest.Claims{"scope": "items:read", "exp": time.Now().Add(time.Hour).Unix()})
			}
			ask := func(text string) (int, string, time.Duration) {
				start := time.Now()
				r, err := client.Check(context.Background(), check(text))
				if err != nil {
					t.Errorf("check: %v", err)
				}
				return statusOf(r), headerOf(r.GetDeniedResponse().GetHeaders(), "retry-after"), time.Since(start)
			}
			cached := known()
			until(t, "the first fetch", func() bool { status, _, _ := ask(cached); return status == 200 })

			if sick == nil {
				p.server.CloseClientConnections()
				p.server.Close()
			} else {
				p.sick.Store(&sick)
			}
			p.Publish(tokentest.NewKey("two", "ES256")) // cannot be fetched
			strange := known()
			p.Withdraw("two")
			fresh := known() // of the known key, not seen before
			p.Publish(tokentest.NewKey("three", "ES256"))
			other := known()
			p.Withdraw("three")

			var slow, asked atomic.Int64
			var wg sync.WaitGroup
			end := time.Now().Add(*outage)
			for i := range 8 {
				wg.Go(func() {
					for time.Now().Before(end) {
						text, want := []string{cached, strange, fresh, other}[i%4], []int{200, 503}[i%2]
						status, after, took := ask(text)
						if status != want || (want == 503) != (after != "") {
							t.Errorf("got %d with retry-after %q, want %d", status, after, want)
							return
						}
						if asked.Add(1); took > 200*time.Millisecond {
							slow.Add(1)
						}
						time.Sleep(10 * time.Millisecond)
					}
				})
			}
			wg.Wait()
			// In virtual time it is none; here the machine may be busy with something else, in a short run all the time.
			if *outage >= 30*time.Second && slow.Load()*20 > asked.Load() {
				t.Errorf("%d of %d answers took more than 200 ms", slow.Load(), asked.Load())
			}
			// One that requests ask for in each interval, and the retries, which double up to a minute.
			if n, most := p.hits.Load(), int64(6+*outage/(5*time.Second)); n > most {
				t.Errorf("%d requests reached the provider, want at most %d", n, most)
			}
			st := state.Status()["p"]
			if st.Fetches == nil || st.Fetches.Attempts < 1 || st.Fetches.Wanted < 2 || !st.Ready {
				t.Errorf("status %+v, %+v", st, st.Fetches)
			}
			if told := logs.FilterMessage("keys cannot be fetched; trying again"); told.Len() > 2 {
				t.Errorf("the problem is in the log %d times", told.Len())
				for _, entry := range told.All() {
					t.Log(entry.Time.Format(time.TimeOnly), entry.ContextMap())
				}
			}

			p.heal(t, sick == nil)
			p.Publish(tokentest.NewKey("four", "ES256"))
			recovered := known()
			until(t, "the recovery", func() bool { status, _, _ := ask(recovered); return status == 200 })
			if st := state.Status()["p"]; st.Problem != "" || !st.Fetches.StaleSince.IsZero() || st.Fetches.Failures >= st.Fetches.Attempts {
				t.Errorf("after the recovery: %+v, %+v", st, st.Fetches)
			}
		})
	}
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(max(30*time.Second, 2*time.Minute*time.Duration(*outage/time.Minute))); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited too long for %s", what)
		}
	}
}

// socketServer is a gRPC server on a socket whose one provider is p.
func socketServer(t *testing.T, p *socketProvider, change ...func(*token.Config)) (authv3.AuthorizationClient, *State, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	s, m := New(Options{Logger: zap.New(core)}), newMinter(t, "ES256")
	mapping, err := policy.NewMapping(policy.MappingSource{Permissions: policy.Text{Text: `claims.scope.split(" ")`}})
	if err != nil {
		t.Fatal(err)
	}
	config := token.Config{
		Name: "p", Issuer: p.Issuer, Audiences: []string{tokentest.Audience}, Identity: mapping, CA: p.ca(), Fingerprint: rand.Text(),
		Logger: zap.New(core),
	}
	for _, f := range change {
		f(&config)
	}
	state, err := Build(nil, testStateFor(t, m.jwks(t)).Policies, map[string]token.Config{"p": config}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Swap(state)
	ctx, cancel := context.WithCancel(context.Background())
	state.Start(ctx)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(ServerOptions()...)
	s.Register(g)
	go func() { _ = g.Serve(l) }()
	connection, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = connection.Close()
		g.Stop()
		cancel()
		state.Stop(nil)
	})
	return authv3.NewAuthorizationClient(connection), state, logs
}
