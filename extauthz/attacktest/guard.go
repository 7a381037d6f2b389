package attacktest

import (
	"slices"
	"strings"
)

// alwaysClean is removed or overwritten whatever the policy: with it, LangGraph's Studio is a user without a credential.
const alwaysClean = "x-auth-scheme"

// guard is what the judge knows of one AuthPolicy, read from the manifests by itself: it must not believe the product.
type guard struct {
	name    string
	hosts   []string
	shadow  bool
	headers []string
}

// guards returns the policies of the environment.
func (s *Suite) guards() []guard {
	var out []guard
	for _, m := range s.Environment.Manifests {
		if m.get("kind").text != "AuthPolicy" {
			continue
		}
		spec := m.get("spec")
		g := guard{name: m.get("metadata").get("name").text, shadow: spec.get("mode").text == "Shadow"}
		for _, h := range spec.get("hosts").items {
			g.hosts = append(g.hosts, strings.ToLower(h.text))
		}
		for _, h := range spec.get("identityHeaders").members {
			g.headers = append(g.headers, strings.ToLower(h.name))
		}
		out = append(out, g)
	}
	return out
}

// guardOf returns the Enforce policy that guards a request: the one of that name, or the one of its host.
func (s *Suite) guardOf(host, name string) *guard {
	all := s.guards()
	host = strings.ToLower(host)
	if i := strings.LastIndexByte(host, ':'); i > 0 && strings.Trim(host[i+1:], "0123456789") == "" {
		host = host[:i]
	}
	var wild *guard
	for i, g := range all {
		switch {
		case g.shadow:
		case name != "":
			if g.name == name {
				return &all[i]
			}
		case slices.Contains(g.hosts, host):
			return &all[i]
		case slices.ContainsFunc(g.hosts, func(h string) bool {
			return h == "*" || strings.HasPrefix(h, "*.") && strings.HasSuffix(host, h[1:]) && len(host) >= len(h)
		}):
			wild = &all[i]
		}
	}
	if wild != nil && strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789-.") != "" {
		return nil // no host name at all
	}
	return wild
}

// identityHeaders are the names that an allow of the guard must set or remove: its own, those of the Shadow policies that
// watch its hosts, and x-auth-scheme.
func (s *Suite) identityHeaders(of *guard) []string {
	names := append([]string{alwaysClean}, of.headers...)
	for _, g := range s.guards() {
		if g.shadow && slices.ContainsFunc(g.hosts, func(h string) bool { return slices.Contains(of.hosts, h) }) {
			names = append(names, g.headers...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
