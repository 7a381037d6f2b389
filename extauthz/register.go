package extauthz

import (
	"context"
	"errors"
	"runtime"
	"strings"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// streamWorkers is how many goroutines wait for calls, for each processor. Each keeps the stack that a check has grown; a new
// goroutine for each call would grow it again, which was a sixth of all CPU time. More calls at once get goroutines of their
// own. The workers take turns, so that with more of them the stack of the next one is never in the processor's cache: with 16
// calls at once 64 workers cost 5 % more than 16, and with 64 calls 16 workers cost 20 % more than 64.
const streamWorkers = 32

// ServerOptions are what makes a gRPC server that serves checks fast. Register needs them.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.NumStreamWorkers(uint32(streamWorkers * runtime.GOMAXPROCS(0))),
		grpc.ForceServerCodecV2(codec{encoding.GetCodecV2(proto.Name)}),
	}
}

// Register has a gRPC server with the ServerOptions serve envoy.service.auth.v3.Authorization: checks are read, and answers
// written, without the generated types, which took a third of all CPU time.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	desc := authv3.Authorization_ServiceDesc
	desc.Methods = []grpc.MethodDesc{{MethodName: "Check", Handler: handleCheck}}
	r.RegisterService(&desc, s)
}

// handleCheck is the handler of the one method.
func handleCheck(service any, ctx context.Context, receive func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
	c, server := &call{}, service.(*Server)
	if err := receive(c); err != nil {
		return nil, err
	}
	if interceptor == nil {
		server.serve(ctx, c)
		return c, nil
	}
	info := &grpc.UnaryServerInfo{Server: service, FullMethod: authv3.Authorization_Check_FullMethodName}
	return interceptor(ctx, c, info, func(ctx context.Context, _ any) (any, error) {
		server.serve(ctx, c)
		return c, nil
	})
}

// codec passes checks through, and leaves all other messages to gRPC's own.
type codec struct{ encoding.CodecV2 }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if c, ok := v.(*call); ok {
		if len(c.sent) == 0 { // an empty CheckResponse would let the request pass
			return nil, errors.New("the check has no answer")
		}
		return mem.BufferSlice{mem.SliceBuffer(c.sent)}, nil
	}
	return c.CodecV2.Marshal(v)
}

// Unmarshal implements encoding.CodecV2. The check is copied, once: gRPC uses the buffers again as soon as this returns.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	check, ok := v.(*call)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	if len(data) == 1 {
		check.text = string(data[0].ReadOnlyData())
		return nil
	}
	var text strings.Builder
	text.Grow(data.Len())
	for _, part := range data {
		text.Write(part.ReadOnlyData())
	}
	check.text = text.String()
	return nil
}
