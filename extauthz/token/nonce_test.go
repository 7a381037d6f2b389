package token

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/usher-authz/usher/extauthz/token/tokentest"
	"github.com/usher-authz/usher/policy"
)

func TestAProofNeedsTheNonceThatItIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := keyOf("ES256", 5)
		secret := []byte("0123456789abcdef0123456789abcdef")
		asks := func(c *Config) { c.Proof = ProofOfPossession{Nonces: true, NonceKey: secret} }
		j, token := bound(t, claims{"jkt": key.Thumbprint()}, asks)
		ask := func(j *JWT, nonce any) (*policy.Identity, error) {
			proof := tokentest.Proof(key, "GET", target, token, time.Now(), claims{"nonce": nonce}).String()
			return j.Verify(t.Context(), Credential{Scheme: "DPoP", Token: token, Proofs: []string{proof}, Method: "GET", URL: target})
		}
		told := func(nonce any) string {
			t.Helper()
			id, err := ask(j, nonce)
			var r *policy.Refusal
			if id != nil || !errors.As(err, &r) || r.Outcome != policy.Unauthenticated || r.Scheme != "DPoP" || r.Nonce == "" ||
				!strings.Contains(r.Challenge, `error="use_dpop_nonce"`) || !strings.Contains(r.Challenge, `algs="ES256 `) {
				t.Fatalf("nonce %v: got %v, %v", nonce, id, err)
			}
			return r.Nonce
		}
		passes := func(j *JWT, nonce string) {
			t.Helper()
			if _, err := ask(j, nonce); err != nil {
				t.Errorf("%v", err)
			}
		}
		nonce := told(nil)
		passes(j, nonce)
		passes(j, nonce) // of another proof
		replica, _ := bound(t, claims{}, func(c *Config) { c.Proof = ProofOfPossession{Nonces: true, NonceKey: secret} })
		replica.keys = j.keys
		passes(replica, nonce)

		stranger, err := newNonces(nil)
		if err != nil {
			t.Fatal(err)
		}
		spoiled := []byte(nonce)
		spoiled[31] ^= 1
		for _, bad := range []any{"", 1, []string{nonce}, nonce + "A", nonce[1:], string(spoiled), strings.Repeat("A", 32), stranger.current(time.Now()),
			j.proofs.nonces.at(1 << 62), j.proofs.nonces.at(-1)} {
			told(bad)
		}
		time.Sleep(4 * time.Minute)
		passes(j, nonce)
		time.Sleep(2 * time.Minute)
		if told(nonce) == nonce {
			t.Error("the same nonce again")
		}
	})
}

func TestABearerTokenIsRefusedWhereAProofIsRequired(t *testing.T) {
	p := tokentest.New(issuer, keyOf("ES256", 1))
	j := inline(t, p, func(c *Config) { c.Proof.Required = true })
	expect(t, j, bearer(p.Mint()), policy.Unauthenticated)
	key := keyOf("ES256", 5)
	token := p.Mint(claims{"cnf": claims{"jkt": key.Thumbprint()}})
	proof := tokentest.Proof(key, "GET", target, token, time.Now()).String()
	expect(t, j, Credential{Scheme: "DPoP", Token: token, Proofs: []string{proof}, Method: "GET", URL: target}, policy.Allow)
	expect(t, j, bearer(token), policy.Unauthenticated)
}

// FuzzNonces: only what was made here is good.
func FuzzNonces(f *testing.F) {
	n, err := newNonces([]byte("0123456789abcdef0123456789abcdef"))
	if err != nil {
		f.Fatal(err)
	}
	now := time.Unix(1_800_000_000, 0)
	made := map[string]bool{}
	for step := int64(-1); step < nonceSteps; step++ {
		text := n.at(now.Unix()/60 - step)
		made[text] = true
		f.Add(text)
	}
	f.Add("")
	f.Add(strings.Repeat("_", 32))
	f.Fuzz(func(t *testing.T, text string) {
		if n.good(text, now) != made[text] {
			t.Errorf("%q", text)
		}
	})
}
