package extauthz

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

type sampler struct {
	wants, panics bool
	seen          int
}

func (s *sampler) Wants() bool { return s.wants }

func (s *sampler) Observe(*Observation) {
	s.seen++
	if s.panics {
		panic("bug")
	}
}

// Shadow policies of other hosts, and a recorder that does not want the request, cost a warm check no allocation.
func TestWhat_does_not_watch_a_check_costs_it_nothing(t *testing.T) {
	text, err := os.ReadFile("testdata/shadow.yaml")
	if err != nil {
		t.Fatal(err)
	}
	docs := strings.Split(string(text), "\n---\n")
	live, shadow := docs[0], docs[2]
	var many []string
	for i := range 100 {
		other := strings.Replace(shadow, "name: stricter", fmt.Sprintf("name: s%d", i), 1)
		many = append(many, strings.Replace(other, "agents.test", fmt.Sprintf("h%d.test", i), 1))
	}
	m := newMinter(t, "ES256")
	one := asks(m.mint(t, map[string]any{"scope": "threads:write"}), "GET", "/threads/"+aliceThread, "")
	cost := func(manifests string, o Observer) float64 {
		file := filepath.Join(t.TempDir(), "policy.yaml")
		if err := os.WriteFile(file, []byte(manifests), 0o600); err != nil {
			t.Fatal(err)
		}
		s := conformanceServer(t, m, file, objects{})
		s.observer = o
		for name := range s.state.Load().Lookups {
			s.state.Load().Lookups[name] = &oneThread{}
		}
		if got := statusOf(do(t, s, one)); got != 200 {
			t.Fatalf("status %d", got)
		}
		wire := wireText(one)
		n := testing.AllocsPerRun(200, func() { serve(s, wire) })
		if counts := s.ShadowCounts(); len(counts) > 0 {
			t.Errorf("a Shadow policy of another host looked at it: %v", counts)
		}
		return n
	}
	plain := cost(live, nil)
	if got := cost(live+"\n---\n"+strings.Join(many, "\n---\n"), nil); got > plain {
		t.Errorf("with 100 Shadow policies of other hosts: %v allocations, and %v without", got, plain)
	}
	if got := cost(live, &sampler{}); got > plain {
		t.Errorf("with a recorder that does not want it: %v allocations, and %v without", got, plain)
	}
}

func TestA_panic_of_an_observer_leaves_the_answer_as_it_is(t *testing.T) {
	m := newMinter(t, "ES256")
	s := conformanceServer(t, m, "testdata/shadow.yaml", objects{})
	o := &sampler{wants: true, panics: true}
	s.observer = o
	if got := statusOf(do(t, s, asks("", "GET", "/ok", ""))); got != 200 || o.seen != 1 {
		t.Errorf("status %d, observed %d times", got, o.seen)
	}
	s.WaitShadows()
	if _, panics := s.Counts(); panics != 1 {
		t.Errorf("%d panics counted, want 1", panics)
	}
}
