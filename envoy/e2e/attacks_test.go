package e2e_test

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/usher-authz/usher/envoy/e2e/stack"
	"github.com/usher-authz/usher/extauthz/attacktest"
)

// attackFile has the attacks, whose cases of level http are sent here.
const attackFile = "extauthz/attacktest/testdata/attacks.json"

// attackBodyLimit is Usher's --max-request-bytes here: a case sends 2 MB, which the default of 4 MiB lets through, and
// expects that it is too large.
const attackBodyLimit = 1 << 20

// The issuers, the backend, `usher serve` and the Envoys are real processes and sockets; the manifests and the bootstrap
// are as anyone's. Every case is sent twice: in the clear, and over TLS to a listener that verifies client certificates,
// as only there the scheme is https and x-forwarded-client-cert is not just removed.
func TestAttackCasesThroughEnvoy(t *testing.T) {
	ctx := begin(t)
	suite := loadAttacks(t)
	certs := newCertificates(t)
	world, up := serveWorld(t, suite, certs)
	text, err := suite.Manifests(world.urls)
	if err != nil {
		t.Fatal(err)
	}
	limit := "--max-request-bytes=" + strconv.Itoa(attackBodyLimit)
	plain := &envoys{upstream: up}
	plain.gate, err = parts.NewGateAs(ctx, "attacks", stack.GateOptions{
		Manifests: string(text),
		UsherArgs: []string{limit, "--log-level=debug"}, // no level may show a secret
		UsherEnv:  []string{"SSL_CERT_FILE=" + certs.ca},
		// A busy machine must not make a 503 of an answer. Where Usher hangs, the timeout is the default again.
		EnvoyArgs: []string{limit, "--backend-url", world.urls["backend"], "--check-timeout=10s"},
		Ping:      plain.pings(http.StatusOK),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(plain.gate.Usher.Stop)
	t.Cleanup(plain.gate.Envoy.Stop)

	secure := &envoys{upstream: up, tls: certs.client}
	gate := *plain.gate
	gate.Ping = secure.pings(http.StatusOK)
	gate.EnvoyArgs = append(slices.Clone(gate.EnvoyArgs),
		"--tls-certificate-file", certs.cert, "--tls-key-file", certs.key, "--tls-client-ca-file", certs.ca)
	if secure.gate, err = gate.WithEnvoy(ctx, "attacks-tls", nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(secure.gate.Envoy.Stop)

	for _, listener := range []struct {
		name string
		*envoys
	}{{"in_the_clear", plain}, {"over_tls", secure}} {
		t.Run(listener.name, func(t *testing.T) {
			ctx := begin(t)
			listener.startOthers(ctx, t, "attacks-"+listener.name)
			var table attacktest.Table
			for _, c := range suite.Cases {
				if c.Level != attacktest.LevelHTTP {
					continue // the interpreter's own tests run those
				}
				t.Run(c.ID, func(t *testing.T) {
					result, problems, err := suite.RunHTTP(ctx, c, world.World, listener)
					if err != nil {
						t.Error(err)
					}
					for _, p := range problems {
						t.Error(p)
					}
					t.Logf("status %v", result.Statuses)
					table.Ran(c, !t.Failed(), result)
				})
			}
			fmt.Printf("attacks through Envoy, %s\n%s", strings.ReplaceAll(listener.name, "_", " "), &table)
		})
	}
	if n := world.Hits()["canary"]; n > 0 {
		t.Errorf("the canary, which nobody may call, got %d calls", n)
	}
	for _, what := range world.Strange() {
		t.Error(what)
	}
}

func loadAttacks(t *testing.T) *attacktest.Suite {
	t.Helper()
	root, err := stack.Root()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(attackFile)))
	if err != nil {
		t.Fatal(err)
	}
	suite, err := attacktest.Load(text)
	if err != nil {
		t.Fatal(err)
	}
	return suite
}

// sockets is a World on loopback.
type sockets struct {
	*attacktest.World
	urls map[string]string
}

// serveWorld serves the issuers, the backend and the canaries, and what the backend gets through Envoy.
func serveWorld(t *testing.T, suite *attacktest.Suite, certs *certificates) (*sockets, *upstream) {
	t.Helper()
	urls, up := map[string]string{}, &upstream{}
	var later []func(*attacktest.World)
	for _, name := range attacktest.Servers() {
		var handler atomic.Pointer[http.Handler]
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if h := handler.Load(); h != nil {
				(*h).ServeHTTP(w, r)
			}
		}))
		if name == "backend" {
			server.Config.ConnState = up.notes
		}
		switch name {
		case "backend", "canary_http":
			server.Start()
		default:
			server.TLS = certs.server
			server.StartTLS()
		}
		t.Cleanup(server.Close)
		urls[name] = server.URL
		// The world has to know every address before it can serve one.
		later = append(later, func(w *attacktest.World) {
			h := w.Handler(name)
			if name == "backend" {
				h = up.before(h)
			}
			handler.Store(&h)
		})
	}
	world := attacktest.NewWorld(suite, urls)
	for _, f := range later {
		f(world)
	}
	return &sockets{world, urls}, up
}

