package extauthz

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"sync"

	"github.com/usher-authz/usher/extauthz/fair"
	"github.com/usher-authz/usher/extauthz/lookup"
	"github.com/usher-authz/usher/extauthz/revocation"
	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/policy"
)

// State is all that a decision depends on beside the request: compiled policies, the verifiers of their providers and
// the look-ups at their backends. A Server swaps it whole, so that no request sees half of a change. It does not change
// once it is in force.
type State struct {
	Policies   *policy.Snapshot
	Verifiers  map[string]token.Verifier // by provider
	Lookups    map[string]Lookup         // by policy
	guards     map[*policy.Policy]*guard
	providers  map[string]*provider
	backends   map[string][]backend // by URL
	tokens     *token.Cache
	answers    *fair.Room // of look-ups
	lists      *revocation.Bounds
	assertions assertions
}

// Lookup finds the metadata of objects at a backend.
type Lookup interface {
	// Get returns the object, not found as the zero Object. The error is a *policy.Refusal if the backend cannot be
	// asked.
	Get(context.Context, policy.Ref) (policy.Object, error)
	// Forget drops what is known of the object, as a write to it is about to pass.
	Forget(policy.Ref)
}

// provider is a running verifier; states share one for as long as its specification is the same.
type provider struct {
	token.Provider
	tenant      string
	name        string // as in the identities that it makes
	fingerprint string
	revoked     *revocation.List // nil: none
	logout      *token.Revocation
	start       sync.Once
	cancel      context.CancelFunc
	done        chan struct{}
}

// backend is a client for look-ups; policies and states share one for as long as its configuration is the same.
type backend struct {
	config lookup.Config
	*lookup.Client
}

// Build makes a State. What prev, which may be nil, has with the same specification is taken over, with its keys and
// caches: a policy change empties nothing. Nothing is started, and nothing is fetched.
func Build(prev *State, policies *policy.Snapshot, providers map[string]token.Config, backends map[string]lookup.Config) (*State, error) {
	s := &State{
		Policies: policies, Verifiers: map[string]token.Verifier{}, Lookups: map[string]Lookup{},
		providers: map[string]*provider{}, backends: map[string][]backend{},
	}
	if prev != nil {
		s.tokens, s.answers, s.lists = prev.tokens, prev.answers, prev.lists
	} else {
		s.answers, s.lists = fair.NewRoom(lookup.RoomOfAnswers), revocation.NewBounds()
		var err error
		if s.tokens, err = token.NewCache(); err != nil {
			return nil, err
		}
	}
	for name, config := range providers {
		config.Cache = s.tokens
		var p *provider
		if prev != nil && config.Fingerprint != "" {
			if old := prev.providers[name]; old != nil && old.fingerprint == config.Fingerprint {
				p = old
			}
		}
		if p == nil {
			v, err := token.New(config)
			if err != nil {
				return nil, err
			}
			list, err := s.revocations(prev, config)
			if err != nil {
				return nil, err
			}
			p = &provider{Provider: v, tenant: config.Tenant, name: config.Name, fingerprint: config.Fingerprint, revoked: list, logout: config.Revocation, done: make(chan struct{})}
		}
		s.providers[name], s.Verifiers[name] = p, p.Provider
	}
	for name, config := range backends {
		config.Room = s.answers
		c, err := s.backend(prev, config)
		if err != nil {
			return nil, fmt.Errorf("policy %q: %w", name, err)
		}
		s.Lookups[name] = c
	}
	s.share()
	s.remember()
	var err error
	if s.assertions, err = newAssertions(policies); err != nil {
		return nil, err
	}
	return s, s.prepare()
}

// backend returns the client of that configuration.
func (s *State) backend(prev *State, config lookup.Config) (*lookup.Client, error) {
	same := func(b backend) bool { return reflect.DeepEqual(b.config, config) }
	known := s.backends[config.BackendURL]
	if i := slices.IndexFunc(known, same); i >= 0 {
		return known[i].Client, nil
	}
	b := backend{config: config}
	if prev != nil {
		if old := prev.backends[config.BackendURL]; slices.ContainsFunc(old, same) {
			b = old[slices.IndexFunc(old, same)]
		}
	}
	if b.Client == nil {
		var err error
		if b.Client, err = lookup.New(config); err != nil {
			return nil, err
		}
	}
	s.backends[config.BackendURL] = append(known, b)
	return b.Client, nil
}

