package token

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/usher-authz/usher/extauthz/token/tokentest"
	"github.com/usher-authz/usher/policy"
)

const target = "https://api.test/v1/items"

// bound is a token that is bound to the key, and its provider's verifier.
func bound(t testing.TB, cnf claims, change ...func(*Config)) (*JWT, string) {
	t.Helper()
	p := tokentest.New(issuer, keyOf("ES256", 1))
	return inline(t, p, change...), p.Mint(claims{"cnf": cnf, "exp": time.Now().Unix() + 3600})
}

func TestProofs(t *testing.T) {
	key, other := keyOf("ES256", 5), keyOf("ES256", 6)
	j, token := bound(t, claims{"jkt": key.Thumbprint()})
	now := time.Now()
	good := func() parts { return tokentest.Proof(key, "GET", target, token, now) }
	with := func(change claims) []string {
		return []string{tokentest.Proof(key, "GET", target, token, now, change).String()}
	}
	header := func(change claims) []string {
		p := good()
		p.Header = tokentest.With(p.Header, change)
		return []string{p.String()}
	}
	swapped := good()
	swapped.Key = other
	unsigned := good()
	unsigned.Header["alg"], unsigned.Key = "none", nil
	secret := good()
	secret.Header["alg"], secret.Header["jwk"] = "HS256", claims{"kty": "oct", "k": tokentest.Base64(make([]byte, 32))}
	secret.Key, secret.Alg = &tokentest.Key{Secret: make([]byte, 32)}, "HS256"
	one := good().String()
	cases := []struct {
		name   string
		scheme string
		proofs []string
		want   policy.Outcome
	}{
		{"a_good_proof", "DPoP", with(nil), policy.Allow},
		{"the_Bearer_scheme", "Bearer", nil, policy.Unauthenticated},
		{"the_Bearer_scheme_with_a_good_proof", "Bearer", with(nil), policy.Unauthenticated},
		{"no_proof", "DPoP", nil, policy.Unauthenticated},
		{"two_proofs", "DPoP", []string{one, one}, policy.Unauthenticated},
		{"two_proofs_joined", "DPoP", []string{one + "," + one}, policy.Unauthenticated},
		{"an_empty_proof", "DPoP", []string{""}, policy.Unauthenticated},
		{"another_method", "DPoP", with(claims{"htm": "POST"}), policy.Unauthenticated},
		{"a_method_in_lower_case", "DPoP", with(claims{"htm": "get"}), policy.Unauthenticated},
		{"another_path", "DPoP", with(claims{"htu": target + "/1"}), policy.Unauthenticated},
		{"only_a_prefix_of_the_URL", "DPoP", with(claims{"htu": "https://api.test/"}), policy.Unauthenticated},
		{"another_host", "DPoP", with(claims{"htu": "https://agents.test/v1/items"}), policy.Unauthenticated},
		{"a_host_behind_user_information", "DPoP", with(claims{"htu": "https://api.test@evil.test/v1/items"}), policy.Unauthenticated},
		{"another_scheme", "DPoP", with(claims{"htu": "http://api.test/v1/items"}), policy.Unauthenticated},
		{"no_htu", "DPoP", with(claims{"htu": nil}), policy.Unauthenticated},
		{"a_URL_with_a_query", "DPoP", with(claims{"htu": target + "?limit=5"}), policy.Allow},
		{"a_URL_with_default_port_in_capitals", "DPoP", with(claims{"htu": "HTTPS://API.test:443/v1/items"}), policy.Allow},
		{"another_tokens_ath", "DPoP", with(claims{"ath": tokentest.Base64(make([]byte, 32))}), policy.Unauthenticated},
		{"ath_missing", "DPoP", with(claims{"ath": nil}), policy.Unauthenticated},
		{"iat_an_hour_ago", "DPoP", with(claims{"iat": now.Unix() - 3600}), policy.Unauthenticated},
		{"iat_in_an_hour", "DPoP", with(claims{"iat": now.Unix() + 3600}), policy.Unauthenticated},
		{"iat_missing", "DPoP", with(claims{"iat": nil}), policy.Unauthenticated},
		{"iat_text", "DPoP", with(claims{"iat": fmt.Sprint(now.Unix())}), policy.Unauthenticated},
		{"jti_missing", "DPoP", with(claims{"jti": nil}), policy.Unauthenticated},
		{"jti_empty", "DPoP", with(claims{"jti": ""}), policy.Unauthenticated},
		{"jti_of_8000_bytes", "DPoP", with(claims{"jti": strings.Repeat("j", 8000)}), policy.Unauthenticated},
		{"jti_of_257_bytes", "DPoP", with(claims{"jti": strings.Repeat("j", 257)}), policy.Unauthenticated},
		{"another_key", "DPoP", []string{tokentest.Proof(other, "GET", target, token, now).String()}, policy.Unauthenticated},
		{"the_bound_key_but_anothers_signature", "DPoP", []string{swapped.String()}, policy.Unauthenticated},
		{"alg_none", "DPoP", []string{unsigned.String()}, policy.Unauthenticated},
		{"alg_HS256", "DPoP", []string{secret.String()}, policy.Unauthenticated},
		{"a_private_jwk", "DPoP", header(claims{"jwk": key.PrivateJWK()}), policy.Unauthenticated},
		{"no_jwk", "DPoP", header(claims{"jwk": nil}), policy.Unauthenticated},
		{"jwk_text", "DPoP", header(claims{"jwk": "x"}), policy.Unauthenticated},
		{"typ_JWT", "DPoP", header(claims{"typ": "JWT"}), policy.Unauthenticated},
		{"typ_missing", "DPoP", header(claims{"typ": nil}), policy.Unauthenticated},
		{"crit", "DPoP", header(claims{"crit": []string{"x"}, "x": 1}), policy.Unauthenticated},
		{"the_token_itself_as_proof", "DPoP", []string{token}, policy.Unauthenticated},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := j.Verify(t.Context(), Credential{Scheme: c.scheme, Token: token, Proofs: c.proofs, Method: "GET", URL: target})
			r, refused := err.(*policy.Refusal)
			switch {
			case c.want == policy.Allow && err != nil:
				t.Errorf("refused: %v", err)
			case c.want != policy.Allow && (!refused || r.Outcome != c.want):
				t.Errorf("got %v, want %v", err, c.want)
			case refused && r.Scheme == "DPoP" && !strings.HasPrefix(r.Challenge, `error="invalid_dpop_proof"`),
				refused && r.Scheme == "" && !strings.HasPrefix(r.Challenge, `error="invalid_token"`):
				t.Errorf("challenge %s %q", r.Scheme, r.Challenge)
			}
		})
	}
}

