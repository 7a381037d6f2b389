package extauthz

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/gzip" // a client may compress
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/mem"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/policy"
)

// registered serves s over a socket, and health beside it.
func registered(t *testing.T, s *Server, options ...grpc.ServerOption) *grpc.ClientConn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(append(ServerOptions(), options...)...)
	s.Register(g)
	grpc_health_v1.RegisterHealthServer(g, health.NewServer())
	go func() { _ = g.Serve(l) }()
	connection, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = connection.Close()
		g.Stop()
	})
	return connection
}

// rawBytes sends bytes as they are, and reads answers with the generated types.
type rawBytes struct{ encoding.CodecV2 }

func (c rawBytes) Marshal(v any) (mem.BufferSlice, error) {
	if b, ok := v.([]byte); ok {
		return mem.BufferSlice{mem.SliceBuffer(b)}, nil
	}
	return c.CodecV2.Marshal(v)
}

// sent has a client send the bytes as a check.
func sent(t *testing.T, connection *grpc.ClientConn, text string) (*authv3.CheckResponse, error) {
	t.Helper()
	r := &authv3.CheckResponse{}
	return r, connection.Invoke(t.Context(), authv3.Authorization_Check_FullMethodName, []byte(text), r, grpc.ForceCodecV2(rawBytes{encoding.GetCodecV2(proto.Name)}))
}

func TestBytes_that_are_no_check_are_denied(t *testing.T) {
	s, m, logs := newServer(t)
	connection := registered(t, s)
	good := wireText(check(m.mint(t, nil)))
	if r, err := sent(t, connection, good); err != nil || statusOf(r) != 200 {
		t.Fatalf("a good one: %v, %v", r, err)
	}
	for name, text := range map[string]string{
		"nothing": "", "field 0": "\x00", "cut off": good[:len(good)-1], "something behind it": good + "\x0a", "no UTF-8": inHTTP(part(4, "\xff")),
		"another message": strings.Repeat("x", 1000), "a group without an end": inHTTP("\x7b"), "nested too deep": part(1, part(11, part(1, part(2, deep(4000))))),
	} {
		t.Run(name, func(t *testing.T) {
			// As a denial, and not as an error, which failure_mode_allow would turn into a pass.
			r, err := sent(t, connection, text)
			if err != nil || statusOf(r) != 400 {
				t.Errorf("got %v, %v, want a denial with 400", r, err)
			}
		})
	}
	for _, e := range logs.FilterMessage("decision").All()[1:] {
		if f := e.ContextMap(); f["outcome"] != "bad_request" || f["method"] != "" || f["host"] != "" || f["reason"] == "" {
			t.Errorf("record %v", f)
		}
	}
	if outcomes, panics := s.Counts(); outcomes[policy.BadRequest] != 8 || panics != 0 {
		t.Errorf("counted %v, %d panics", outcomes, panics)
	}
}

func TestA_check_of_many_frames_and_a_compressed_one_are_read_whole(t *testing.T) {
	s, m := serverFor(t, func(p *policy.Source) {
		p.Rules = []policy.RuleSource{{On: policy.Text{Text: "items"}, Allow: &policy.Text{Text: "value.body.last == 'é'"}}}
	})
	connection := registered(t, s, grpc.MaxRecvMsgSize(8<<20))
	client := authv3.NewAuthorizationClient(connection)
	for _, size := range []int{0, 1 << 10, 100 << 10, 3 << 20} {
		for _, options := range [][]grpc.CallOption{nil, {grpc.UseCompressor("gzip")}} {
			c := ask("POST", "/items", false, [2]string{"authorization", "Bearer " + m.mint(t, nil)})
			c.Attributes.Request.Http.RawBody = fmt.Appendf(nil, `{"fill":%q,"last":"é"}`, strings.Repeat("x", size))
			if r, err := client.Check(t.Context(), c, options...); err != nil || statusOf(r) != 200 {
				t.Errorf("%d bytes, %d options: %v, %v", size, len(options), r, err)
			}
		}
	}
}

func TestOther_services_beside_the_checks_are_served_as_ever(t *testing.T) {
	s, _, _ := newServer(t)
	connection := registered(t, s)
	r, err := grpc_health_v1.NewHealthClient(connection).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil || r.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("health: %v, %v", r, err)
	}
}

