package dryrun

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

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
	verifiers := map[string]token.Verifier{}
	for name := range c.Providers {
		verifiers[name] = verifier{g, name}
	}
	lookups := map[string]extauthz.Lookup{}
	for name, backend := range c.Backends {
		l, err := g.supposed.lookup(backend, g.now)
		if err != nil {
			return fmt.Errorf("policy %q: %w", name, err)
		}
		lookups[name] = l
	}
	state, err := extauthz.NewState(c.Policies, verifiers, lookups)
	if err != nil {
		return err
	}
	g.server.Swap(state)
	return nil
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
	if g.supposed.fails {
		// A backend that failed for one request must not rest for the next one.
		if err := g.renew(); err != nil {
			return policytest.Answer{Fault: err.Error()}, &extauthz.Explanation{}
		}
	}
	// Far enough that nothing in memory is ever late.
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	sent := g.arrive(g.token(id), r)
	response, why := g.server.Explain(ctx, sent.check())
	return sent.carryOut(response, why), why
}
