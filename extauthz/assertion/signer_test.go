package assertion

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/usher-authz/usher/policy"
)

func newKey(t testing.TB, alg string) (policy.PrivateKey, any) {
	t.Helper()
	var private, public any
	if alg == "EdDSA" {
		p, k, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		private, public = k, p
	} else {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		private, public = k, &k.PublicKey
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), public
}

func text(s string) policy.Text { return policy.Text{Text: s} }

// policyOf compiles a policy whose assertion is changed by f.
func policyOf(t testing.TB, key policy.PrivateKey, f func(*policy.AssertionSource)) *policy.Policy {
	t.Helper()
	a := &policy.AssertionSource{
		Header: text("Usher-Assertion"), Issuer: "https://usher.test", Audience: "https://backend.test", Lifetime: time.Minute, Keys: []policy.PrivateKey{key},
		Claims: []policy.HeaderSource{{Name: text("scope"), Value: text(`user.permissions.join(" ")`)}, {Name: text("email"), Value: text("user.claims.?email.orValue(null)")}},
	}
	if f != nil {
		f(a)
	}
	snapshot, err := policy.New(policy.Set{Policies: []policy.Source{{
		Name: "p", Hosts: []policy.Text{text("*")}, Providers: []string{"i"},
		API:   policy.APISource{Routes: []policy.RouteSource{{Method: text("GET"), Path: text("/a"), On: text("a:read")}}},
		Rules: []policy.RuleSource{{On: text("a:read")}}, Assertion: a,
	}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return snapshot.Match("x", "")
}

func signerOf(t testing.TB, alg string, f func(*policy.AssertionSource)) (*Signer, any) {
	t.Helper()
	key, public := newKey(t, alg)
	s, err := New(policyOf(t, key, f))
	if err != nil {
		t.Fatal(err)
	}
	return s, public
}

func user(name string, expires time.Time) *policy.Identity {
	return &policy.Identity{Name: name, Permissions: []string{"read", "write"}, Claims: map[string]any{}, Expires: expires}
}

// open verifies an assertion, apart from the code that signs.
func open(t testing.TB, public any, token string) (header, claims map[string]any) {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("no compact token: %q", token)
	}
	var raw [3][]byte
	for i := range parts {
		raw[i], _ = base64.RawURLEncoding.Strict().DecodeString(parts[i])
	}
	sum, ok := sha256.Sum256([]byte(parts[0]+"."+parts[1])), false
	switch k := public.(type) {
	case ed25519.PublicKey:
		ok = ed25519.Verify(k, []byte(parts[0]+"."+parts[1]), raw[2])
	case *ecdsa.PublicKey:
		ok = len(raw[2]) == 64 && ecdsa.Verify(k, sum[:], new(big.Int).SetBytes(raw[2][:32]), new(big.Int).SetBytes(raw[2][32:]))
	}
	if !ok || json.Unmarshal(raw[0], &header) != nil || json.Unmarshal(raw[1], &claims) != nil {
		t.Fatal("a bad signature, or no JSON")
	}
	return header, claims
}

func headers(t testing.TB, s *Signer, id *policy.Identity) string {
	t.Helper()
	hs, err := s.Headers(id, []policy.Header{{Name: "x-user-id", Value: id.Name}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if len(hs) != 2 || hs[0] != (policy.Header{Name: "x-user-id", Value: id.Name}) || hs[1].Name != "usher-assertion" {
		t.Fatalf("headers %v", hs)
	}
	return hs[1].Value
}

func TestAnAssertionSaysWhoItIsAboutAndForWhom(t *testing.T) {
	for _, alg := range []string{"ES256", "EdDSA"} {
		t.Run(alg, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, public := signerOf(t, alg, nil)
				now := time.Now().Unix()
				header, claims := open(t, public, headers(t, s, user("alice", time.Now().Add(time.Hour))))
				if header["alg"] != alg || header["typ"] != "usher-assertion+jwt" || header["kid"] != KeyID(s.key) || len(header) != 3 {
					t.Errorf("header %v", header)
				}
				want := fmt.Sprint(map[string]any{
					"iss": "https://usher.test", "sub": "alice", "aud": "https://backend.test", "scope": "read write",
					"iat": float64(now), "nbf": float64(now), "exp": float64(now + 60),
				})
				if got := fmt.Sprint(claims); got != want { // email is null, and left out
					t.Errorf("claims %s, want %s", got, want)
				}
			})
		})
	}
}

func TestAnAssertionIsKeptUntilHalfOfItsLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, public := signerOf(t, "ES256", nil)
		alice := user("alice", time.Now().Add(time.Hour))
		first := headers(t, s, alice)
		time.Sleep(30*time.Second - 1)
		if headers(t, s, alice) != first {
			t.Error("signed anew before half of its lifetime")
		}
		time.Sleep(1)
		second := headers(t, s, alice)
		if second == first {
			t.Error("kept past half of its lifetime")
		}
		if _, claims := open(t, public, second); claims["exp"] != float64(time.Now().Unix()+60) {
			t.Errorf("claims %v", claims)
		}
		if got := testing.AllocsPerRun(100, func() { _, _ = s.Headers(alice, nil, time.Now()) }); got != 0 {
			t.Errorf("%v allocations for an assertion that is kept", got)
		}
	})
}

