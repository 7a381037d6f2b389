package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/usher-authz/usher/extauthz"
)

const (
	// roomForHeaders is what a check may hold beside the body: headers, certificate, metadata.
	roomForHeaders = 1 << 20
	// maxStreams bounds the checks in flight on one connection; Envoy opens more connections.
	maxStreams = 1024
)

// network splits an address: host:port, or unix:// and an absolute path.
func network(address string) (kind, at string, err error) {
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		if !strings.HasPrefix(path, "/") {
			return "", "", fmt.Errorf("%q: expected unix:// and an absolute path", address)
		}
		return "unix", path, nil
	}
	if _, _, err := net.SplitHostPort(address); err != nil {
		return "", "", fmt.Errorf("%q: expected host:port or unix:///path", address)
	}
	return "tcp", address, nil
}

// listen opens an address. A Unix socket that nobody serves any more is removed first.
func listen(ctx context.Context, address string) (net.Listener, error) {
	kind, at, err := network(address)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if kind == "unix" {
		if err := removeStale(ctx, at); err != nil {
			return nil, failed(fmt.Errorf("listen on %q: %w", address, err))
		}
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, kind, at)
	if err == nil {
		return l, nil
	}
	e := &exitError{code: exitFailed, err: fmt.Errorf("listen on %q: %w", address, reason(err))}
	if errors.Is(err, syscall.EADDRINUSE) {
		e.hint = "another process listens there, an usher perhaps; choose another address by --grpc-address or --admin-address"
	}
	return nil, e
}

// reason leaves out what package net says about the address.
func reason(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	var call *os.SyscallError
	if errors.As(err, &call) {
		err = call.Err
	}
	return err
}

func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("there is a file that is no socket")
	}
	dialer := net.Dialer{Timeout: time.Second}
	c, err := dialer.DialContext(ctx, "unix", path)
	if err == nil {
		_ = c.Close()
		return syscall.EADDRINUSE
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}

// grpcServer serves checks, health and reflection.
type grpcServer struct {
	server     *grpc.Server
	health     *health.Server
	endStreams context.CancelFunc
}

// newGRPC makes the server. held is nil for one without TLS.
func newGRPC(g *gate, o serveOptions, held *certificates) *grpcServer {
	streams, endStreams := context.WithCancel(context.Background())
	transport := insecure.NewCredentials()
	if held != nil {
		transport = held.handshakes()
	}
	s := &grpcServer{
		endStreams: endStreams,
		server: grpc.NewServer(append(extauthz.ServerOptions(),
			grpc.StreamInterceptor(endWith(streams)),
			grpc.MaxRecvMsgSize(int(o.maxRequestBytes)+roomForHeaders),
			grpc.MaxConcurrentStreams(maxStreams),
			// Envoy pings connections that are idle; by default grpc-go would close them for that.
			grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
			grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Minute, Timeout: 10 * time.Second, MaxConnectionAge: o.maxAge}),
			grpc.ConnectionTimeout(10*time.Second), // for a handshake
			grpc.Creds(transport),
		)...),
		health: health.NewServer(),
	}
	g.checks.Register(s.server)
	grpc_health_v1.RegisterHealthServer(s.server, s.health)
	reflection.Register(s.server)
	s.set(grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	return s
}

// endWith ends every stream when ctx ends: who watches health would otherwise hold up a shutdown for as long as he likes.
// Checks are no streams.
func endWith(ctx context.Context) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		own, cancel := context.WithCancel(stream.Context())
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		return handler(srv, endingStream{stream, own})
	}
}

// endingStream is a stream with another context, which is why it must hold one.
type endingStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // a ServerStream has one
}

func (s endingStream) Context() context.Context { return s.ctx }

// set says how the whole server is, and the service that Envoy's health check may name.
func (s *grpcServer) set(status grpc_health_v1.HealthCheckResponse_ServingStatus) {
	s.health.SetServingStatus("", status)
	s.health.SetServingStatus(authv3.Authorization_ServiceDesc.ServiceName, status)
}

func (s *grpcServer) healthy() { s.set(grpc_health_v1.HealthCheckResponse_SERVING) }

func (s *grpcServer) serve(l net.Listener) error {
	if err := s.server.Serve(l); err != nil {
		return fmt.Errorf("serve checks: %w", err)
	}
	return nil
}

// drain says that no more checks should come, and lets those in flight finish; what is not done by then is cut off.
func (s *grpcServer) drain(delay, timeout time.Duration) {
	s.health.Shutdown()
	time.Sleep(delay)
	s.endStreams()
	hard := time.AfterFunc(timeout, s.server.Stop)
	defer hard.Stop()
	s.server.GracefulStop()
}
