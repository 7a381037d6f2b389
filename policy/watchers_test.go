package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// The Shadow policies of a host are those of which a pattern covers it, however they are found.
func TestShadows_are_those_of_which_a_pattern_covers_the_host(t *testing.T) {
	patterns := [][]string{{"*"}, {"*.example.com"}, {"a.example.com"}, {"a.example.com", "*.example.com", "*"}, {"*.b.example.com", "b.example.com"}, {"example.com"}, {"*.com", "other.test"}}
	var all []*Policy
	var w watchers
	for i, hosts := range patterns {
		p := &Policy{Name: fmt.Sprint(i), Shadow: true, hosts: hosts}
		all = append(all, p)
		w.add(p)
	}
	s := &Snapshot{shadows: map[string]*watchers{"": &w}}
	for _, host := range []string{"example.com", "a.example.com", "b.example.com", "c.b.example.com", "xexample.com", "com", "other.test", "[::1]", ""} {
		var want []*Policy
		for _, p := range all {
			if slices.ContainsFunc(p.hosts, func(pattern string) bool { return covers(pattern, host) }) {
				want = append(want, p)
			}
		}
		for range 2 { // what was returned shares nothing with what is returned next
			if got := s.Shadows(host, nil); !slices.Equal(got, want) {
				t.Errorf("%q: got %v, want %v", host, policyNames(got), policyNames(want))
			}
		}
	}
	if got := (&Snapshot{}).Shadows("a.example.com", nil); got != nil {
		t.Errorf("without Shadow policies: %v", got)
	}
}

// covers reports whether the pattern of a host takes in the host, or a pattern.
func covers(pattern, host string) bool {
	suffix, wild := strings.CutPrefix(pattern, "*")
	return host == pattern || wild && strings.HasSuffix(host, suffix)
}

func policyNames(list []*Policy) []string {
	var out []string
	for _, p := range list {
		out = append(out, p.Name)
	}
	return out
}

// shared compiles policies of tenants: "tenant/name mode host...".
func shared(t testing.TB, policies ...string) *Snapshot {
	t.Helper()
	var set Set
	for _, line := range policies {
		fields := strings.Fields(line)
		tenant, _, _ := strings.Cut(fields[0], "/")
		source := Source{
			Name: fields[0], Tenant: tenant, Shadow: fields[1] == "Shadow", Pos: Position{File: fields[0]},
			API:             APISource{Routes: []RouteSource{{Method: Text{Text: "GET"}, Path: Text{Text: "/x"}, On: Text{Text: "a:b"}}}},
			Rules:           []RuleSource{{On: Text{Text: "*"}}},
			IdentityHeaders: []HeaderSource{{Name: Text{Text: "x-of-" + strings.ReplaceAll(fields[0], "/", "-")}, Value: Text{Text: "user.identity"}}},
		}
		for _, h := range fields[2:] {
			source.Hosts = append(source.Hosts, Text{Text: h})
		}
		set.Policies = append(set.Policies, source)
	}
	s, err := New(set, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A Shadow policy sees tokens and bodies: of what policies of its own tenant guard, and of nothing else.
func TestShadows_watch_what_their_own_tenant_guards(t *testing.T) {
	s := shared(t,
		"/all Enforce *", "/own Shadow *",
		"good/agents Enforce agents.test", "good/next Shadow agents.test", "good/wide Shadow *.test",
		"evil/mine Enforce mine.test *.mine.test", "evil/everything Shadow *", "evil/exact Shadow agents.test", "evil/below Shadow a.mine.test",
	)
	for host, want := range map[string][]string{
		"agents.test": {"good/next", "good/wide"}, "mine.test": {"evil/everything"}, "a.mine.test": {"evil/below", "evil/everything"}, "other.test": {"/own"},
	} {
		if got := policyNames(s.Shadows(host, s.Match(host, ""))); !slices.Equal(got, want) {
			t.Errorf("%s is watched by %v, want %v", host, got, want)
		}
	}
	if got := policyNames(s.Shadows("nobody.test", nil)); !slices.Equal(got, []string{"/own"}) {
		t.Errorf("what nobody guards is watched by %v, want the gate's own", got)
	}
	removed := func(name string) (out []string) {
		for _, h := range s.Match("", name).RemovedAlways() {
			if strings.HasPrefix(h, "x-of-") {
				out = append(out, h)
			}
		}
		return out
	}
	for name, want := range map[string][]string{
		"/all": {"x-of--own"}, "good/agents": {"x-of-good-next", "x-of-good-wide"}, "evil/mine": {"x-of-evil-below", "x-of-evil-everything"},
	} {
		if got := removed(name); !slices.Equal(got, want) {
			t.Errorf("%s removes %v, want %v", name, got, want)
		}
	}
	var idle []string
	for _, p := range s.Policies() {
		if p.Idle {
			idle = append(idle, p.Name)
		}
	}
	if !slices.Equal(idle, []string{"evil/exact"}) || len(s.Warnings()) != 1 || s.Warnings()[0].Pos.File != "evil/exact" {
		t.Errorf("idle: %v; warnings %v; want both of evil/exact", idle, s.Warnings())
	}
}

// Each side of 10,000 hosts is gone through once: pairs of them took 5 s.
func BenchmarkShadowsOfManyHosts(b *testing.B) {
	live, next := "/live Enforce", "/next Shadow"
	for i := range 10_000 {
		live += fmt.Sprintf(" a%d.test", i)
		next += fmt.Sprintf(" *.b%d", i)
	}
	for b.Loop() {
		shared(b, live, next)
	}
}

// A host that no Shadow policy watches pays nothing for those of others.
func TestShadows_of_other_hosts_cost_nothing(t *testing.T) {
	s := &Snapshot{shadows: map[string]*watchers{"": {}}}
	for i := range 1000 {
		s.shadows[""].add(&Policy{Name: fmt.Sprint(i), Shadow: true, hosts: []string{fmt.Sprintf("h%d.test", i), fmt.Sprintf("*.h%d.test", i)}})
	}
	if n := testing.AllocsPerRun(100, func() {
		if s.Shadows("agents.example.com", nil) != nil {
			t.Error("it is watched")
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkShadows(b *testing.B) {
	for _, n := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := &Snapshot{shadows: map[string]*watchers{"": {}}}
			for i := range n {
				s.shadows[""].add(&Policy{Name: fmt.Sprint(i), Shadow: true, hosts: []string{fmt.Sprintf("h%d.test", i), fmt.Sprintf("*.h%d.test", i)}})
			}
			b.ReportAllocs()
			for b.Loop() {
				s.Shadows("agents.example.com", nil)
			}
		})
	}
}
