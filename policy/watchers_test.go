package policy

import (
	"fmt"
	"slices"
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
	s := &Snapshot{shadows: w}
	for _, host := range []string{"example.com", "a.example.com", "b.example.com", "c.b.example.com", "xexample.com", "com", "other.test", "[::1]", ""} {
		var want []*Policy
		for _, p := range all {
			if slices.ContainsFunc(p.hosts, func(pattern string) bool { return coversAny(pattern, []string{host}) }) {
				want = append(want, p)
			}
		}
		for range 2 { // what was returned shares nothing with what is returned next
			if got := s.Shadows(host); !slices.Equal(got, want) {
				t.Errorf("%q: got %v, want %v", host, policyNames(got), policyNames(want))
			}
		}
	}
	if got := (&Snapshot{}).Shadows("a.example.com"); got != nil {
		t.Errorf("without Shadow policies: %v", got)
	}
}

func policyNames(list []*Policy) []string {
	var out []string
	for _, p := range list {
		out = append(out, p.Name)
	}
	return out
}

// A host that no Shadow policy watches pays nothing for those of others.
func TestShadows_of_other_hosts_cost_nothing(t *testing.T) {
	s := &Snapshot{}
	for i := range 1000 {
		s.shadows.add(&Policy{Name: fmt.Sprint(i), Shadow: true, hosts: []string{fmt.Sprintf("h%d.test", i), fmt.Sprintf("*.h%d.test", i)}})
	}
	if n := testing.AllocsPerRun(100, func() {
		if s.Shadows("agents.example.com") != nil {
			t.Error("it is watched")
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkShadows(b *testing.B) {
	for _, n := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := &Snapshot{}
			for i := range n {
				s.shadows.add(&Policy{Name: fmt.Sprint(i), Shadow: true, hosts: []string{fmt.Sprintf("h%d.test", i), fmt.Sprintf("*.h%d.test", i)}})
			}
			b.ReportAllocs()
			for b.Loop() {
				s.Shadows("agents.example.com")
			}
		})
	}
}
