package extauthz

import (
	"context"
	"strings"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// streamWorkers is how many goroutines wait for calls. Each keeps the stack that a check has grown; a new goroutine for
// each call would grow it again, which was a sixth of all CPU time. More calls at once than that get goroutines of their own.
const streamWorkers = 64

// ServerOptions are what makes a gRPC server that serves checks fast. Register needs them.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.NumStreamWorkers(streamWorkers),
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

// incoming and outgoing are the messages of a check in the wire's format.
type (
	incoming struct{ text string }
	outgoing struct{ encoded []byte }
)

// handleCheck is the handler of the one method.
func handleCheck(service any, ctx context.Context, receive func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
	in := &incoming{}
	if err := receive(in); err != nil {
		return nil, err
	}
	handler := func(ctx context.Context, in any) (any, error) {
		c := &call{}
		service.(*Server).serve(ctx, in.(*incoming).text, c)
		return &outgoing{c.sent}, nil
	}
	if interceptor == nil {
		return handler(ctx, in)
	}
	return interceptor(ctx, in, &grpc.UnaryServerInfo{Server: service, FullMethod: authv3.Authorization_Check_FullMethodName}, handler)
}

// codec passes checks through, and leaves all other messages to gRPC's own.
type codec struct{ encoding.CodecV2 }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if out, ok := v.(*outgoing); ok {
		return mem.BufferSlice{mem.SliceBuffer(out.encoded)}, nil
	}
	return c.CodecV2.Marshal(v)
}

// Unmarshal implements encoding.CodecV2. The check is copied, once: gRPC uses the buffers again as soon as this returns.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	in, ok := v.(*incoming)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	if len(data) == 1 {
		in.text = string(data[0].ReadOnlyData())
		return nil
	}
	var text strings.Builder
	text.Grow(data.Len())
	for _, part := range data {
		text.Write(part.ReadOnlyData())
	}
	in.text = text.String()
	return nil
}
