package extauthz

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"

	"github.com/usher-authz/usher/policy"
)

// Difference says how a Shadow policy's decision differs from the one in force.
type Difference string

// The differences, and Same.
const (
	Same             Difference = "same"
	WouldDeny        Difference = "would_deny"        // allowed, and would be denied
	WouldAllow       Difference = "would_allow"       // denied, and would be allowed
	DifferentAnswer  Difference = "different_answer"  // denied with another status, or a search answered differently
	DifferentEdit    Difference = "different_edit"    // allowed, with other changes to the body
	DifferentHeaders Difference = "different_headers" // allowed, with other identity headers
	Unknown          Difference = "unknown"           // one of them could not be decided: a provider or a backend did not answer
	Dropped          Difference = "dropped"           // too much was under way: not looked at
)

const (
	shadowBytes  = 16 << 20 // of requests that wait or are looked at
	shadowLeast  = 32 << 10 // what a request counts for at least
	shadowAtOnce = 2        // looked at, at once: the gate itself needs the cores
)

// shadows decides requests by Shadow policies, behind the answer: what it does takes no time of a check's, and never more
// than a bounded share of memory and cores. The zero value is ready for use; it is safe for concurrent use.
type shadows struct {
	once    sync.Once
	waiting *semaphore.Weighted
	running *semaphore.Weighted
	group   sync.WaitGroup

	mu     sync.Mutex
	counts map[ShadowCount]uint64
}

// ShadowCount names a counter.
type ShadowCount struct {
	Policy     string
	Difference Difference
}

// ShadowCounts returns how many requests each Shadow policy has looked at, by what differed. The counts only grow.
func (s *Server) ShadowCounts() map[ShadowCount]uint64 {
	s.shadows.mu.Lock()
	defer s.shadows.mu.Unlock()
	return maps.Clone(s.shadows.counts)
}

// verdict is what the policy in force decided.
type verdict struct {
	in       *policy.Policy // nil: none guards the host
	policy   string
	outcome  policy.Outcome
	rule     policy.RuleRef
	identity *policy.Identity
	refused  error
	needs    []policy.Ref
	found    []policy.Object
	headers  []policy.Header
	edits    []policy.Edit
	query    *string
}

func verdictOf(p *policy.Policy, o policy.Outcome, rec *record) verdict {
	return verdict{in: p, policy: rec.policy, outcome: o, rule: rec.rule, identity: rec.identity, refused: rec.refused, needs: rec.needs, found: rec.found, headers: rec.headers, edits: rec.edits, query: rec.query}
}

// trial is a decision without effect. A nil *trial is the decision in force.
type trial struct {
	enforced   verdict
	before     []verdict // of other Shadow policies, for the same request
	difference Difference
}

// identify says who asks. A trial does not verify again what was verified for the same request: a DPoP proof is good once
// (RFC 9449, section 11.1).
func (t *trial) identify(ctx context.Context, g *guard, p *policy.Policy, r *request) (*policy.Identity, error) {
	if t != nil {
		for _, v := range append([]verdict{t.enforced}, t.before...) {
			if id, err, known := v.vouches(p); known {
				return id, err
			}
		}
	}
	return r.identify(ctx, p, g.Verifier)
}

// lookup returns where the trial looks objects up: what was found for the decision in force is not asked for again, as the
// request may have changed or deleted it meanwhile.
func (t *trial) lookup(l Lookup) Lookup {
	if t == nil || l == nil || len(t.enforced.found) == 0 {
		return l
	}
	return earlier{l, t.enforced.needs, t.enforced.found}
}

// earlier knows some objects from before.
type earlier struct {
	Lookup
	needs []policy.Ref
	found []policy.Object
}

// Get implements Lookup.
func (e earlier) Get(ctx context.Context, ref policy.Ref) (policy.Object, error) {
	if i := slices.Index(e.needs, ref); i >= 0 {
		return e.found[i], nil
	}
	return e.Lookup.Get(ctx, ref)
}

// vouches returns whom a verdict's policy found out to ask, if the policy p would find out the same.
func (v *verdict) vouches(p *policy.Policy) (id *policy.Identity, err error, known bool) {
	q := v.in
	if q == nil || v.identity == nil && v.refused == nil || q.PublicURL != p.PublicURL || q.ForwardedCertificate != p.ForwardedCertificate || !reflect.DeepEqual(q.TokenFrom, p.TokenFrom) {
		return nil, nil, false
	}
	switch {
	case v.identity != nil && v.identity == q.Anonymous():
		if p.Anonymous() == nil {
			return nil, errNoToken, true
		}
		return p.Anonymous(), nil, true
	case v.identity != nil:
		return v.identity, nil, slices.Contains(p.Providers, v.identity.Provider)
	}
	return nil, v.refused, slices.Equal(q.Providers, p.Providers) && (q.Anonymous() == nil) == (p.Anonymous() == nil)
}

