package extauthz

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sync/errgroup"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/usher-authz/usher/extauthz/token/tokentest"
	"github.com/usher-authz/usher/policy"
)

// The floor is what a stock grpc-go and go-control-plane server costs that allows everything. Usher is measured against it
// in the same run: each server is a process of its own (this test binary again), is asked over a loopback connection,
// and counts its own CPU time, so that neither the client nor a noisy machine is in the ratio.

// floor is the stock server.
type floor struct {
	authv3.UnimplementedAuthorizationServer
}

func (floor) Check(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	return &authv3.CheckResponse{
		Status: &rpcstatus.Status{},
		HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{
			Headers: []*corev3.HeaderValueOption{{
				Header:       &corev3.HeaderValue{Key: "x-user-id", Value: "alice"},
				AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
			}},
		}},
	}, nil
}

const (
	childEnv = "USHER_BENCHMARK_SERVER" // floor, or an algorithm: what the child serves
	seedEnv  = "USHER_BENCHMARK_JWKS"   // the public key that it verifies with
	// profileEnv names a file for the child's CPU profile; what it serves is appended.
	profileEnv = "USHER_BENCHMARK_PROFILE"
)

func TestMain(m *testing.M) {
	if what := os.Getenv(childEnv); what != "" {
		serveChild(what)
		return
	}
	os.Exit(m.Run())
}

// serveChild serves until its standard input ends. It says its address, and answers "cpu" with the CPU time that it has
// used, in nanoseconds, and "reset" once its caches are empty.
func serveChild(what string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	var options []grpc.ServerOption
	if what != "floor" {
		options = ServerOptions()
	}
	if what != "floor" && os.Getenv("GOGC") == "" {
		// As usher serve has it, see cmd/usher/memory.go. The floor is what Go makes of it by itself.
		debug.SetMemoryLimit(60 << 20)
		debug.SetGCPercent(400)
	}
	server := grpc.NewServer(options...)
	gate := New(Options{Logger: discard()})
	reset := func() {
		if what != "floor" {
			t := &quiet{}
			gate.Swap(testStateFor(t, []byte(os.Getenv(seedEnv))))
		}
	}
	reset()
	if path := os.Getenv(profileEnv); path != "" {
		defer profile(path + "." + what)()
	}
	if what == "floor" {
		authv3.RegisterAuthorizationServer(server, floor{})
	} else {
		gate.Register(server)
	}
	go func() { _ = server.Serve(listener) }()
	fmt.Println(listener.Addr())
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		switch in.Text() {
		case "cpu":
			var u syscall.Rusage
			if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
				fmt.Println("error", err)
				os.Exit(1)
			}
			fmt.Println(u.Utime.Nano() + u.Stime.Nano())
		case "reset":
			reset()
			fmt.Println("done")
		}
	}
}

// profile writes a CPU profile until the function that it returns is called.
func profile(path string) (stop func()) {
	out, err := os.Create(path)
	if err == nil {
		err = pprof.StartCPUProfile(out)
	}
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	return func() {
		pprof.StopCPUProfile()
		_ = out.Close()
	}
}

// discard is a logger that encodes decision records as in production, and writes them nowhere.
func discard() *zap.Logger {
	c := zap.NewProductionEncoderConfig()
	c.TimeKey, c.EncodeTime = "time", zapcore.RFC3339NanoTimeEncoder
	core := zapcore.NewCore(NewRecordEncoder(c), zapcore.AddSync(nowhere{}), zapcore.InfoLevel)
	return zap.New(core)
}

type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }

// quiet is a testing.TB for the child, where there is no test to fail.
type quiet struct{ testing.TB }

func (*quiet) Fatal(a ...any) { fmt.Println(append([]any{"error"}, a...)...); os.Exit(1) }

// child is a running server.
type child struct {
	client authv3.AuthorizationClient
	say    func(string) string
}

func startChild(b *testing.B, what string, jwks []byte) *child {
	b.Helper()
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), childEnv+"="+what, seedEnv+"="+string(jwks), "GOMAXPROCS=1")
	in, err := command.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := command.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := command.Start(); err != nil {
		b.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	next := func() string {
		if !lines.Scan() || strings.HasPrefix(lines.Text(), "error") {
			b.Fatalf("benchmark server: %q", lines.Text())
		}
		return lines.Text()
	}
	connection, err := grpc.NewClient(next(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		connection.Close()
		in.Close()
		_ = command.Wait()
	})
	return &child{authv3.NewAuthorizationClient(connection), func(s string) string {
		fmt.Fprintln(in, s)
		return next()
	}}
}

func (c *child) cpu(b *testing.B) time.Duration {
	n, err := strconv.ParseInt(c.say("cpu"), 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return time.Duration(n)
}

// inFlight is how many checks are under way at once, as from a busy Envoy.
const inFlight = 16

// ask sends the checks and returns the CPU time that the server spent on them.
func (c *child) ask(b *testing.B, checks []*authv3.CheckRequest) time.Duration {
	before := c.cpu(b)
	var group errgroup.Group
	group.SetLimit(inFlight)
	for i := range inFlight {
		group.Go(func() error {
			for j := i; j < len(checks); j += inFlight {
				response, err := c.client.Check(context.Background(), checks[j])
				if err != nil || response.GetStatus().GetCode() != 0 {
					return fmt.Errorf("check: %v, %w", response, err)
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
	return c.cpu(b) - before
}

// check is a request as Envoy sends it for an API behind a browser, with one token.
func check(token string) *authv3.CheckRequest {
	headers := [][2]string{
		{":authority", "api.test"}, {":method", "GET"}, {":path", "/v1/items/42?limit=10"}, {":scheme", "https"},
		{"accept", "application/json"}, {"accept-encoding", "gzip, deflate, br"}, {"accept-language", "en-GB,en;q=0.9"},
		{"authorization", "Bearer " + token}, {"origin", "https://chat.example.com"}, {"referer", "https://chat.example.com/"},
		{"user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36"},
		{"x-forwarded-for", "203.0.113.9"}, {"x-forwarded-proto", "https"}, {"x-request-id", "5b2cbdb8-e340-424d-b700-45e56c9e5e54"},
	}
	list := &corev3.HeaderMap{}
	for _, h := range headers {
		list.Headers = append(list.Headers, &corev3.HeaderValue{Key: h[0], RawValue: []byte(h[1])})
	}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source: &authv3.AttributeContext_Peer{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{Address: "203.0.113.9"}}}},
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Id: "1", Method: "GET", Path: "/v1/items/42?limit=10", Host: "api.test", Scheme: "https", Protocol: "HTTP/2", HeaderMap: list,
		}},
	}}
}

