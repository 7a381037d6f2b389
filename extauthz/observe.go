package extauthz

import (
	"cmp"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/usher-authz/usher/policy"
)

// Observer is told of requests that were decided.
type Observer interface {
	// Wants is asked once for each check, before it is decided. It must be fast.
	Wants() bool
	// Observe is told of a check that it wanted, before the answer goes out. It must not block. The Observation is its own, and
	// what it points to must not be changed.
	Observe(*Observation)
}

// Observation is one decided request, with the body, the claims and the credentials that it came with: what is kept of it is
// the observer's to choose, see dryrun.NewRecording.
type Observation struct {
	Time          time.Time
	Check         *authv3.CheckRequest
	RemoteAddress string
	Named         string         // the policy that Envoy named; empty: by host
	Policy        *policy.Policy // that decided; nil: none guards the host
	Route         string         // its pattern; empty: none matched
	Public        bool
	Identity      *policy.Identity // nil: not known
	NoCredential  bool             // there was none
	Refused       bool             // there was one, and it was not accepted
	Operations    []policy.Operation
	Needs         []policy.Ref
	Found         []policy.Object
	Outcome       policy.Outcome
	Status        int
	Rule          policy.RuleRef
	Reason        string
}

// Headers returns the request's headers by lower-case names, equal ones joined by a comma, credentials among them, without
// pseudo-headers and without those that say how Envoy sends the body.
func (o *Observation) Headers() map[string]string {
	out := map[string]string{}
	add := func(name, value string) {
		name = strings.ToLower(name)
		switch {
		case name == "" || name[0] == ':' || name == "content-length" || name == "x-envoy-auth-partial-body":
			return
		}
		if old, ok := out[name]; ok {
			value = old + "," + value
		}
		out[name] = value
	}
	http := o.Check.GetAttributes().GetRequest().GetHttp()
	for name, v := range http.GetHeaders() {
		add(name, v)
	}
	for _, v := range http.GetHeaderMap().GetHeaders() {
		add(v.GetKey(), cmp.Or(string(v.GetRawValue()), v.GetValue()))
	}
	return out
}

// observe tells the observer of a request. What goes wrong there is no fault of the check's.
func (s *Server) observe(text string, r *record) {
	defer func() {
		if p := recover(); p != nil {
			s.panics.Add(1)
			s.log.Error("panic while a request was observed; its answer stands", zap.String("panic", fmt.Sprintf("%T", p)), zap.ByteString("stack", debug.Stack()))
		}
	}()
	check := &authv3.CheckRequest{}
	if err := proto.Unmarshal([]byte(text), check); err != nil {
		return // there is no request to decide again
	}
	attrs := check.GetAttributes()
	s.observer.Observe(&Observation{
		Time: s.now(), Check: check, RemoteAddress: addressText(attrs.GetSource().GetAddress().GetSocketAddress().GetAddress()), Named: attrs.GetContextExtensions()["policy"],
		Policy: r.decider, Route: r.route, Public: r.public, Identity: r.identity, NoCredential: r.refused == error(errNoToken), Refused: r.refused != nil,
		Operations: r.operations, Needs: r.needs, Found: r.found, Outcome: r.outcome, Status: r.status, Rule: r.rule, Reason: r.reason,
	})
}
