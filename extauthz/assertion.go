package extauthz

import (
	"time"

	"github.com/usher-authz/usher/extauthz/assertion"
	"github.com/usher-authz/usher/policy"
)

// assertions are the signers of the policies that give their backend an assertion, and their published keys. They do not
// change once they are made.
type assertions struct {
	signers map[*policy.Policy]*assertion.Signer
	sets    map[string][]byte // the JWK set of each policy by its name, and of each tenant by its own
}

// newAssertions makes the signers anew for each State: what an identity keeps of an older one is not used again, as the
// claims may be others.
func newAssertions(policies *policy.Snapshot) (a assertions, err error) {
	a.signers, a.sets = map[*policy.Policy]*assertion.Signer{}, map[string][]byte{}
	tenants := map[string][]*assertion.Signer{"": nil} // the gate's own set is there, be it empty
	for _, p := range policies.Policies() {
		s, err := assertion.New(p)
		if err != nil {
			return a, err
		}
		if s == nil {
			continue
		}
		a.signers[p] = s
		tenants[p.Tenant] = append(tenants[p.Tenant], s)
		if a.sets[p.Name], err = assertion.KeySet(s); err != nil {
			return a, err
		}
	}
	// A set of all tenants would let each of them make assertions that a backend of another's accepts.
	for tenant, list := range tenants {
		if a.sets[tenant], err = assertion.KeySet(list...); err != nil {
			return a, err
		}
	}
	return a, nil
}

// assert puts the policy's assertion behind the identity headers. Nobody gets none. A policy that asks for an assertion and
// has no signer lets nothing pass.
func (s *State) assert(p *policy.Policy, id *policy.Identity, headers []policy.Header, now func() time.Time) ([]policy.Header, error) {
	if p.Assertion() == nil || id == p.Anonymous() {
		return headers, nil
	}
	return s.assertions.signers[p].Headers(id, headers, now())
}

// unasserted removes the client's copy of the assertion where none of Usher's takes its place.
func (a *answer) unasserted(p *policy.Policy) {
	if spec := p.Assertion(); spec != nil {
		a.remove = append(a.remove, spec.Header)
	}
}

// AssertionKeys is the JWK set (RFC 7517, section 5) of the public keys that assertions are verified by: of the policy of
// that name, of all policies of the tenant of that name, or of all of the gate's own if it is empty. Where there are tenants,
// each policy's name has its namespace and a slash. It is nil if there is no such policy or tenant, or it has no assertion.
// Nobody may change it.
func (s *State) AssertionKeys(name string) []byte { return s.assertions.sets[name] }
