package manifest

import (
	"strings"

	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/k8s/api/v1alpha1"
	"github.com/usher-authz/usher/policy"
)

// memos are what the objects of a Compiled were turned into, for the next one: of ten thousand, one changes. An entry counts
// only if its object is the same, and so is everything that was looked up for it. Only what had no problem is noted.
type memos struct {
	filled    map[*v1alpha1.IdentityProvider]Object // with what their presets say
	providers map[*v1alpha1.IdentityProvider]memo[token.Config]
	policies  map[*v1alpha1.AuthPolicy]memo[policy.Source]
}

type memo[T any] struct {
	asked map[key]any // what was looked up, and what was found
	made  T
}

func newMemos() memos {
	return memos{map[*v1alpha1.IdentityProvider]Object{}, map[*v1alpha1.IdentityProvider]memo[token.Config]{}, map[*v1alpha1.AuthPolicy]memo[policy.Source]{}}
}

func (prev *Compiled) filled() map[*v1alpha1.IdentityProvider]Object {
	if prev == nil {
		return nil
	}
	return prev.memos.filled
}

// lookUp finds an object by its name, and notes what was found for the object that is just being turned into something.
func (c *compiler) lookUp(k key) *Object {
	o := c.byName[k]
	if c.asked != nil {
		c.asked[k] = identity(o)
	}
	return o
}

// identity is the same for the same manifest alone: an Object is copied, and what it points at is not changed once it is made.
func identity(o *Object) any {
	switch {
	case o == nil:
		return nil
	case o.IdentityProvider != nil:
		return o.IdentityProvider
	}
	return o.Secret
}

// still reports whether all of that would be found again.
func (c *compiler) still(asked map[key]any) bool {
	for k, found := range asked {
		if identity(c.byName[k]) != found {
			return false
		}
	}
	return true
}

// noting calls make, and returns what it looked up; false: it must not be remembered.
func (c *compiler) noting(o *Object, convert func()) (asked map[key]any, ok bool) {
	before := len(c.problems)
	c.asked = map[key]any{}
	c.guarded(o, convert)
	asked, c.asked = c.asked, nil
	return asked, len(c.problems) == before && !o.broken && !c.unread && len(o.secrets) == 0
}

// guarded calls convert, and makes a panic a problem of the object: one that uncovers a fault of Usher's must not end the process,
// and with it what all others have in force.
func (c *compiler) guarded(o *Object, convert func()) {
	defer func() {
		if p := recover(); p != nil {
			c.add(o.Pos, policy.Fault(p), "", policy.FaultHint)
		}
	}()
	convert()
}

// providerSince is the provider's configuration, tried or known from prev.
func (c *compiler) providerSince(prev *Compiled, o *Object) (config token.Config) {
	at := o.IdentityProvider
	if prev != nil {
		if m, known := prev.memos.providers[at]; known && !o.broken && len(o.secrets) == 0 && c.still(m.asked) {
			c.memos.providers[at] = m
			return m.made
		}
	}
	if asked, ok := c.noting(o, func() { config = c.tried(o, prev) }); ok {
		c.memos.providers[at] = memo[token.Config]{asked, config}
	}
	return config
}

// policySince is what an AuthPolicy says, converted or known from prev. A host that another policy has is a problem that comes
// and goes with the other one; so do key ids, and documents of a ConfigMap: a policy that has these is converted anew.
func (c *compiler) policySince(prev *Compiled, o *Object) (source policy.Source, ok bool) {
	at := o.AuthPolicy
	if prev != nil {
		if m, known := prev.memos.policies[at]; known && !o.broken && len(o.secrets) == 0 && c.still(m.asked) && c.claimAll(&m.made, o) {
			c.memos.policies[at] = m
			return m.made, true
		}
	}
	asked, good := c.noting(o, func() { source, ok = c.policy(o) })
	if good && ok && at.Spec.Assertion == nil && at.Spec.API.OpenAPI == nil {
		source.Token = new(policy.Token)
		c.memos.policies[at] = memo[policy.Source]{asked, source}
	}
	return source, ok
}

// claimAll gives the policy its hosts, or none of them if another one has one.
func (c *compiler) claimAll(s *policy.Source, o *Object) bool {
	if s.Shadow {
		return true
	}
	for _, h := range s.Hosts {
		host := strings.ToLower(h.Text)
		if _, taken := c.holder(host, o); taken || !c.grants.Allow(c.tenant(o), host) {
			return false
		}
	}
	for _, h := range s.Hosts {
		c.take(strings.ToLower(h.Text), o, h.Pos)
	}
	return true
}