func TestAClockThatGoesBackMakesANewAssertion(t *testing.T) {
	s, public := signerOf(t, "ES256", nil)
	now := time.Now()
	alice := user("alice", now.Add(24*time.Hour))
	if _, err := s.Headers(alice, nil, now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	hs, err := s.Headers(alice, nil, now)
	if err != nil {
		t.Fatal(err)
	}
	if _, claims := open(t, public, hs[0].Value); claims["iat"] != float64(now.Unix()) {
		t.Errorf("claims %v", claims)
	}
}

func TestAnAssertionNeverOutlivesTheToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, public := signerOf(t, "EdDSA", nil)
		alice := user("alice", time.Now().Add(90*time.Second+500*time.Millisecond))
		end := float64(alice.Expires.Unix())
		made := map[string]bool{}
		for range 900 {
			value := headers(t, s, alice)
			made[value] = true
			_, claims := open(t, public, value)
			exp, _ := claims["exp"].(float64)
			if exp > end || exp <= float64(time.Now().Unix()) {
				t.Fatalf("exp %v at %v, the token's is %v", exp, time.Now().Unix(), end)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if len(made) > 3 {
			t.Errorf("%d signatures in 90 s", len(made))
		}
		// What remains of the token is less than a second, or its end is forgiven by the clock skew.
		for range 20 {
			_, err := s.Headers(alice, nil, time.Now())
			var r *policy.Refusal
			if !errors.As(err, &r) || r.Outcome != policy.Unauthenticated || !strings.Contains(r.Challenge, "invalid_token") {
				t.Fatalf("got %v", err)
			}
			time.Sleep(time.Second)
		}
	})
}

func TestNobodyGetsTheAssertionOfAnother(t *testing.T) {
	one, onePublic := signerOf(t, "ES256", nil)
	two, twoPublic := signerOf(t, "EdDSA", func(a *policy.AssertionSource) { a.Audience = "https://other.test" })
	end := time.Now().Add(time.Hour)
	// Two tokens of one user are two identities; a user of the same name may come from another provider.
	ids := []*policy.Identity{user("alice", end), user("bob", end), user("alice", end.Add(-30*time.Minute)), user("carol", end)}
	ids[2].Permissions = nil
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for n := range 200 {
				id := ids[n%len(ids)]
				for _, c := range []struct {
					s        *Signer
					public   any
					audience string
				}{{one, onePublic, "https://backend.test"}, {two, twoPublic, "https://other.test"}} {
					hs, err := c.s.Headers(id, nil, time.Now())
					if err != nil {
						t.Error(err)
						return
					}
					_, claims := open(t, c.public, hs[0].Value)
					if claims["sub"] != id.Name || claims["aud"] != c.audience || claims["scope"] != strings.Join(id.Permissions, " ") {
						t.Errorf("%s got %v", id.Name, claims)
					}
				}
			}
		})
	}
	group.Wait()
}

func TestTwoPoliciesKeepTheirAssertionsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, _ := signerOf(t, "ES256", nil)
		two, _ := signerOf(t, "ES256", nil)
		three, public := signerOf(t, "ES256", nil)
		alice := user("alice", time.Now().Add(time.Hour))
		a, b := headers(t, one, alice), headers(t, two, alice)
		for range 10 {
			if headers(t, one, alice) != a || headers(t, two, alice) != b {
				t.Fatal("signed anew")
			}
		}
		// A third one takes a place, and nothing grows; a new state's signer does not use an older one's.
		for range 10 {
			open(t, public, headers(t, three, alice))
			headers(t, one, alice)
			headers(t, two, alice)
		}
	})
}