func TestEveryAsymmetricAlgorithmProves(t *testing.T) {
	for _, alg := range tokentest.Algorithms() {
		key := keyOf(alg, 7)
		if key.Secret != nil {
			continue
		}
		j, token := bound(t, claims{"jkt": key.Thumbprint()})
		c := Credential{Scheme: "DPoP", Token: token, Method: "GET", URL: target}
		c.Proofs = []string{tokentest.Proof(key, "GET", target, token, time.Now()).String()}
		expect(t, j, c, policy.Allow)
	}
}

func TestAnUnboundTokenIsRefusedUnderTheDPoPScheme(t *testing.T) {
	p := tokentest.New(issuer, keyOf("ES256", 1))
	token := p.Mint()
	proof := tokentest.Proof(keyOf("ES256", 5), "GET", target, token, time.Now()).String()
	expect(t, inline(t, p), Credential{Scheme: "DPoP", Token: token, Proofs: []string{proof}, Method: "GET", URL: target}, policy.Unauthenticated)
}

func TestAProofIsGoodOnce(t *testing.T) {
	key := keyOf("ES256", 5)
	now := time.Now()
	j, token := bound(t, claims{"jkt": key.Thumbprint()}, func(c *Config) { c.Now = func() time.Time { return now } })
	c := func(iat time.Time, change ...claims) Credential {
		return Credential{Scheme: "DPoP", Token: token, Method: "GET", URL: target, Proofs: []string{tokentest.Proof(key, "GET", target, token, iat, change...).String()}}
	}
	// Made in the middle of a generation, and as far ahead of our clock as may be, a proof stays good for longest: it must be
	// remembered for all of that.
	expect(t, j, c(now), policy.Allow)
	now = now.Add(70 * time.Second)
	late := c(now.Add(30 * time.Second))
	expect(t, j, late, policy.Allow)
	for range 25 {
		expect(t, j, late, policy.Unauthenticated)
		expect(t, j, c(now), policy.Allow) // others turn the generations
		now = now.Add(5 * time.Second)
	}
	// A jti again with another time is the same proof again.
	expect(t, j, c(now, claims{"jti": "x"}), policy.Allow)
	expect(t, j, c(now.Add(-time.Second), claims{"jti": "x"}), policy.Unauthenticated)
	now = now.Add(4 * time.Minute)
	expect(t, j, c(now, claims{"jti": "x"}), policy.Allow)
	if n := len(j.proofs.current) + len(j.proofs.previous); n != 1 {
		t.Errorf("%d proofs remembered", n)
	}
}