// upstream notes what the backend gets through Envoy.
type upstream struct {
	mu       sync.Mutex
	begun    int // requests of which at least a byte came
	readable int // requests that net/http could read
	list     []attacktest.Upstream
}

func (u *upstream) notes(_ net.Conn, state http.ConnState) {
	if state == http.StateActive {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.begun++
	}
}

// before hands Usher's look-ups on, which lack what Envoy puts on every request, and notes and answers the rest.
func (u *upstream) before(lookups http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.mu.Lock()
		u.readable++
		u.mu.Unlock()
		if r.Header.Get("X-Forwarded-Proto") == "" {
			lookups.ServeHTTP(w, r)
			return
		}
		body, err := io.ReadAll(r.Body)
		arrival := attacktest.Upstream{Method: r.Method, Host: r.Host, Path: r.RequestURI, Body: body}
		for name, values := range r.Header {
			for _, value := range values {
				arrival.Headers = append(arrival.Headers, [2]string{strings.ToLower(name), value})
			}
		}
		u.mu.Lock()
		u.list = append(u.list, arrival)
		u.mu.Unlock()
		switch {
		case err != nil:
			w.WriteHeader(http.StatusBadRequest)
		case strings.HasPrefix(r.URL.Path, "/.usher/"):
			w.WriteHeader(http.StatusNotFound) // as of any backend
		default:
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, "{}")
		}
	})
}

// take returns what came since the last time. What net/http answered 400 by itself has come too.
func (u *upstream) take() []attacktest.Upstream {
	u.mu.Lock()
	defer u.mu.Unlock()
	list := u.list
	for range u.begun - u.readable {
		list = append(list, attacktest.Upstream{Method: "unreadable"})
	}
	u.list, u.begun, u.readable = nil, 0, 0
	return list
}

// envoys are the Envoys with one kind of listener. They are an attacktest.Driver.
type envoys struct {
	tls      *tls.Config // of the client; nil: in the clear
	upstream *upstream
	gate     *stack.Gate
	noFilter *stack.Gate // without the edit filter
	hanging  *stack.Gate // before hang instead of Usher
	hang     *hangingUsher
}

// pings returns a stack.Gate's Ping: a public route is answered so.
func (e *envoys) pings(status int) func(context.Context, *stack.Gate) error {
	return func(ctx context.Context, g *stack.Gate) error {
		const request = "GET /healthz HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n"
		o, err := send(ctx, g.Address, e.tls, attacktest.Shot{Raw: []byte(request)})
		if err == nil && o.Status != status {
			err = fmt.Errorf("status %d, expected %d: %s", o.Status, status, o.Body)
		}
		return err
	}
}

