package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// watchers finds the Shadow policies of one tenant by a host. Unlike an Enforce policy, each of them takes in every host that
// its pattern covers, whatever is more specific.
type watchers struct {
	exact  map[string]*watching // by host
	suffix map[string]*watching // by the part after "*"
	any    *watching            // nil: none
}

// watching are the Shadow policies with one pattern.
type watching struct {
	policies []*Policy // sorted by name
	headers  map[string]bool
}

// add takes a policy in; they come sorted by name.
func (w *watchers) add(p *Policy) {
	if w.exact == nil {
		w.exact, w.suffix, w.any = map[string]*watching{}, map[string]*watching{}, &watching{}
	}
	for _, host := range p.hosts {
		in, key := w.exact, host
		switch {
		case host == "*":
			w.any.add(p)
			continue
		case strings.HasPrefix(host, "*."):
			in, key = w.suffix, host[1:]
		}
		if in[key] == nil {
			in[key] = &watching{}
		}
		in[key].add(p)
	}
}

func (w *watching) add(p *Policy) {
	if w.headers == nil {
		w.headers = map[string]bool{}
	}
	w.policies = append(w.policies, p)
	for _, name := range p.identifying() {
		w.headers[name] = true
	}
}

// patterns calls f for each pattern that covers the host, which may be a pattern itself.
func (w *watchers) patterns(host string, f func(*watching)) {
	if w == nil || w.exact == nil {
		return
	}
	f(w.any)
	if exact := w.exact[host]; exact != nil {
		f(exact)
	}
	for i := 0; i < len(host) && len(w.suffix) > 0; i++ {
		if host[i] == '.' && i > 0 {
			if suffix := w.suffix[host[i:]]; suffix != nil {
				f(suffix)
			}
		}
	}
}

// of returns the policies of which a pattern covers the host, sorted by name. The list must not be changed.
func (w *watchers) of(host string) []*Policy {
	var out []*Policy
	whole := true // out is a list of ours, and is copied before anything is added
	w.patterns(host, func(more *watching) {
		switch {
		case len(more.policies) == 0:
		case len(out) == 0:
			out = more.policies
		case whole:
			out, whole = slices.Concat(out, more.policies), false
		default:
			out = append(out, more.policies...)
		}
	})
	if whole {
		return out
	}
	// A policy with several patterns is there once.
	slices.SortFunc(out, func(a, b *Policy) int { return strings.Compare(a.Name, b.Name) })
	return slices.Compact(out)
}

// Shadows returns the Shadow policies that watch a request to the host, which the policy guards that is given, nil: none. It
// returns those of the same tenant, sorted by name: they see tokens and bodies, which are no other's business. What nobody
// guards, the gate's own watch. host is lower-case and without a port. The cost does not depend on how many there are in all.
// The list must not be changed.
func (s *Snapshot) Shadows(host string, guard *Policy) []*Policy {
	if len(s.shadows) == 0 {
		return nil
	}
	tenant := ""
	if guard != nil {
		tenant = guard.Tenant
	}
	return s.shadows[tenant].of(host)
}

// linkShadows takes the Shadow policies in, and makes each Enforce policy remove the identity headers of those of its tenant
// that watch one of its hosts: a client could plant them for the day when the Shadow policy is enforced. One that watches no
// host, as others guard what it names, is told. It takes about as long as there are hosts, whatever covers them.
func (s *Snapshot) linkShadows() {
	s.shadows = map[string]*watchers{}
	all := s.Policies()
	for _, p := range all {
		if !p.Shadow {
			continue
		}
		if s.shadows[p.Tenant] == nil {
			s.shadows[p.Tenant] = &watchers{}
		}
		s.shadows[p.Tenant].add(p)
	}
	watches := map[*watching]bool{}
	for _, p := range all {
		if p.Shadow {
			continue
		}
		seen := map[*watching]bool{}
		for _, h := range p.hosts {
			s.shadows[p.Tenant].patterns(h, func(w *watching) {
				if !seen[w] {
					seen[w], watches[w] = true, true
					maps.Copy(p.remove, w.headers)
				}
			})
		}
	}
	for _, p := range all {
		if !p.Shadow {
			continue
		}
		w := s.shadows[p.Tenant]
		p.Idle = p.Tenant != "" // what nobody guards, the gate's own see
		seen := map[*Policy]bool{}
		for _, h := range p.hosts {
			if watches[w.exact[h]] || watches[w.suffix[strings.TrimPrefix(h, "*")]] || h == "*" && watches[w.any] {
				p.Idle = false
			}
			// A host that lies under a pattern of an Enforce policy.
			if guard := s.Match(h, ""); guard != nil && guard.Tenant == p.Tenant && !seen[guard] {
				p.Idle, seen[guard] = false, true
				for _, name := range p.identifying() {
					guard.remove[name] = true
				}
			}
		}
		if p.Idle {
			s.warnings = append(s.warnings, Problem{Pos: p.pos, Found: fmt.Sprintf("Shadow policy %q watches nothing", p.Name), Want: "an Enforce policy of its own namespace that guards one of its hosts", Hint: "what policies of other namespaces guard, it does not see"})
		}
	}
	for _, p := range all {
		p.listRemoved()
	}
}

// identifying are the canonical names of the headers by which p tells the backend who asks.
func (p *Policy) identifying() []string {
	var out []string
	for _, h := range p.headers {
		out = append(out, CanonicalHeader(h.name))
	}
	if p.assertion != nil {
		out = append(out, p.assertion.Header)
	}
	return out
}

// listRemoved lists what is removed beside the identity headers of p.
func (p *Policy) listRemoved() {
	own := map[string]bool{}
	for _, h := range p.headers {
		own[h.name] = true
	}
	if p.assertion != nil {
		own[p.assertion.Header] = true
	}
	for name := range p.remove {
		if !own[name] {
			p.always = append(p.always, name)
		}
	}
	slices.Sort(p.always)
}