func TestProofsThatCannotBeRememberedAreOurOwnFault(t *testing.T) {
	p := newProofs(30 * time.Second)
	now := time.Now()
	thumbprint := func(n byte) []byte { sum := sha256.Sum256([]byte{n}); return sum[:] }
	user := func(n int) string { return fmt.Sprint("user ", n) }
	fill := func(n, proofs int) {
		t.Helper()
		for i := range proofs {
			if err := p.remember(thumbprint(byte(i)), fmt.Sprint(n, " ", i), user(n), now); err != nil {
				t.Fatal(n, i, err)
			}
		}
	}
	full := func(n int) {
		t.Helper()
		if got := outcome(nil, p.remember(thumbprint(1), "one more, whatever the key", user(n), now)); got != policy.Unavailable {
			t.Errorf("user %d: got %v", n, got)
		}
	}
	fill(0, maxUserProofs)
	full(0)
	flooders := sharedProofs / maxUserProofs
	for n := 1; n < flooders; n++ {
		fill(n, maxUserProofs) // another user has room
	}
	// Who flooded together have filled what is shared. All others still have a share of their own.
	quiet := (maxProofs - sharedProofs) / fairProofs
	for n := flooders; n < flooders+quiet; n++ {
		fill(n, fairProofs)
	}
	full(0)
	full(flooders)         // has used its share
	full(flooders + quiet) // no room at all
	if got := outcome(nil, p.remember(thumbprint(0), "0 0", user(0), now.Add(time.Minute))); got != policy.Unauthenticated {
		t.Errorf("got %v for a replay", got)
	}
	if err := p.remember(thumbprint(1), "later", user(0), now.Add(3*time.Minute)); err != nil {
		t.Error(err)
	}
}

func TestCertificates(t *testing.T) {
	mine, other := []byte("the DER of my certificate"), []byte("the DER of another")
	sum := sha256.Sum256(mine)
	x5t := tokentest.Base64(sum[:])
	key := keyOf("ES256", 5)
	for _, c := range []struct {
		name        string
		cnf         claims
		scheme      string
		certificate []byte
		proof       bool
		want        policy.Outcome
	}{
		{"the_right_one", claims{"x5t#S256": x5t}, "Bearer", mine, false, policy.Allow},
		{"none", claims{"x5t#S256": x5t}, "Bearer", nil, false, policy.Unauthenticated},
		{"an_empty_one", claims{"x5t#S256": x5t}, "Bearer", []byte{}, false, policy.Unauthenticated},
		{"another", claims{"x5t#S256": x5t}, "Bearer", other, false, policy.Unauthenticated},
		{"the_right_one_under_the_DPoP_scheme", claims{"x5t#S256": x5t}, "DPoP", mine, false, policy.Unauthenticated},
		{"a_thumbprint_in_hex", claims{"x5t#S256": fmt.Sprintf("%x", sum)}, "Bearer", mine, false, policy.Unauthenticated},
		{"a_thumbprint_with_padding", claims{"x5t#S256": x5t + "="}, "Bearer", mine, false, policy.Unauthenticated},
		{"a_thumbprint_that_is_no_text", claims{"x5t#S256": json.RawMessage("1")}, "Bearer", mine, false, policy.Unauthenticated},
		{"with_a_member_that_is_not_known", claims{"x5t#S256": x5t, "x": "y"}, "Bearer", mine, false, policy.Unauthenticated},
		{"both_bindings_and_both_met", claims{"x5t#S256": x5t, "jkt": key.Thumbprint()}, "DPoP", mine, true, policy.Allow},
		{"both_bindings_and_only_the_proof", claims{"x5t#S256": x5t, "jkt": key.Thumbprint()}, "DPoP", nil, true, policy.Unauthenticated},
		{"both_bindings_and_only_the_certificate", claims{"x5t#S256": x5t, "jkt": key.Thumbprint()}, "Bearer", mine, false, policy.Unauthenticated},
	} {
		t.Run(c.name, func(t *testing.T) {
			j, token := bound(t, c.cnf)
			credential := Credential{Scheme: c.scheme, Token: token, Certificate: c.certificate, Method: "GET", URL: target}
			if c.proof {
				credential.Proofs = []string{tokentest.Proof(key, "GET", target, token, time.Now()).String()}
			}
			expect(t, j, credential, c.want)
		})
	}
}
