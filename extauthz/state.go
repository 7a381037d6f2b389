package extauthz

import (
	"context"
	"fmt"

	"github.com/usher-authz/usher/extauthz/lookup"
	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/policy"
)

// State is all that a decision depends on beside the request: compiled policies, the verifiers of their providers and
// the look-ups at their backends. A Server swaps it whole, so that no request sees half of a change.
type State struct {
	Policies  *policy.Snapshot
	Verifiers map[string]token.Verifier // by provider
	Lookups   map[string]Lookup         // by policy
	chosen    map[*policy.Policy]token.Verifier
}

// Lookup finds the metadata of objects at a backend.
type Lookup interface {
	// Get returns the object, not found as the zero Object. The error is a *policy.Refusal if the backend cannot be
	// asked.
	Get(context.Context, policy.Ref) (policy.Object, error)
	// Forget drops what is known of the object, as a write to it is about to pass.
	Forget(policy.Ref)
}

var _ Lookup = (*lookup.Client)(nil)

// prepare joins the verifiers of each policy, once per State.
func (s *State) prepare() error {
	s.chosen = map[*policy.Policy]token.Verifier{}
	for _, p := range s.Policies.Policies() {
		var vs []token.Verifier
		for _, name := range p.Providers {
			v := s.Verifiers[name]
			if v == nil {
				return fmt.Errorf("policy %q: no verifier for provider %q", p.Name, name)
			}
			vs = append(vs, v)
		}
		s.chosen[p] = token.Choose(vs...)
	}
	return nil
}