func TestWhatCannotBeAssertedDoesNotPass(t *testing.T) {
	alice := user("alice", time.Now().Add(time.Hour))
	refused := func(s *Signer, id *policy.Identity) (*policy.Refusal, error) {
		hs, err := s.Headers(id, []policy.Header{{Name: "x"}}, time.Now())
		if hs != nil || err == nil {
			t.Errorf("got %v, %v", hs, err)
		}
		var r *policy.Refusal
		errors.As(err, &r)
		return r, err
	}
	for name, s := range map[string]*Signer{"no signer": nil, "the zero signer": {}} {
		if r, _ := refused(s, alice); r != nil {
			t.Errorf("%s is the client's fault: %v", name, r)
		}
	}
	missing, _ := signerOf(t, "ES256", func(a *policy.AssertionSource) { a.Claims[0].Value = text("user.claims.secret_claim") })
	if r, err := refused(missing, alice); r == nil || r.Outcome != policy.Forbidden || !strings.Contains(fmt.Sprint(r.Err), "assertion claim scope: no such key") {
		t.Errorf("got %v, %v", r, err)
	}
	infinite, _ := signerOf(t, "ES256", func(a *policy.AssertionSource) { a.Claims[0].Value = text("user.claims.one / 0.0") })
	alice.Claims["one"] = 1.5
	if r, err := refused(infinite, alice); r == nil || r.Outcome != policy.Forbidden {
		t.Errorf("got %v, %v", r, err)
	}
	s, public := signerOf(t, "ES256", nil)
	big := user("alice", time.Now().Add(time.Hour))
	big.Permissions = []string{strings.Repeat("p", MaxSize)}
	if r, err := refused(s, big); r == nil || r.Outcome != policy.Forbidden || strings.Contains(fmt.Sprint(r.Err), "pppp") {
		t.Errorf("got %v, %v", r, err)
	}
	for _, name := range []string{"a\r\nx-user-id: root", "\"},\"sub\":\"root", "日本", "<script>", strings.Repeat("n", 2000)} {
		if _, claims := open(t, public, headers(t, s, user(name, time.Now().Add(time.Hour)))); claims["sub"] != name {
			t.Errorf("sub %q, want %q", claims["sub"], name)
		}
	}
}

func TestKeysAreRotated(t *testing.T) {
	old, oldPublic := newKey(t, "ES256")
	next, nextPublic := newKey(t, "EdDSA")
	signer := func(keys ...policy.PrivateKey) *Signer {
		s, err := New(policyOf(t, old, func(a *policy.AssertionSource) { a.Keys = keys }))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	alice := user("alice", time.Now().Add(time.Hour))
	before, both, after := signer(old), signer(next, old), signer(next)
	open(t, oldPublic, headers(t, before, alice))
	open(t, nextPublic, headers(t, both, alice)) // the first signs, though one of the old key is kept
	open(t, nextPublic, headers(t, after, alice))
	for _, c := range []struct {
		s    []*Signer
		want int
	}{{[]*Signer{before}, 1}, {[]*Signer{both}, 2}, {[]*Signer{before, nil, both, after}, 2}, {nil, 0}} {
		text, err := KeySet(c.s...)
		if err != nil {
			t.Fatal(err)
		}
		var set struct{ Keys []map[string]string }
		if err := json.Unmarshal(text, &set); err != nil || len(set.Keys) != c.want || !strings.Contains(string(text), `"keys":[`) {
			t.Errorf("%d keys, want %d: %s", len(set.Keys), c.want, text)
		}
		for _, k := range set.Keys {
			if k["kid"] == "" || k["use"] != "sig" || k["alg"] == "" || k["d"] != "" {
				t.Errorf("published %v", k)
			}
		}
	}
}

func TestAPolicyThatCannotSignIsNotPutInForce(t *testing.T) {
	key, _ := newKey(t, "ES256")
	for name, f := range map[string]func(*policy.AssertionSource){
		"no_issuer":        func(a *policy.AssertionSource) { a.Issuer = "" },
		"no_audience":      func(a *policy.AssertionSource) { a.Audience = "" },
		"no_key":           func(a *policy.AssertionSource) { a.Keys = nil },
		"a_key_that_is_no": func(a *policy.AssertionSource) { a.Keys = []policy.PrivateKey{key, []byte("hunter2")} },
		"no_lifetime":      func(a *policy.AssertionSource) { a.Lifetime = 0 },
		"a_long_lifetime":  func(a *policy.AssertionSource) { a.Lifetime = time.Hour },
	} {
		t.Run(name, func(t *testing.T) {
			if s, err := New(policyOf(t, key, f)); s != nil || err == nil || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v, %v", s, err)
			}
		})
	}
}

func TestAPrivateKeyIsNeverShown(t *testing.T) {
	key, _ := newKey(t, "EdDSA")
	p := policyOf(t, key, nil)
	marshalled, _ := json.Marshal(p.Assertion())
	for _, shown := range []string{
		fmt.Sprintf("%v %+v %#v %s %x %q %d", key, key, key, key, key, key, key), fmt.Sprintf("%+v %#v %v", *p.Assertion(), p.Assertion().Keys, p.Assertion().Keys), string(marshalled),
	} {
		if strings.Contains(shown, "BEGIN") || strings.Contains(shown, "2d2d2d") || strings.Contains(shown, "45 45") || strings.Contains(shown, "LS0t") {
			t.Errorf("shown: %s", shown)
		}
	}
}

func BenchmarkHeaders(b *testing.B) {
	for _, alg := range []string{"ES256", "EdDSA"} {
		s, _ := signerOf(b, alg, nil)
		alice := user("alice", time.Now().Add(time.Hour))
		now := time.Now()
		b.Run(alg+"/kept", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Headers(alice, nil, now); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(alg+"/signed", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := s.sign(alice, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
