package extauthz

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"testing"
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
