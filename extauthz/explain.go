package extauthz

import (
	"context"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/usher-authz/usher/policy"
)

// Stage is how far a request came on its way.
type Stage string

// The stages, in their order.
const (
	StageDecode Stage = "decode" // what could be read in two ways is refused
	StageMatch  Stage = "match"  // which policy guards the host
	StageRoute  Stage = "route"  // public, a document of Usher's own, or known
	StageToken  Stage = "token"  // who asks
	StageBody   Stage = "body"   // what the request asks for
	StageDecide Stage = "decide" // by the rules
	StageLookup Stage = "lookup" // objects that a filter is about
	StagePass   Stage = "pass"   // allowed: headers and edits
)

// Explanation says how one request was decided. It is filled by [Server.Explain] with what the way of a check came by, up
// to where it ended. It holds claims, headers and bodies: it is for whoever made the request, and not for logs. It never
// holds a token.
type Explanation struct {
	Stage Stage // where the request's way ended

	Host, Method, Path, Query string // as they were read; Path is decoded
	Policy                    string
	Route                     string // its pattern; empty: unknown
	Public                    bool
	Identity                  *policy.Identity // nil: not known yet, or not asked for
	Anonymous                 bool             // nobody, and the policy lets nobody in
	Operations                []policy.Operation
	Trace                     policy.Trace
	Needs                     []policy.Ref    // objects that were looked up
	Found                     []policy.Object // one for each, unless one could not be asked for
	Edits                     []policy.Edit
	Headers                   []policy.Header // identity headers of an allowed request
	Narrowed                  *string         // the query that narrows a list; nil: as it was
	ReadsHeaders, ReadsBody   bool            // what the decision may depend on

	Outcome policy.Outcome
	Rule    policy.RuleRef
	Detail  string // what the client reads with a denial
	Reason  string // what the decision record says
	Panic   bool
}

// Explain decides a request as [Server.Check] does, by the same code, and says how. It logs and counts nothing; a write that
// would pass makes the look-ups forget its object all the same.
func (s *Server) Explain(ctx context.Context, check *authv3.CheckRequest) (response *authv3.CheckResponse, why *Explanation) {
	why = &Explanation{Stage: StageDecode}
	c := &call{text: wireText(check), record: record{start: time.Now(), explain: why}}
	a, bug := s.settle(ctx, c)
	rec := &c.record
	why.Outcome, why.Rule, why.Detail, why.Reason, why.Policy = a.outcome, rec.rule, a.detail, rec.reason, rec.policy
	why.Headers, why.Narrowed, why.Panic = rec.headers, rec.query, bug != nil
	return readResponse(c.sent), why
}

// Compare says how another version of the policies, which decided the same request as next, differs from e: in the words,
// and by the code, of a Shadow policy.
func (e *Explanation) Compare(next *Explanation) Difference {
	return e.verdict().compare(next.verdict())
}

func (e *Explanation) verdict() *verdict {
	return &verdict{outcome: e.Outcome, edits: e.Edits, query: e.Narrowed, headers: e.Headers}
}

// What follows is called on the way of every check, where e is nil: it must cost nothing then.

func (e *Explanation) at(s Stage) {
	if e != nil {
		e.Stage = s
	}
}

func (e *Explanation) decoded(r *request) {
	if e != nil {
		e.Host, e.Method, e.Path, e.Query = r.host, r.method, r.path, r.query
	}
}

func (e *Explanation) routed(r *policy.Route) {
	if e != nil {
		e.Route, e.Public, e.ReadsBody = r.Pattern, r.Public, r.NeedsBody
	}
}

func (e *Explanation) identified(id *policy.Identity) {
	if e != nil {
		e.Identity, e.Anonymous = id, id.Name == ""
	}
}

func (e *Explanation) asked(ops []policy.Operation) {
	if e != nil {
		e.Stage, e.Operations = StageDecide, ops
	}
}

// reading notes that an expression looks at the headers.
func (e *Explanation) reading(headers func() map[string]string) func() map[string]string {
	if e == nil {
		return headers
	}
	return func() map[string]string {
		e.ReadsHeaders = true
		return headers()
	}
}

func (e *Explanation) trace() *policy.Trace {
	if e == nil {
		return nil
	}
	return &e.Trace
}

func (e *Explanation) lookUp(needs []policy.Ref) {
	if e != nil {
		e.Stage, e.Needs = StageLookup, needs
	}
}

func (e *Explanation) found(objects []policy.Object) {
	if e != nil {
		e.Stage, e.Found = StageDecide, objects
	}
}

func (e *Explanation) decided(d *policy.Decision) {
	if e != nil {
		e.Edits = d.Edits
	}
}