func TestAn_interceptor_sees_every_check(t *testing.T) {
	s, m, _ := newServer(t)
	refuse, seen := false, ""
	connection := registered(t, s, grpc.UnaryInterceptor(func(ctx context.Context, in any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		seen = info.FullMethod
		if refuse {
			return in, nil // a check without an answer, which must not become an empty one
		}
		return handler(ctx, in)
	}))
	good := wireText(check(m.mint(t, nil)))
	if r, err := sent(t, connection, good); err != nil || statusOf(r) != 200 || seen != authv3.Authorization_Check_FullMethodName {
		t.Errorf("got %v, %v, seen %q", r, err, seen)
	}
	refuse = true
	if r, err := sent(t, connection, good); grpcstatus.Code(err) != codes.Internal {
		t.Errorf("got %v, %v, want an error", r, err)
	}
}

// gRPC uses the buffers of one check for the next: of many at once, each is decided by its own bytes.
func TestChecks_at_once_keep_their_own_bytes(t *testing.T) {
	m := newMinter(t, "ES256")
	s := New(Options{})
	s.Swap(testState(t, m))
	client := authv3.NewAuthorizationClient(registered(t, s))
	const users = 8
	var tokens [users]string
	for u := range users {
		tokens[u] = m.mint(t, map[string]any{"sub": fmt.Sprint("user-", u)})
	}
	var group sync.WaitGroup
	for g := range 16 {
		group.Go(func() {
			for n := range 60 {
				u := (g + n) % users
				c := check(tokens[u])
				if n%3 == 0 { // of another size, so that buffers differ
					list := c.Attributes.Request.Http.HeaderMap
					list.Headers = append(list.Headers, &corev3.HeaderValue{Key: "x-fill", RawValue: []byte(strings.Repeat("f", 1000*(g+1)))})
				}
				want := fmt.Sprint("user-", u)
				if n%5 == 4 {
					c.Attributes.Request.Http.Path, want = "/nowhere", ""
				}
				r, err := client.Check(t.Context(), c)
				if got := headerOf(r.GetOkResponse().GetHeaders(), "x-user-id"); err != nil || got != want {
					t.Errorf("%q, %v, want %q", got, err, want)
					return
				}
			}
		})
	}
	group.Wait()
}

// waiting is a verifier that takes its time.
type waiting struct{ begun, end chan struct{} }

func (w waiting) Verify(context.Context, token.Credential) (*policy.Identity, error) {
	close(w.begun)
	<-w.end
	return &policy.Identity{Name: "alice", Provider: "p"}, nil
}

// gRPC uses the buffers of one check for the next: a check that takes long is decided by its own bytes to the end.
func TestA_check_keeps_its_bytes_while_others_come(t *testing.T) {
	mine, others := strings.Repeat("a", 3000), strings.Repeat("b", 3000)
	s, _ := serverFor(t, func(p *policy.Source) {
		p.Rules = []policy.RuleSource{{On: policy.Text{Text: "items"}, Allow: &policy.Text{Text: "request.headers['x-mark'] == '" + mine + "'"}}}
	})
	w := waiting{make(chan struct{}), make(chan struct{})}
	state := s.state.Load()
	state.Verifiers["p"] = w
	if err := state.prepare(); err != nil {
		t.Fatal(err)
	}
	client := authv3.NewAuthorizationClient(registered(t, s))
	done := make(chan *authv3.CheckResponse)
	go func() {
		r, err := client.Check(context.Background(), ask("GET", "/items", false, [2]string{"authorization", "Bearer x"}, [2]string{"x-mark", mine}))
		if err != nil {
			t.Error(err)
		}
		done <- r
	}()
	<-w.begun
	for range 200 {
		if r, err := client.Check(t.Context(), ask("GET", "/open", false, [2]string{"authorization", "Bearer y"}, [2]string{"x-mark", others})); err != nil || statusOf(r) != 200 {
			t.Fatalf("%v, %v", r, err)
		}
	}
	close(w.end)
	if r := <-done; statusOf(r) != 200 {
		t.Errorf("the check was decided by other bytes than its own: %v", r)
	}
}
