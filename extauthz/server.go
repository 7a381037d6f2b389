package extauthz

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/usher-authz/usher/envoy/edit"
	"github.com/usher-authz/usher/extauthz/fair"
	"github.com/usher-authz/usher/policy"
)

const (
	// defaultBudget bounds all I/O of one check where the caller names no deadline: below the 200 ms after which Envoy
	// gives up by default.
	defaultBudget = 160 * time.Millisecond
	// maxBudget bounds it where the caller's deadline is far.
	maxBudget = time.Second
)

// budget is until when a check may do I/O: four fifths of the time that Envoy waits (grpc-timeout), so that the answer is
// still Usher's own. A verifier has a bound of its own below it, so that a token seen before costs no timer.
func budget(ctx context.Context, start time.Time) time.Time {
	if until, ok := ctx.Deadline(); ok {
		return start.Add(min(until.Sub(start)*4/5, maxBudget))
	}
	return start.Add(defaultBudget)
}

// maxParallel bounds how many look-ups one request has under way.
const maxParallel = 8

// Options configure a Server. The zero value is safe: no log and the real clock.
type Options struct {
	Logger *zap.Logger
	Now    func() time.Time
	// MaxRequestBytes is the largest body that is decided on; 0: 4 MiB. Envoy must be told to send one byte more (its
	// max_request_bytes), as of a body in chunks it calls a first part of just that length whole.
	MaxRequestBytes int
	// Latency observes how long each check took, in seconds; nil: nobody does. It is a prometheus.Observer.
	Latency interface{ Observe(seconds float64) }
	// Observer is told of requests, to decide them again later; nil: nobody is.
	Observer Observer
}

// defaultRequestBytes is for agents that are sent pictures.
const defaultRequestBytes = 4 << 20

// Server answers checks. It is safe for concurrent use. Before the first Swap every check is answered 503.
type Server struct {
	authv3.UnimplementedAuthorizationServer

	state   atomic.Pointer[State]
	log     *zap.Logger
	now     func() time.Time
	most    int // bytes of a body
	large   *fair.Room
	panics  atomic.Uint64
	latency interface{ Observe(float64) }
	checks  [16]atomic.Uint64 // by outcome

	observer Observer

	shadows shadows
}

