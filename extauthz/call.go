package extauthz

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"go.uber.org/zap"

	"github.com/usher-authz/usher/policy"
)

// call is one check on its way: in one piece, so that it is one allocation.
type call struct {
	text    string // the CheckRequest, as it came over the wire
	request request
	record  record
	sent    []byte // the CheckResponse
}

// Check decides one request. It never returns an error: Envoy would treat one as a failure of the service, which
// failure_mode_allow turns into a pass. It goes the way of a check that came over the wire, so that it is read, and its answer
// written, by the same code; Register is for what comes over the wire.
func (s *Server) Check(ctx context.Context, check *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	c := &call{text: wireText(check)}
	s.serve(ctx, c)
	return readResponse(c.sent), nil
}

// serve decides a check, and leaves the answer in it.
func (s *Server) serve(ctx context.Context, c *call) {
	rec := &c.record
	rec.start = time.Now()
	observed := s.observer != nil && s.observer.Wants()
	a, bug := s.settle(ctx, c)
	if bug != nil {
		s.panics.Add(1)
		s.log.Error("panic in a check; answered 503", zap.String("panic", bug.kind), zap.ByteString("stack", bug.stack))
	}
	rec.outcome = a.outcome
	s.checks[a.outcome].Add(1)
	rec.status = httpStatus(a.outcome)
	rec.latency = time.Since(rec.start)
	if s.latency != nil {
		s.latency.Observe(rec.latency.Seconds())
	}
	rec.write(s.log)
	if observed {
		s.observe(c.text, rec)
	}
}

// fault is a bug that showed itself.
type fault struct {
	kind  string // of the panic: what it says may hold a token
	stack []byte
}

// settle decides a check, and leaves the answer in it. A panic, or an answer that cannot be sent, is our own fault.
func (s *Server) settle(ctx context.Context, c *call) (a answer, bug *fault) {
	defer func() {
		if p := recover(); p != nil {
			bug = &fault{fmt.Sprintf("%T", p), debug.Stack()}
			a = answer{outcome: policy.Undecided}
			c.record.reason = "panic"
			c.sent, _ = a.encode()
		}
	}()
	a = s.decide(ctx, c)
	var err error
	if c.sent, err = a.encode(); err != nil {
		a = c.record.fail(err)
		c.sent, _ = a.encode()
	}
	return a, nil
}