// startOthers starts the Envoys that single cases need.
func (e *envoys) startOthers(ctx context.Context, t *testing.T, name string) {
	t.Helper()
	var err error
	if e.noFilter, err = e.gate.WithEnvoy(ctx, name+"-nofilter", removeEditFilter); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.noFilter.Envoy.Stop)
	e.hang = startHangingUsher(t)
	gate := *e.gate
	gate.EnvoyArgs = slices.DeleteFunc(slices.Clone(gate.EnvoyArgs), func(arg string) bool {
		return strings.HasPrefix(arg, "--check-timeout")
	})
	gate.EnvoyArgs = append(gate.EnvoyArgs, "--usher-address", e.hang.address)
	gate.Ping = e.pings(http.StatusServiceUnavailable)
	if e.hanging, err = gate.WithEnvoy(ctx, name+"-hang", nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.hanging.Envoy.Stop)
}

// Send sends one shot to the Envoy that it is for.
func (e *envoys) Send(ctx context.Context, shot attacktest.Shot) (o attacktest.Outcome, err error) {
	gate := e.gate
	switch {
	case shot.Bootstrap == attacktest.WithoutEditFilter && shot.Usher == "":
		gate = e.noFilter
	case shot.Bootstrap != "":
		return o, fmt.Errorf("bootstrap %q with Usher %q is not known here", shot.Bootstrap, cmp.Or(shot.Usher, "running"))
	}
	switch shot.Usher {
	case "":
	case "hang":
		gate = e.hanging
		before := e.hang.checks.Load()
		defer func() {
			if err == nil && e.hang.checks.Load() == before {
				err = errors.New("the hanging Usher was not asked")
			}
		}()
	case "stopped":
		e.gate.Usher.Stop()
		defer func() {
			err = errors.Join(err, e.gate.Usher.Start(ctx), e.gate.Ready(ctx), e.noFilter.Ready(ctx))
		}()
	default:
		return o, fmt.Errorf("Usher cannot be %q here", shot.Usher)
	}
	logged := len(gate.Usher.Log())
	e.upstream.take()
	if o, err = send(ctx, gate.Address, e.tls, shot); err != nil {
		return o, err
	}
	o.Upstream = e.upstream.take()
	o.Log = gate.Usher.Log()[logged:]
	return o, nil
}

// hangingUsher is healthy, takes checks, and never answers them.
type hangingUsher struct {
	authv3.UnimplementedAuthorizationServer
	address string
	checks  atomic.Int64
}

func (h *hangingUsher) Check(ctx context.Context, _ *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	h.checks.Add(1)
	<-ctx.Done()
	return nil, ctx.Err()
}

func startHangingUsher(t *testing.T) *hangingUsher {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &hangingUsher{address: l.Addr().String()}
	server := grpc.NewServer()
	authv3.RegisterAuthorizationServer(server, h)
	healthv1.RegisterHealthServer(server, health.NewServer())
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return h
}

// certificates are those of a test CA, for everything on 127.0.0.1.
type certificates struct {
	ca, cert, key  string // files
	server, client *tls.Config
}

func newCertificates(t *testing.T) *certificates {
	t.Helper()
	now := time.Now()
	template := func(name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: name},
			NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour), BasicConstraintsValid: true,
		}
	}
	ca, leaf := template("Test CA"), template("127.0.0.1")
	ca.IsCA, ca.KeyUsage = true, x509.KeyUsageCertSign
	leaf.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	leaf.KeyUsage, leaf.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}

	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	must(err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	must(err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	must(err)
	dir := t.TempDir()
	write := func(name, kind string, b []byte) string {
		path := filepath.Join(dir, name)
		must(os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600))
		return path
	}
	c := &certificates{
		ca:   write("ca.pem", "CERTIFICATE", caDER),
		cert: write("cert.pem", "CERTIFICATE", der),
		key:  write("key.pem", "PRIVATE KEY", keyDER),
	}
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	must(err)
	parsed, err := x509.ParseCertificate(caDER)
	must(err)
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	c.server = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	c.client = &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12}
	return c
}
