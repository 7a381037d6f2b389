package token

import (
	"strings"
	"testing"
	"time"

	"github.com/usher-authz/usher/extauthz/token/tokentest"
	"github.com/usher-authz/usher/policy"
)

// FuzzToken changes a good token: nothing but the token itself is ever accepted, and nothing is our own fault.
func FuzzToken(f *testing.F) {
	p := tokentest.New(issuer, keyOf("ES256", 1), keyOf("EdDSA", 1))
	j := inline(f, p)
	good := p.Mint(claims{"exp": time.Now().Add(24 * time.Hour).Unix()})
	if got := verify(j, bearer(good)); got != policy.Allow {
		f.Fatal(got)
	}
	f.Add(0, 0, "")
	f.Add(10, 1, "A")
	f.Add(len(good)-1, 1, "\n")
	f.Add(strings.IndexByte(good, '.'), 1, "..")
	f.Add(0, len(good), good+good)
	f.Add(0, len(good), tokentest.Token{Header: claims{"alg": "none"}, Claims: p.Good()}.String())
	f.Add(0, len(good), `{"payload":"e30","signature":"AAAA"}`)
	f.Add(0, len(good), strings.Repeat(".", 100))
	f.Fuzz(func(t *testing.T, at, cut int, insert string) {
		if at < 0 || at > len(good) || cut < 0 || cut > len(good)-at {
			return
		}
		token := good[:at] + insert + good[at+cut:]
		want := policy.Unauthenticated
		if token == good {
			want = policy.Allow
		}
		if got := verify(j, bearer(token)); got != want {
			t.Errorf("got %v for %q", got, token)
		}
	})
}

// FuzzParts signs rightly what nobody would: header and claims are whatever text. It is accepted only if it reads as the
// very claims that it is checked for.
func FuzzParts(f *testing.F) {
	key := keyOf("EdDSA", 1)
	p := tokentest.New(issuer, key)
	j := inline(f, p)
	now := time.Now()
	j.now = func() time.Time { return now }
	f.Add(`{"alg":"EdDSA","kid":"EdDSA-1"}`, `{"iss":"https://idp.test","aud":"api","sub":"alice","exp":9999999999}`)
	f.Add(`{"alg":"EdDSA","kid":"EdDSA-1","crit":["exp"]}`, `{"iss":"https://idp.test","aud":["api"],"sub":"alice","exp":1e10}`)
	f.Add(`{"alg":"EdDSA"}`, `{"iss":"https://idp.test","aud":"api","sub":"alice","exp":9999999999,"sub":"root"}`)
	f.Add(`null`, `[1]`)
	f.Fuzz(func(t *testing.T, header, payload string) {
		token := tokentest.Sign(key, "EdDSA", []byte(header), []byte(payload))
		id, err := j.Verify(t.Context(), bearer(token))
		switch outcome(id, err) {
		case policy.Unauthenticated:
		case policy.Allow:
			h, herr := policy.ParseValue([]byte(header))
			c, cerr := policy.ParseValue([]byte(payload))
			if herr != nil || cerr != nil {
				t.Fatalf("accepted what is not strict JSON: %q %q", header, payload)
			}
			head, body := h.(map[string]any), c.(map[string]any)
			_, crit := head["crit"]
			if head["alg"] != "EdDSA" || crit || body["iss"] != issuer || body["sub"] != id.Name || body["cnf"] != nil || !id.Expires.Add(defaultSkew).After(now) {
				t.Fatalf("accepted %q %q", header, payload)
			}
		default:
			t.Fatalf("got %v for %q %q", err, header, payload)
		}
	})
}

// FuzzKeys reads JWK sets: whatever is in force afterwards can verify something, safely.
func FuzzKeys(f *testing.F) {
	p := tokentest.New(issuer, keyOf("ES256", 1), keyOf("ES512", 1), keyOf("EdDSA", 1), keyOf("RS256", 1))
	f.Add(p.Set())
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AA"},{"kty":"EC","crv":"P-256","x":"AA","y":"AA"},{"kty":"OKP","crv":"Ed25519","x":"AA"},null]}`))
	f.Add([]byte(`{"keys":[{"kty":"OKP","crv":"X25519","x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]}`))
	f.Fuzz(func(t *testing.T, set []byte) {
		keys, err := parseKeys(set)
		if err != nil && keys != nil {
			t.Fatal("keys and an error")
		}
		for _, k := range keys {
			if len(k.verifiers) == 0 || k.size < 64 || len(k.thumbprint) != 32 || k.fits("none") || k.fits("HS256") {
				t.Fatalf("%+v", k)
			}
			for alg := range k.verifiers {
				if k.verify(alg, []byte("input"), make([]byte, k.size)) {
					t.Fatalf("%s verifies zeros", alg)
				}
			}
		}
	})
}

// FuzzProof changes a good DPoP proof: nothing but the proof itself is accepted.
func FuzzProof(f *testing.F) {
	key := keyOf("ES256", 5)
	now := time.Now()
	j, token := bound(f, claims{"jkt": key.Thumbprint()}, func(c *Config) { c.Now = func() time.Time { return now } })
	good := tokentest.Proof(key, "GET", target, token, now).String()
	f.Add(0, 0, "")
	f.Add(5, 2, "AA")
	f.Add(len(good), 0, ","+good)
	f.Fuzz(func(t *testing.T, at, cut int, insert string) {
		if at < 0 || at > len(good) || cut < 0 || cut > len(good)-at {
			return
		}
		proof := good[:at] + insert + good[at+cut:]
		if proof == good {
			return
		}
		c := Credential{Scheme: "DPoP", Token: token, Proofs: []string{proof}, Method: "GET", URL: target}
		if got := verify(j, c); got != policy.Unauthenticated {
			t.Errorf("got %v for %q", got, proof)
		}
	})
}

// FuzzTarget compares URLs: equal ones have one origin and one path.
func FuzzTarget(f *testing.F) {
	f.Add(target)
	f.Add("HTTPS://API.test:443/v1/items?x#y")
	f.Add("https://api.test\\@evil.test/v1/items")
	f.Add("https://api.test:443:443/v1/items")
	f.Fuzz(func(t *testing.T, htu string) {
		if !sameTarget(htu, target) {
			return
		}
		text := strings.ToLower(htu)
		if i := strings.IndexAny(text, "?#"); i >= 0 {
			text = text[:i]
		}
		if text != target && text != strings.Replace(target, "api.test", "api.test:443", 1) {
			t.Errorf("%q is not %q", htu, target)
		}
	})
}