// watch lets the Shadow policies decide the request, soon, or counts it as dropped.
func (s *shadows) watch(server *Server, state *State, policies []*policy.Policy, text string, enforced verdict) {
	s.once.Do(func() {
		s.waiting, s.running = semaphore.NewWeighted(shadowBytes), semaphore.NewWeighted(shadowAtOnce)
	})
	weight := min(max(int64(len(text)), shadowLeast), shadowBytes)
	if !s.waiting.TryAcquire(weight) {
		for _, p := range policies {
			s.count(p.Name, Dropped)
		}
		return
	}
	s.group.Add(1)
	go func() {
		defer s.group.Done()
		defer s.waiting.Release(weight)
		if s.running.Acquire(context.Background(), 1) != nil {
			return
		}
		defer s.running.Release(1)
		var before []verdict
		for _, p := range policies {
			before = append(before, server.try(state, p, text, &trial{enforced: enforced, before: before}))
		}
	}()
}

// try decides the request by one Shadow policy, and records what differs.
func (s *Server) try(state *State, p *policy.Policy, text string, t *trial) (v verdict) {
	rec := &record{start: time.Now(), trial: t}
	a := answer{outcome: policy.Undecided}
	defer func() {
		if panicked := recover(); panicked != nil {
			s.panics.Add(1)
			s.log.Error("panic in a Shadow policy; nothing came of it", zap.String("panic", fmt.Sprintf("%T", panicked)), zap.ByteString("stack", debug.Stack()))
			a, rec.reason = answer{outcome: policy.Undecided}, "panic"
		}
		v = verdictOf(p, a.outcome, rec)
		t.difference = t.enforced.compare(&v)
		s.shadows.count(p.Name, t.difference)
		rec.outcome, rec.latency = a.outcome, time.Since(rec.start)
		rec.status = httpStatus(a.outcome)
		if t.difference != Same {
			rec.write(s.log)
		}
	}()
	var r request
	err := r.decode(text)
	rec.host, rec.method, rec.requestID = r.host, r.method, r.headers.requestID
	if err != nil {
		a = rec.fail(err)
		return v
	}
	ctx, cancel := context.WithTimeout(context.Background(), maxBudget)
	defer cancel()
	a = s.judge(ctx, state, p, &r, rec)
	return v
}

// httpStatus is what the client or the log is told.
func httpStatus(o policy.Outcome) int {
	if o == policy.Allow {
		return 200
	}
	code, _ := status(o)
	return int(code)
}

// compare says how a Shadow policy's verdict differs from v.
func (v *verdict) compare(shadow *verdict) Difference {
	undecided := func(o policy.Outcome) bool { return o == policy.Undecided || o == policy.Unavailable }
	switch {
	case undecided(v.outcome), undecided(shadow.outcome):
		return Unknown
	case v.outcome == policy.Allow && shadow.outcome == policy.Allow:
		if !sameEdits(v.edits, shadow.edits) || !reflect.DeepEqual(v.query, shadow.query) {
			return DifferentEdit
		}
		if !sameHeaders(v.headers, shadow.headers) {
			return DifferentHeaders
		}
	case v.outcome == policy.Allow && shadow.outcome == policy.Answer, v.outcome == policy.Answer && shadow.outcome == policy.Allow:
		return DifferentAnswer // of a search that finds nothing
	case v.outcome == policy.Allow:
		return WouldDeny
	case shadow.outcome == policy.Allow:
		return WouldAllow
	case v.outcome != shadow.outcome:
		return DifferentAnswer
	}
	return Same
}

func sameEdits(a, b []policy.Edit) bool {
	return len(a) == len(b) && (len(a) == 0 || reflect.DeepEqual(a, b))
}

// sameHeaders compares what the backend gets. Policies keep their headers sorted by name.
func sameHeaders(a, b []policy.Header) bool { return slices.Equal(a, b) }

func (s *shadows) count(name string, d Difference) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counts == nil {
		s.counts = map[ShadowCount]uint64{}
	}
	s.counts[ShadowCount{name, d}]++
}

// WaitShadows returns when no Shadow policy looks at a request any more: for a server that ends, and for tests.
func (s *Server) WaitShadows() { s.shadows.group.Wait() }
