package manifest

import (
	"fmt"
	"iter"
	"strings"

	"github.com/usher-authz/usher/policy"
)

// claims are the hosts of Enforce policies. Within one owner's policies only equal hosts exclude each other, as the most specific
// one is looked at; between tenants one must not stand under or over the other's either: see [compiler.holder].
type claims struct {
	by    map[string]claimant   // by host or pattern
	below map[string][]claimant // by pattern: who has something under it, of two tenants at most
}

// claimant is the first policy that names a host.
type claimant struct {
	owner  *Object
	tenant string
	at     policy.Position
}

// wider are the patterns that cover the host or pattern, itself left out: the narrowest first, and until that one.
func wider(host, until string) iter.Seq[string] {
	return func(yield func(string) bool) {
		if host == until || host == "*" {
			return
		}
		for i := 1; i < len(host); i++ {
			if host[i] != '.' || host[:i] == "*" {
				continue
			}
			if pattern := "*" + host[i:]; !yield(pattern) || pattern == until {
				return
			}
		}
		yield("*")
	}
}

// holder finds who has the host already, or, of another tenant, a pattern over it or a host under it. A pattern of somebody
// else's that is wider than what was granted to one of the two does not exclude it. It takes no longer for however many there are.
func (c *compiler) holder(host string, o *Object) (claimant, bool) {
	if first, taken := c.hosts.by[host]; taken || !c.apart {
		return first, taken
	}
	tenant := c.tenant(o)
	for pattern := range wider(host, c.grants.pattern(host, tenant)) {
		if first, taken := c.hosts.by[pattern]; taken && first.tenant != tenant {
			return first, true
		}
	}
	for _, first := range c.hosts.below[host] {
		if first.tenant != tenant {
			return first, true
		}
	}
	return claimant{}, false
}

// take gives the host to the policy.
func (c *compiler) take(host string, o *Object, at policy.Position) {
	own := claimant{o, c.tenant(o), at}
	c.hosts.by[host] = own
	if !c.apart {
		return
	}
	for pattern := range wider(host, c.grants.pattern(host, own.tenant)) {
		if known := c.hosts.below[pattern]; len(known) == 0 || len(known) == 1 && known[0].tenant != own.tenant {
			c.hosts.below[pattern] = append(known, own)
		}
	}
}

// claim gives a host to the first policy that names it, if it may.
func (c *compiler) claim(t policy.Text, o *Object) bool {
	host := strings.ToLower(t.Text)
	if !c.granted(t, o) {
		return false
	}
	first, taken := c.holder(host, o)
	switch {
	case !taken:
		c.take(host, o, t.Pos)
		return true
	case first.owner == o:
		c.add(t.Pos, fmt.Sprintf("found host %q twice", t.Text), "each once", "")
	case first.tenant != c.tenant(o): // whose it is, and what it is called, is not this one's business
		c.conflicts[o.Pos.File] = true
		c.add(t.Pos, fmt.Sprintf("found host %q, which a policy of another namespace guards already, or one under or over it", t.Text), "hosts that no other namespace has a part in", "the older object keeps them; usher serve --namespace-hosts says which namespace may have which")
	default:
		c.conflicts[o.Pos.File] = true
		who := "the policy at " + first.at.String()
		if first.at.Stored {
			who = first.at.File
		}
		c.add(t.Pos, fmt.Sprintf("found host %q, which %s guards already", t.Text, who), "each host in one Enforce policy", "join the policies, or make one mode: Shadow")
	}
	return false
}

// granted reports whether the policy's owner may have the host; why not is a problem.
func (c *compiler) granted(t policy.Text, o *Object) bool {
	tenant := c.tenant(o)
	if c.grants.Allow(tenant, t.Text) {
		return true
	}
	c.ungranted[o.Pos.File] = true
	given := c.grants.of(tenant)
	hint := fmt.Sprintf("usher serve --namespace-hosts %s=HOST grants one", tenant)
	want := oneOf(given)
	switch {
	case len(given) == 0:
		want = "none: no host is granted to it"
	case c.grants.covered(tenant, t.Text):
		hint = "a pattern that is more specific is granted to another namespace"
	}
	c.add(t.Pos, fmt.Sprintf("found host %q, which is not granted to namespace %q", t.Text, tenant), want, hint)
	return false
}