// proved is check with the DPoP scheme and a proof.
func proved(token string, key *tokentest.Key) *authv3.CheckRequest {
	c := check(token)
	list := c.Attributes.Request.Http.HeaderMap
	for _, h := range list.Headers {
		if h.Key == "authorization" {
			h.RawValue = []byte("DPoP " + token)
		}
	}
	proof := tokentest.Proof(key, "GET", "https://api.test/v1/items/42", token, time.Now()).String()
	list.Headers = append(list.Headers, &corev3.HeaderValue{Key: "dpop", RawValue: []byte(proof)})
	return c
}

// BenchmarkCheck is a whole check through gRPC: warm with a token seen before, cold with one never seen. x-floor is its CPU
// time as a multiple of the floor's, us/check and floor-us the two that it comes from.
func BenchmarkCheck(b *testing.B) {
	b.Run("warm", func(b *testing.B) {
		m := newMinter(b, "RS256")
		one := check(m.mint(b, nil))
		compare(b, m, func(n int) []*authv3.CheckRequest {
			out := make([]*authv3.CheckRequest, n)
			for i := range out {
				out[i] = one
			}
			return out
		}, false)
	})
	// A token seen before, and a proof that no request had before (RFC 9449): what a DPoP client costs each time.
	b.Run("dpop_ES256", func(b *testing.B) {
		m, key := newMinter(b, "RS256"), tokentest.NewKey("client", "ES256")
		token := m.mint(b, map[string]any{"cnf": map[string]any{"jkt": key.Thumbprint()}})
		compare(b, m, func(n int) []*authv3.CheckRequest {
			out := make([]*authv3.CheckRequest, n)
			for i := range out {
				out[i] = proved(token, key)
			}
			return out
		}, true) // an empty memory of proofs for each round: one user has room for only so many
	})
	for _, alg := range []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"} {
		b.Run("cold_"+alg, func(b *testing.B) {
			m := newMinter(b, alg)
			pool := make([]*authv3.CheckRequest, round)
			for i := range pool {
				pool[i] = check(m.mint(b, nil))
			}
			compare(b, m, func(n int) []*authv3.CheckRequest { return pool[:n] }, true)
		})
	}
}

// round is how many checks one server answers before the other gets its turn.
const round = 500

func compare(b *testing.B, m *minter, checks func(n int) []*authv3.CheckRequest, cold bool) {
	base, usher := startChild(b, "floor", nil), startChild(b, m.alg, m.jwks(b))
	base.ask(b, checks(round))
	usher.ask(b, checks(round))
	var floorCPU, usherCPU time.Duration
	total := 0
	b.ResetTimer()
	for left := b.N; left > 0; left -= round {
		n := min(left, round)
		if cold {
			usher.say("reset")
		}
		batch := checks(n)
		floorCPU += base.ask(b, batch)
		usherCPU += usher.ask(b, batch)
		total += n
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(usherCPU.Microseconds())/float64(total), "us/check")
	b.ReportMetric(float64(floorCPU.Microseconds())/float64(total), "floor-us")
	b.ReportMetric(float64(usherCPU)/float64(floorCPU), "x-floor")
}

// BenchmarkDecide is the warm check alone, from the bytes that come to those that go, without gRPC: for finding what it spends its time on.
func BenchmarkDecide(b *testing.B) {
	m := newMinter(b, "RS256")
	gate := New(Options{Logger: discard()})
	gate.Swap(testState(b, m))
	one := wireText(check(m.mint(b, nil)))
	b.ReportAllocs()
	for b.Loop() {
		c := &call{text: one}
		if gate.serve(b.Context(), c); c.record.outcome != policy.Allow {
			b.Fatal(c.record.outcome)
		}
	}
}

// TestThe_benchmarks_tokens_are_good keeps the benchmarks from measuring refusals.
func TestThe_benchmarks_tokens_are_good(t *testing.T) {
	m, key := newMinter(t, "RS256"), tokentest.NewKey("client", "ES256")
	bound := New(Options{})
	bound.Swap(testState(t, m))
	if got := statusOf(do(t, bound, proved(m.mint(t, map[string]any{"cnf": map[string]any{"jkt": key.Thumbprint()}}), key))); got != 200 {
		t.Errorf("dpop: got %d, want 200", got)
	}
	for _, alg := range []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"} {
		m := newMinter(t, alg)
		gate := New(Options{})
		gate.Swap(testState(t, m))
		if got := statusOf(do(t, gate, check(m.mint(t, nil)))); got != 200 {
			t.Errorf("%s: got %d, want 200", alg, got)
		}
	}
}
