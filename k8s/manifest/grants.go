package manifest

import (
	"fmt"
	"slices"
	"strings"
)

// Grants say which namespaces may have which hosts: a host is for the namespaces of the most specific pattern that covers it.
// The zero value grants every host to everybody; once there is one, what is not granted is nobody's but the gate's own. It must
// not be changed while it is used.
type Grants struct {
	holders map[string][]string // namespaces, by host or pattern
}

// Add reads NAMESPACE=HOST[,HOST...], with hosts as in an AuthPolicy's spec.hosts.
func (g *Grants) Add(text string) error {
	namespace, hosts, ok := strings.Cut(text, "=")
	if !ok || strings.Contains(namespace, ".") || !isHost(namespace) {
		return fmt.Errorf("found %q, expected NAMESPACE=HOST[,HOST...]", text)
	}
	for host := range strings.SplitSeq(hosts, ",") {
		host = strings.ToLower(host)
		if host != "*" && !isHost(strings.TrimPrefix(host, "*.")) {
			return fmt.Errorf("found host %q in %q, expected a host name, \"*.suffix\" or \"*\"", host, text)
		}
		if g.holders == nil {
			g.holders = map[string][]string{}
		}
		if !slices.Contains(g.holders[host], namespace) {
			g.holders[host] = append(g.holders[host], namespace)
		}
	}
	return nil
}

// most is the most specific pattern that covers the host or pattern; empty: none does.
func (g *Grants) most(host string) string {
	if _, found := g.holders[host]; found {
		return host
	}
	for pattern := range wider(host, "") {
		if _, found := g.holders[pattern]; found {
			return pattern
		}
	}
	return ""
}

// Allow reports whether the tenant may have the host. The gate's own, "", may have any.
func (g *Grants) Allow(tenant, host string) bool {
	return len(g.holders) == 0 || tenant == "" || slices.Contains(g.holders[g.most(strings.ToLower(host))], tenant)
}

// pattern is what the tenant has the host by; "*" where nothing is granted in particular.
func (g *Grants) pattern(host, tenant string) string {
	if most := g.most(host); tenant != "" && most != "" && slices.Contains(g.holders[most], tenant) {
		return most
	}
	return "*"
}

// of are the patterns that the tenant was granted, sorted.
func (g *Grants) of(tenant string) []string {
	found := map[string]bool{}
	for pattern, holders := range g.holders {
		if slices.Contains(holders, tenant) {
			found[pattern] = true
		}
	}
	return sorted(found)
}

// covered reports whether some pattern of the tenant's covers the host, most specific or not.
func (g *Grants) covered(tenant, host string) bool {
	host = strings.ToLower(host)
	for pattern := range wider(host, "") {
		if slices.Contains(g.holders[pattern], tenant) {
			return true
		}
	}
	return slices.Contains(g.holders[host], tenant)
}
