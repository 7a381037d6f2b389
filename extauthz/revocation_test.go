package extauthz

import (
	"context"
	"crypto/rand"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"go.uber.org/zap"

	"github.com/usher-authz/usher/extauthz/revocation"
	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/policy"
)

// revokingServer has two policies of one provider, at deny.test and at allow.test, and none.test of another provider that
// has no list. Nothing listens where the list is.
func revokingServer(t testing.TB) (*Server, *State, *minter) {
	t.Helper()
	m := newMinter(t, "ES256")
	mapping, err := policy.NewMapping(policy.MappingSource{})
	if err != nil {
		t.Fatal(err)
	}
	text := func(s string) policy.Text { return policy.Text{Text: s} }
	source := func(name, provider string, mayLag bool) policy.Source {
		return policy.Source{
			Name: name, Hosts: []policy.Text{text(name + ".test")}, Providers: []string{provider}, RevocationMayLag: mayLag,
			API:   policy.APISource{Routes: []policy.RouteSource{{Method: text("GET"), Path: text("/items"), On: text("items:read")}}},
			Rules: []policy.RuleSource{{On: text("items:read")}},
		}
	}
	snapshot, err := policy.New(policy.Set{Policies: []policy.Source{source("deny", "listed", false), source("allow", "listed", true), source("none", "plain", false)}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	config := token.Config{Name: "listed", Issuer: testIssuer, Audiences: []string{"langgraph"}, JWKS: m.jwks(t), Identity: mapping, Fingerprint: rand.Text()}
	plain := config
	plain.Name, plain.Fingerprint = "plain", rand.Text()
	config.Revocation = &token.Revocation{URL: "redis://127.0.0.1:1"}
	state, err := Build(nil, snapshot, map[string]token.Config{"listed": config, "plain": plain}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := New(Options{Logger: zap.NewNop()})
	s.Swap(state)
	return s, state, m
}

func TestAListThatCannotBeReadIsWhatThePolicySays(t *testing.T) {
	s, state, m := revokingServer(t)
	good := m.mint(t, nil)
	expect := func(host string, want int) {
		t.Helper()
		if got := statusOf(do(t, s, askAt(host, good))); got != want {
			t.Errorf("%s: %d, want %d", host, got, want)
		}
	}
	for range 2 { // cold, warm
		expect("deny.test", 503)
		expect("allow.test", 200)
		expect("none.test", 200)
	}
	if state.Ready() {
		t.Error("ready, though deny.test can let nobody in")
	}

	// The process that could not tell all others acts on it itself, under either policy, and says that they may not know.
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := state.providers["listed"].revoked.Revoke(ctx, revocation.SUB, "alice", time.Now(), time.Hour); err == nil {
		t.Error("a list that nobody keeps took an entry")
	}
	expect("deny.test", 401)
	expect("allow.test", 401)
	expect("none.test", 200) // another provider's user of that name
}

// TestAChangedProviderForgetsNothing: what a process knows of a list outlives a change of the manifests, though the list's
// server may be gone, or have lost it.
func TestAChangedProviderForgetsNothing(t *testing.T) {
	s, state, m := revokingServer(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_ = state.providers["listed"].revoked.Revoke(ctx, revocation.SUB, "alice", time.Now(), time.Hour)
	mapping, err := policy.NewMapping(policy.MappingSource{})
	if err != nil {
		t.Fatal(err)
	}
	good := m.mint(t, nil)
	for _, c := range []struct {
		name, url, prefix string
		want              int
	}{
		{"another_password", "redis://127.0.0.1:1", "", 401},
		{"another_server", "redis://127.0.0.1:2", "", 401},
		{"another_list", "redis://127.0.0.1:1", "other:", 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := token.Config{Name: "listed", Issuer: testIssuer, Audiences: []string{"langgraph"}, JWKS: m.jwks(t), Identity: mapping, Fingerprint: rand.Text()}
			plain := config
			plain.Name, plain.Fingerprint = "plain", rand.Text()
			config.Revocation = &token.Revocation{URL: c.url, Prefix: c.prefix, Password: "new"}
			next, err := Build(state, state.Policies, map[string]token.Config{"listed": config, "plain": plain}, nil)
			if err != nil {
				t.Fatal(err)
			}
			s.Swap(next)
			if got := statusOf(do(t, s, askAt("allow.test", good))); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
	t.Run("another_name", func(t *testing.T) {
		config := token.Config{Name: "renamed", Issuer: testIssuer, Revocation: &token.Revocation{URL: "redis://127.0.0.1:1"}}
		list, err := state.revocations(state, config)
		if err != nil {
			t.Fatal(err)
		}
		if n := list.Status().Entries; n != 1 {
			t.Errorf("%d entries, want 1", n)
		}
	})
}

func TestRevocationCostsNothingWhereThereIsNone(t *testing.T) {
	_, state, _ := revokingServer(t)
	for p, g := range state.guards {
		if got, want := len(g.lists), map[string]int{"deny": 1, "allow": 1, "none": 0}[p.Name]; got != want {
			t.Errorf("%s: %d lists, want %d", p.Name, got, want)
		}
	}
	// Neither does a list allocate in the warm path: a check of a token costs the same with one.
	allocations := func(host string) float64 {
		s, _, m := revokingServer(t)
		c := askAt(host, m.mint(t, nil))
		if got := statusOf(do(t, s, c)); got != 200 {
			t.Fatalf("%s: %d", host, got)
		}
		wire := wireText(c)
		return testing.AllocsPerRun(200, func() { serve(s, wire) })
	}
	if without, with := allocations("none.test"), allocations("allow.test"); with > without {
		t.Errorf("%v allocations with a list, %v without", with, without)
	}
}

// BenchmarkRevoked is what a warm check does for revocation: without a list, and with one.
func BenchmarkRevoked(b *testing.B) {
	_, state, _ := revokingServer(b)
	id, now := &policy.Identity{Provider: "listed", Claims: claims(nil)}, time.Now()
	_ = state.providers["listed"].revoked.Revoke(b.Context(), revocation.SUB, "bob", now, time.Hour)
	for p, g := range state.guards {
		if p.Name == "deny" {
			continue
		}
		b.Run(map[string]string{"allow": "with_a_list", "none": "without"}[p.Name], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := g.revoked(id, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// askAt is a request for /items of a host, with a bearer token.
func askAt(host, text string) *authv3.CheckRequest {
	c := ask("GET", "/items", false, [2]string{"authorization", "Bearer " + text})
	c.GetAttributes().GetRequest().GetHttp().Host = host
	return c
}
