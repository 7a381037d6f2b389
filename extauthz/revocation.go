package extauthz

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/usher-authz/usher/extauthz/revocation"
	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/policy"
)

// ErrNoLogout says that a provider does not exist or takes no logout tokens here.
var ErrNoLogout = errors.New("no provider of that name takes logout tokens")

// revocations makes the list that a provider asks for; nil if it asks for none. It knows what the provider's list of the
// State before knew, whatever the provider was called: lists are shared while both run, and so only within one tenant's, who
// could else revoke tokens of another's users by logout tokens that his own keys sign.
func (s *State) revocations(prev *State, c token.Config) (*revocation.List, error) {
	r := c.Revocation
	if r == nil {
		return nil, nil
	}
	list, err := revocation.New(revocation.Config{
		Provider: c.Name, Issuer: c.Issuer, URL: r.URL, Username: r.Username, Password: r.Password, CA: r.CA, NoLocal: c.NoLocal,
		Prefix: r.Prefix, Tenant: c.Tenant, Bounds: s.lists, Logger: c.Logger,
	})
	if err != nil || prev == nil {
		return list, err
	}
	for _, old := range prev.providers {
		if old.revoked != nil && old.tenant == c.Tenant && (old.name == c.Name || old.logout.URL == r.URL) {
			list.Inherit(old.revoked)
		}
	}
	return list, nil
}

// run runs the verifier, and its list beside it.
func (p *provider) run(ctx context.Context) {
	var group sync.WaitGroup
	if p.revoked != nil {
		group.Go(func() { p.revoked.Run(ctx) })
	}
	p.Run(ctx)
	group.Wait()
}

// ready reports whether tokens can be verified, and those told that were revoked, where that matters.
func (p *provider) ready(mayLag bool) bool {
	return p.Status().Ready && (p.revoked == nil || p.revoked.Ready(mayLag))
}

// guard is how the tokens of one policy are verified. It is made when a State is, so that a policy none of whose providers
// has a revocation list does nothing for one.
type guard struct {
	token.Verifier
	lists  []listed
	mayLag bool // see policy.Policy.RevocationMayLag

	removes []string // what every request that passes has removed
}

// listed is the list of a provider.
type listed struct {
	provider string
	*revocation.List
}

// revoked refuses an identity whose token was revoked, or may have been.
func (g *guard) revoked(id *policy.Identity, now time.Time) error {
	for i := range g.lists {
		if l := &g.lists[i]; l.provider == id.Provider {
			return l.Check(id, now, g.mayLag)
		}
	}
	return nil
}

// TakesLogouts reports whether Logout takes tokens of the provider.
func (s *State) TakesLogouts(name string) bool {
	p := s.providers[name]
	return p != nil && p.revoked != nil && len(p.logout.LogoutClients) > 0
}

// Logout takes a logout token of the provider (OpenID Connect Back-Channel Logout 1.0, section 2.6) and revokes what it
// names. The error is a *policy.Refusal of a bad token (Unauthenticated), ErrNoLogout, or says that the token could not be
// judged or that other replicas may not know: then the provider must try again. Nothing of the token is in an error.
func (s *State) Logout(ctx context.Context, name, text string) error {
	if !s.TakesLogouts(name) {
		return ErrNoLogout
	}
	p := s.providers[name]
	j, ok := p.Provider.(*token.JWT)
	if !ok {
		return ErrNoLogout
	}
	l, err := j.Logout(ctx, text, p.logout.LogoutClients)
	if err != nil {
		return err
	}
	// A session's tokens do not all say which session they are of: the user's earlier ones are revoked too. A client that
	// is still logged in elsewhere refreshes its token.
	var failed error
	for kind, value := range map[revocation.Kind]string{revocation.SID: l.Session, revocation.SUB: l.Subject} {
		if value == "" {
			continue
		}
		if err := p.revoked.Revoke(ctx, kind, value, l.Issued, p.logout.TokenLifetime); err != nil {
			failed = fmt.Errorf("provider %q: %w", name, err)
		}
	}
	return failed
}