// New returns a server without a State.
func New(o Options) *Server {
	s := &Server{log: o.Logger, now: o.Now, latency: o.Latency, observer: o.Observer, most: o.MaxRequestBytes, large: fair.NewRoom(largeAtOnce)}
	if s.most <= 0 {
		s.most = defaultRequestBytes
	}
	if s.log == nil {
		s.log = zap.NewNop()
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s
}

// Swap puts a State that Build made in force for every check that begins afterwards; checks in flight finish with the one
// they began with.
func (s *Server) Swap(next *State) { s.state.Store(next) }

// Counts returns how many checks ended in each outcome, and how many of them were panics. The counts only grow.
func (s *Server) Counts() (outcomes map[policy.Outcome]uint64, panics uint64) {
	outcomes = map[policy.Outcome]uint64{}
	for o := range s.checks {
		if n := s.checks[o].Load(); n > 0 {
			outcomes[policy.Outcome(o)] = n
		}
	}
	return outcomes, s.panics.Load()
}

// decide takes the request its one way: here to the policy that guards its host, and then by judge.
func (s *Server) decide(ctx context.Context, c *call) answer {
	r, rec := &c.request, &c.record
	state := s.state.Load()
	if state == nil {
		return rec.fail(&policy.Refusal{Outcome: policy.Unavailable, Detail: "Not ready.", Err: errors.New("no policies yet")})
	}
	why := rec.explain
	err := r.decode(c.text)
	rec.host, rec.method = r.host, r.method
	rec.requestID, rec.path = r.headers.requestID, r.recordedPath()
	why.decoded(r)
	if err != nil {
		return rec.fail(err)
	}

	why.at(StageMatch)
	var a answer
	p := state.Policies.Match(r.host, r.policy)
	switch {
	case p != nil:
		a = s.judge(ctx, state, p, r, rec)
	case r.policy != "":
		a = rec.fail(fmt.Errorf("context_extensions name policy %q, which does not exist", r.policy))
	default:
		a = rec.fail(&policy.Refusal{Outcome: policy.NotFound, Detail: "Not Found", Err: errors.New("no policy guards this host")})
	}
	if shadows := state.Policies.Shadows(r.host, p); len(shadows) > 0 && why == nil {
		s.shadows.watch(s, state, shadows, c.text, verdictOf(p, a.outcome, rec))
	}
	return a
}

// judge decides the request by the policy.
func (s *Server) judge(ctx context.Context, state *State, p *policy.Policy, r *request, rec *record) answer {
	var route policy.Route
	var body []byte // once it was read
	fail := func(p *policy.Policy, err error) answer {
		a := rec.fail(err)
		a.challengedBy(p, r)
		a.refusal = route.Refusal(body, a.outcome, a.detail)
		return a
	}
	why := rec.explain
	rec.policy, rec.decider = p.Name, p
	if p.Unavailable {
		return fail(p, &policy.Refusal{Outcome: policy.Unavailable, Detail: "The policy of this host is not valid.", RetryAfter: 10 * time.Second, Err: errors.New("the policy's manifest never compiled")})
	}
	guard := state.guards[p]
	if guard == nil {
		return fail(p, errors.New("the policy is not of this state"))
	}
	why.at(StageRoute)
	if body, ok := p.Document(r.method, r.path); ok {
		rec.route = "protected resource metadata"
		return answer{outcome: policy.Answer, body: body, document: true}
	}

	var unknown error
	route, unknown = p.Route(r.method, r.path)
	if unknown == nil {
		rec.route, rec.public = route.Pattern, route.Public
		why.routed(&route)
		if route.Public {
			if r.headers.upgrade {
				return fail(p, errUpgrade)
			}
			return s.public(guard, p, r)
		}
	}

	why.at(StageToken)
	id, err := rec.trial.identify(ctx, guard, p, r)
	rec.identity, rec.refused = id, err
	if err != nil {
		return fail(p, err)
	}
	if err := guard.revoked(id, rec.start); err != nil {
		return fail(p, err)
	}
	rec.user = id.Name
	why.identified(id)
	if unknown != nil {
		return fail(p, unknown)
	}
	if r.headers.upgrade && !route.WebSocket {
		return fail(p, errUpgrade)
	}

	why.at(StageBody)
	if route.NeedsBody {
		text, err := r.body(s.most)
		if err != nil {
			return fail(p, err)
		}
		if len(text) > largeBody && rec.trial == nil {
			release, err := s.admit(ctx, rec.start, p.Tenant, len(text))
			if err != nil {
				return fail(p, err)
			}
			defer release()
		}
		if text != "" {
			body = []byte(text)
		}
	}
	ops, err := route.Operations(r.query, body)
	if err != nil {
		return fail(p, err)
	}
	rec.operations = ops
	why.asked(ops)
	d := p.Decide(policy.Facts{
		Identity: id, Now: s.now(), Trace: why.trace(),
		Request: &policy.Request{Method: r.method, Path: r.path, Host: r.host, RemoteAddress: r.address, Query: r.query, Headers: why.reading(r.headers.visible)},
	}, ops)
	if len(d.Needs) > 0 {
		why.lookUp(d.Needs)
		found, err := find(ctx, budget(ctx, rec.start), rec.trial.lookup(state.Lookups[p.Name]), d.Needs)
		if err != nil {
			rec.rule = d.Rule
			return fail(p, err)
		}
		why.found(found)
		rec.needs, rec.found = d.Needs, found
		d = d.Resolve(found)
	}
	why.decided(&d)
	if id == p.Anonymous() {
		d = login(d)
	}
	rec.rule, rec.reason, rec.unfiltered = d.Rule, d.Reason, d.Unfiltered
	if d.Outcome != policy.Allow {
		a := answer{outcome: d.Outcome, detail: d.Detail, body: d.Body, scopes: d.Scopes, login: d.Login}
		a.challengedBy(p, r)
		a.refusal = route.Refusal(body, a.outcome, a.detail)
		return a
	}
	why.at(StagePass)
	a, err := s.grant(state, guard, p, r, rec, &d, body)
	if err != nil {
		return fail(p, err)
	}
	return a
}

// grant lets the request pass as the decision says: with headers, and edited where it must be.
func (s *Server) grant(state *State, guard *guard, p *policy.Policy, r *request, rec *record, d *policy.Decision, body []byte) (answer, error) {
	id := rec.identity
	headers, err := state.assert(p, id, d.Headers, s.now)
	if err != nil {
		return answer{}, err
	}
	if rec.trial == nil {
		forget(state.Lookups[p.Name], r.method, rec.operations)
	}
	rec.headers, rec.edits, rec.query = d.Headers, d.Edits, d.Query
	a := s.pass(guard, p, r, headers)
	if id == p.Anonymous() {
		a.unasserted(p)
	}
	target := r.target
	if d.Query != nil {
		if target, err = narrowed(r.target, *d.Query); err != nil {
			return answer{}, err
		}
		rec.edited = true
		a.path = target
	}
	if len(d.Edits) > 0 {
		edited, err := edit.Apply(body, d.Edits)
		if err != nil {
			return answer{}, &policy.Refusal{Outcome: policy.BadRequest, Detail: "The body has no place for its metadata.", Err: fmt.Errorf("edit the body: %w", err)}
		}
		rec.edited = true
		a.edit = edit.Metadata(target, edited)
		body = edited
	}
	if len(body) > 0 {
		// The backend must read the body as it was read here: LangGraph's JS server takes one of another type for an
		// empty one, and would search without the filter that narrows it.
		a.set = append(a.set[:len(a.set):len(a.set)], policy.Header{Name: "content-type", Value: "application/json"})
	}
	return a, nil
}

// errUpgrade refuses what Envoy would forward as an upgrade (RFC 9110, section 7.8): once the backend takes it, nobody looks at
// what is said, and Envoy hands no body of it to a check. Envoy takes an upgrade that it does not forward, h2c above all, out of
// a request before it asks.
var errUpgrade = &policy.Refusal{Outcome: policy.Forbidden, Detail: "An upgrade is not possible here."}

const (
	// largeBody is from how many bytes on a body waits for its turn: smaller ones cost little, however many.
	largeBody = 64 << 10
	// largeAtOnce is how many bytes of large bodies are read at once, of one tenant half of it, if not just one body.
	largeAtOnce = 16 << 20
)

// admit waits until a large body of a tenant's policy may be read: a few of them would fill the memory, and keep every core busy
// after Envoy has given up. The body keeps its room until it is decided on, for which the tenant's backend may be waited for.
func (s *Server) admit(ctx context.Context, start time.Time, tenant string, size int) (release func(), err error) {
	ctx, cancel := context.WithDeadline(ctx, budget(ctx, start))
	defer cancel()
	if err := s.large.Acquire(ctx, tenant, int64(size)); err != nil {
		return nil, &policy.Refusal{Outcome: policy.Unavailable, Detail: "Too many large bodies at once.", RetryAfter: time.Second, Err: errors.New("too many large bodies at once")}
	}
	return func() { s.large.Release(tenant, int64(size)) }, nil
}

// public lets a request pass without an identity, and without anything that looks like one.
func (s *Server) public(g *guard, p *policy.Policy, r *request) answer {
	a := s.pass(g, p, r, nil)
	for _, name := range p.HeaderNames() {
		a.remove = append(a.remove, name)
	}
	a.unasserted(p)
	return a
}

// pass makes the allowing answer: identity headers, and the removal of every client header that could be taken for one.
func (s *Server) pass(g *guard, p *policy.Policy, r *request, identity []policy.Header) answer {
	a := answer{outcome: policy.Allow, set: identity, remove: g.removes}
	if r.nonce != nil {
		a.nonce = *r.nonce
	}
	if name := p.TokenFrom.Cookie; name != "" && !p.ForwardToken {
		if rest, found := withoutCookie(r.headers.all("cookie"), name); found && rest == "" {
			a.remove = append(a.remove, "cookie")
		} else if found {
			a.set = append(a.set[:len(a.set):len(a.set)], policy.Header{Name: "cookie", Value: rest})
		}
	}
	for _, name := range r.headers.odd {
		if p.Removes(name) && !sameName(name, policy.CanonicalHeader(name)) {
			a.remove = append(a.remove, name)
		}
	}
	return a
}

// removes are the names that every request that the policy lets pass has removed. Nothing may be appended to it in place.
func removes(p *policy.Policy) []string {
	out := slices.Clone(p.RemovedAlways())
	if !p.ForwardToken || p.TokenFrom.Header != "" || p.TokenFrom.Cookie != "" {
		// Where the token is elsewhere, nobody has looked at these.
		out = append(out, "authorization", "dpop")
	}
	return slices.Clip(out)
}

// sameName reports whether two names differ in case only, in which Envoy's headers are one.
func sameName(name, canonical string) bool {
	if len(name) != len(canonical) {
		return false
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != canonical[i] {
			return false
		}
	}
	return true
}

// find looks up every object, a few at a time.
func find(ctx context.Context, until time.Time, l Lookup, needs []policy.Ref) ([]policy.Object, error) {
	if l == nil {
		return nil, errors.New("the policy has no backend to look objects up at")
	}
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	found := make([]policy.Object, len(needs))
	if len(needs) == 1 {
		var err error
		found[0], err = l.Get(ctx, needs[0])
		return found, err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxParallel)
	for i, ref := range needs {
		group.Go(func() (err error) {
			found[i], err = l.Get(ctx, ref)
			return err
		})
	}
	return found, group.Wait()
}

// narrowed gives a request target another query.
func narrowed(target, query string) (string, error) {
	path, _, _ := strings.Cut(target, "?")
	if query != "" {
		path += "?" + query
	}
	if len(path) > maxTarget {
		return "", badRequest("The query is too long.")
	}
	return path, nil
}

// forget drops cached metadata of objects that the request may change: of a preset its actions say that, of routes of one's
// own the method does (RFC 9110, section 9.2.1).
func forget(l Lookup, method string, ops []policy.Operation) {
	for i := range ops {
		op := &ops[i]
		reads := op.Action == "read" || op.Action == "search"
		if op.Object.Reader != nil {
			reads = method == "GET" || method == "HEAD" || method == "OPTIONS"
		}
		if !reads && !op.Object.IsZero() && l != nil {
			l.Forget(op.Object)
		}
	}
}
