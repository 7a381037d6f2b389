package dryrun

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/usher-authz/usher/extauthz"
	"github.com/usher-authz/usher/extauthz/lookup"
	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/policy"
	"github.com/usher-authz/usher/policy/policytest"
)

// Config is what is decided by, and what is supposed.
type Config struct {
	Policies  *policy.Snapshot
	Providers map[string]token.Config  // by name; nothing is fetched for them
	Backends  map[string]lookup.Config // by policy; nobody is asked
	Objects   []policytest.Object      // that the backends have
	Now       time.Time                // of every request; zero: the real time

	// State, where it is given, verifies real tokens: those of identities that have a Token. Its look-ups are not used, unless
	// AskBackends. Whoever made it starts and stops it.
	State *extauthz.State
	// AskBackends looks objects up at the real backends; Objects are not looked at. Without State it needs Lookups.
	AskBackends bool
	Lookups     map[string]extauthz.Lookup // by policy
}

// Gate decides requests. Make one with [New]. It is not safe for concurrent use.
type Gate struct {
	config     Config
	now        func() time.Time
	server     *extauthz.Server
	supposed   *supposed
	identities map[string]supposition // by token
	tokens     map[string]string      // by the name of an identity of a test
}

// supposition is who a token of a dry run speaks for.
type supposition struct {
	provider string
	identity *policy.Identity
	err      error // of claims that no token could be accepted with
}

// New makes a gate. The error says what is wrong in the Config.
func New(c Config) (*Gate, error) {
	g := &Gate{config: c, now: time.Now, identities: map[string]supposition{}, tokens: map[string]string{}}
	if !c.Now.IsZero() {
		g.now = func() time.Time { return c.Now }
	}
	g.supposed = newSupposed(c.Objects)
	g.server = extauthz.New(extauthz.Options{Now: g.now})
	return g, g.renew()
}

// renew puts a fresh state in force, in which nothing was looked up yet.
func (g *Gate) renew() error {
	c := &g.config
	if c.State != nil {
		return g.real()
	}
	verifiers := map[string]token.Verifier{}
	for name := range c.Providers {
		verifiers[name] = verifier{g, name}
	}
	lookups := c.Lookups
	if !c.AskBackends {
		var err error
		if lookups, err = g.lookups(); err != nil {
			return err
		}
	}
	state, err := extauthz.NewState(c.Policies, verifiers, lookups)
	if err != nil {
		return err
	}
	g.server.Swap(state)
	return nil
}

// real puts the given state in force.
func (g *Gate) real() error {
	if !g.config.AskBackends {
		lookups, err := g.lookups()
		if err != nil {
			return err
		}
		g.config.State.Lookups = lookups
	}
	g.server.Swap(g.config.State)
	return nil
}

// lookups are those of the supposed objects, by policy.
func (g *Gate) lookups() (map[string]extauthz.Lookup, error) {
	out := map[string]extauthz.Lookup{}
	for name, backend := range g.config.Backends {
		l, err := g.supposed.lookup(backend, g.now)
		if err != nil {
			return nil, fmt.Errorf("policy %q: %w", name, err)
		}
		out[name] = l
	}
	return out, nil
}

// verifier accepts the tokens that the gate made for one provider.
type verifier struct {
	gate     *Gate
	provider string
}

// Verify implements token.Verifier.
func (v verifier) Verify(_ context.Context, c token.Credential) (*policy.Identity, error) {
	s, ok := v.gate.identities[c.Token]
	if !ok || s.provider != v.provider {
		return nil, &policy.Refusal{
			Outcome: policy.Unauthenticated, Detail: "The access token is not valid.", Challenge: `error="invalid_token"`,
			Err: fmt.Errorf("provider %q does not know the token", v.provider),
		}
	}
	return s.identity, s.err
}

// token returns the token of a test's identity, made when it first asks; "" for nobody.
func (g *Gate) token(id policytest.Identity) string {
	if id.Anonymous {
		return ""
	}
	if id.Token != "" {
		return id.Token
	}
	if text, ok := g.tokens[id.Name]; ok {
		return text
	}
	s := supposition{provider: id.Provider}
	s.identity, s.err = g.suppose(id)
	text := "dry-run-" + strconv.Itoa(len(g.identities))
	g.identities[text], g.tokens[id.Name] = s, text
	return text
}

func (g *Gate) suppose(id policytest.Identity) (*policy.Identity, error) {
	config, ok := g.config.Providers[id.Provider]
	if !ok {
		return nil, fmt.Errorf("no provider %q", id.Provider)
	}
	if u := id.User; u != nil {
		if u.Identity == "" {
			return nil, errors.New("a user without a name")
		}
		permissions := u.Permissions
		if permissions == nil {
			permissions = []string{}
		}
		claims := u.Claims
		if claims == nil {
			claims = map[string]any{}
		}
		return &policy.Identity{Name: u.Identity, DisplayName: u.DisplayName, Permissions: permissions, Claims: claims, Provider: id.Provider, Expires: g.now().Add(time.Hour)}, nil
	}
	config.Now = g.now
	return token.Suppose(config, id.Claims)
}

// Ask implements policytest.Gate.
func (g *Gate) Ask(id policytest.Identity, r policytest.Request) policytest.Answer {
	a, _ := g.Explain(id, r)
	return a
}

// Explain asks, and says how the answer came about.
func (g *Gate) Explain(id policytest.Identity, r policytest.Request) (policytest.Answer, *extauthz.Explanation) {
	a, why, _ := g.ask(g.token(id), r)
	return a, why
}

func (g *Gate) ask(token string, r policytest.Request) (policytest.Answer, *extauthz.Explanation, *authv3.CheckResponse) {
	if g.supposed.fails {
		// A backend that failed for one request must not rest for the next one.
		if err := g.renew(); err != nil {
			return policytest.Answer{Fault: err.Error()}, &extauthz.Explanation{}, nil
		}
	}
	// Far enough that nothing in memory is ever late.
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	sent := g.arrive(token, r)
	response, why := g.server.Explain(ctx, sent.check())
	return sent.carryOut(response, why), why, response
}
