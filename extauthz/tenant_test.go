package extauthz

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"testing"
	"testing/synctest"
	"time"

	"github.com/usher-authz/usher/policy"
)

// Whose key is in the set that a backend trusts can write the assertions that it accepts.
func TestAssertion_keys_of_tenants_are_sets_of_their_own(t *testing.T) {
	text := func(s string) policy.Text { return policy.Text{Text: s} }
	var set policy.Set
	for _, p := range []struct{ name, tenant string }{{"usher/a", ""}, {"usher/b", ""}, {"good/a", "good"}, {"evil/a", "evil"}} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		set.Policies = append(set.Policies, policy.Source{
			Name: p.name, Tenant: p.tenant, Hosts: []policy.Text{text(p.name)},
			API:   policy.APISource{Routes: []policy.RouteSource{{Method: text("GET"), Path: text("/x"), On: text("a:b")}}},
			Rules: []policy.RuleSource{{On: text("*")}},
			Assertion: &policy.AssertionSource{
				Header: text("usher-assertion"), Issuer: "https://usher.test", Audience: "https://backend.test", Lifetime: time.Minute,
				Keys: []policy.PrivateKey{policy.PrivateKey(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))},
			},
		})
	}
	policies, err := policy.New(set, nil)
	if err != nil {
		t.Fatal(err)
	}
	state, err := NewState(policies, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	kids := func(name string) (out []string) {
		text := state.AssertionKeys(name)
		if text == nil {
			return nil
		}
		var set struct{ Keys []struct{ Kid string } }
		if err := json.Unmarshal(text, &set); err != nil {
			t.Fatal(err)
		}
		for _, k := range set.Keys {
			out = append(out, k.Kid)
		}
		return out
	}
	for name, want := range map[string][]string{
		"": {kids("usher/a")[0], kids("usher/b")[0]}, "good": kids("good/a"), "evil": kids("evil/a"), "usher": nil, "nobody": nil,
	} {
		got := kids(name)
		if len(got) != len(want) {
			t.Errorf("%q: %d keys, want %d", name, len(got), len(want))
			continue
		}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("%q: key %s, want %s", name, got[i], want[i])
			}
		}
	}
}

// Large bodies of one tenant's policies leave half of the room to the others, whatever its backends do meanwhile.
func TestLargeBodiesOfOneTenantTakeHalf(t *testing.T) {
	synctest.Test(t, largeBodiesOfOneTenantTakeHalf)
}

func largeBodiesOfOneTenantTakeHalf(t *testing.T) {
	s := New(Options{})
	admit := func(tenant string) (func(), error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		return s.admit(ctx, time.Now(), tenant, 4<<20)
	}
	var releases []func()
	for _, c := range []struct {
		tenant string
		admits bool
	}{{"a", true}, {"a", true}, {"a", false}, {"b", true}, {"", true}, {"", false}, {"c", false}} {
		release, err := admit(c.tenant)
		if (err == nil) != c.admits {
			t.Errorf("tenant %q: %v", c.tenant, err)
		}
		if err == nil {
			releases = append(releases, release)
		}
	}
	for _, release := range releases {
		release()
	}
	if !s.large.TryAcquire("", largeAtOnce) {
		t.Error("not all room was given back")
	}
}
