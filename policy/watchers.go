package policy

import (
	"slices"
	"strings"
)

// watchers finds the Shadow policies of a host. Unlike an Enforce policy, each of them takes in every host that its pattern
// covers, whatever is more specific.
type watchers struct {
	exact  map[string][]*Policy // by host
	suffix map[string][]*Policy // by the part after "*"
	any    []*Policy
}

// add takes a policy in; they come sorted by name.
func (w *watchers) add(p *Policy) {
	if w.exact == nil {
		w.exact, w.suffix = map[string][]*Policy{}, map[string][]*Policy{}
	}
	for _, host := range p.hosts {
		switch {
		case host == "*":
			w.any = append(w.any, p)
		case strings.HasPrefix(host, "*."):
			w.suffix[host[1:]] = append(w.suffix[host[1:]], p)
		default:
			w.exact[host] = append(w.exact[host], p)
		}
	}
}

// Shadows returns the Shadow policies that watch the host, sorted by name; host is lower-case and without a port. Its cost
// does not depend on how many there are in all. The list must not be changed.
func (s *Snapshot) Shadows(host string) []*Policy {
	w := &s.shadows
	if w.exact == nil {
		return nil
	}
	out, whole := w.any, true // whole: out is a list of ours, and is copied before anything is added
	join := func(more []*Policy) {
		switch {
		case len(more) == 0:
		case len(out) == 0:
			out = more
		case whole:
			out, whole = slices.Concat(out, more), false
		default:
			out = append(out, more...)
		}
	}
	join(w.exact[host])
	for i := 0; i < len(host) && len(w.suffix) > 0; i++ {
		if host[i] == '.' && i > 0 {
			join(w.suffix[host[i:]])
		}
	}
	if whole {
		return out
	}
	// A policy with several patterns is there once.
	slices.SortFunc(out, func(a, b *Policy) int { return strings.Compare(a.Name, b.Name) })
	return slices.Compact(out)
}