// share lets each policy's Lookup know of the writes under the others of the same backend. Those with the same
// credentials share one client; those with others must not share what they were shown.
func (s *State) share() {
	for name, l := range s.Lookups {
		own, ok := l.(*lookup.Client)
		if !ok {
			continue
		}
		for _, all := range s.backends {
			if len(all) < 2 || !slices.ContainsFunc(all, func(b backend) bool { return b.Client == own }) {
				continue
			}
			s.Lookups[name] = shared{own, all}
		}
	}
}

// keptObjects is how much memory the objects take that all look-ups keep, in bytes.
const keptObjects = 64 << 20

// remember divides it between the tenants, and what a tenant has between its backends, of which it may have any number.
func (s *State) remember() {
	tenants := map[string][]*lookup.Client{}
	for _, all := range s.backends {
		for _, b := range all {
			tenants[b.config.Tenant] = append(tenants[b.config.Tenant], b.Client)
		}
	}
	for _, clients := range tenants {
		for _, c := range clients {
			c.Keep(keptObjects / len(tenants) / len(clients))
		}
	}
}

// shared is one client of several for the same backend.
type shared struct {
	*lookup.Client
	all []backend
}

// Forget implements Lookup.
func (s shared) Forget(ref policy.Ref) {
	for _, b := range s.all {
		b.Client.Forget(ref)
	}
}

// NewState makes a State of verifiers, by provider, and look-ups, by policy, that the caller has made: for a dry run, whose
// tokens and objects are supposed. Nothing runs in the background for it, and nothing is revoked.
func NewState(policies *policy.Snapshot, verifiers map[string]token.Verifier, lookups map[string]Lookup) (*State, error) {
	s := &State{Policies: policies, Verifiers: verifiers, Lookups: lookups}
	var err error
	if s.assertions, err = newAssertions(policies); err != nil {
		return nil, err
	}
	return s, s.prepare()
}

// prepare joins the verifiers of each policy and their revocation lists, once per State.
func (s *State) prepare() error {
	s.guards = map[*policy.Policy]*guard{}
	for _, p := range s.Policies.Policies() {
		var vs []token.Verifier
		g := &guard{mayLag: p.RevocationMayLag, removes: removes(p)}
		for _, name := range p.Providers {
			v := s.Verifiers[name]
			if v == nil {
				return fmt.Errorf("policy %q: no verifier for provider %q", p.Name, name)
			}
			vs = append(vs, v)
			if own := s.providers[name]; own != nil && own.revoked != nil {
				g.lists = append(g.lists, listed{own.name, own.revoked})
			}
		}
		g.Verifier = token.Choose(vs...)
		s.guards[p] = g
	}
	return nil
}

// Start begins to fetch the providers' keys, until ctx ends or Stop. Providers that run already go on.
func (s *State) Start(ctx context.Context) {
	for _, p := range s.providers {
		p.start.Do(func() {
			ctx, cancel := context.WithCancel(ctx)
			p.cancel = cancel
			go func() {
				defer close(p.done)
				p.run(ctx)
			}()
		})
	}
}

// Stop ends the providers that next, which may be nil, does not share, and waits for them.
func (s *State) Stop(next *State) {
	for name, p := range s.providers {
		if next != nil && next.providers[name] == p {
			continue
		}
		p.start.Do(func() { close(p.done) }) // never started
		if p.cancel != nil {
			p.cancel()
		}
		<-p.done
	}
}

// Status says how each provider is, by name.
func (s *State) Status() map[string]token.Status {
	out := make(map[string]token.Status, len(s.providers))
	for name, p := range s.providers {
		status := p.Status()
		if p.revoked != nil {
			status.Revocation = p.revoked.Status()
		}
		out[name] = status
	}
	return out
}

// BackendStatus says how the backends are that objects are looked up at, by URL; of several clients for one, the first
// that has a problem.
func (s *State) BackendStatus() map[string]lookup.Status {
	out := make(map[string]lookup.Status, len(s.backends))
	for url, all := range s.backends {
		status := all[0].Status()
		for _, b := range all[1:] {
			if status.Problem == "" {
				status = b.Status()
			}
		}
		out[url] = status
	}
	return out
}

// Ready reports whether every provider of an Enforce policy can verify tokens.
func (s *State) Ready() bool {
	for _, p := range s.Policies.Policies() {
		if p.Shadow {
			continue
		}
		if slices.ContainsFunc(p.Providers, func(name string) bool { return !s.providers[name].ready(p.RevocationMayLag) }) {
			return false
		}
	}
	return true
}
