package wycheproof

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/policy"
)

// raw are the files of bare signatures, and the algorithm that each is about.
var raw = []struct{ file, alg string }{
	{"ecdsa_secp256r1_sha256_p1363_test.json", "ES256"},
	{"ecdsa_secp384r1_sha384_p1363_test.json", "ES384"},
	{"ecdsa_secp521r1_sha512_p1363_test.json", "ES512"},
	{"ed25519_test.json", "EdDSA"},
	{"rsa_signature_2048_sha256_test.json", "RS256"},
	{"rsa_signature_2048_sha384_test.json", "RS384"},
	{"rsa_signature_2048_sha512_test.json", "RS512"},
	{"rsa_signature_3072_sha256_test.json", "RS256"},
	{"rsa_signature_4096_sha256_test.json", "RS256"},
	{"rsa_signature_8192_sha256_test.json", "RS256"},
	{"rsa_pss_2048_sha256_mgf1_32_test.json", "PS256"},
	{"rsa_pss_3072_sha256_mgf1_32_test.json", "PS256"},
	{"rsa_pss_4096_sha256_mgf1_32_test.json", "PS256"},
	{"rsa_pss_2048_sha384_mgf1_48_test.json", "PS384"},
	{"rsa_pss_4096_sha384_mgf1_48_test.json", "PS384"},
	{"rsa_pss_4096_sha512_mgf1_64_test.json", "PS512"},
}

// TestSignatures: what is valid verifies, what is invalid does not, and what is only acceptable (PKCS #1 without the NULL
// parameter) does not either.
func TestSignatures(t *testing.T) {
	for _, r := range raw {
		t.Run(strings.TrimSuffix(r.file, "_test.json"), func(t *testing.T) {
			valid := 0
			for _, g := range read(t, r.file).Groups {
				set := publicSet(t, g.PublicKeyPEM)
				for _, v := range g.Tests {
					want := v.Result == "valid"
					if want {
						valid++
					}
					if got := token.VerifySignature(set, r.alg, unhex(t, v.Msg), unhex(t, v.Sig)); got != want {
						t.Errorf("vector %d (%s, %v, %s): verified: %v", v.ID, v.Result, v.Flags, v.Comment, got)
					}
				}
			}
			if valid == 0 {
				t.Error("no vector is valid")
			}
		})
	}
}

// TestDERSignatures: JOSE writes r and s one after the other (RFC 7518, section 3.4); ASN.1 is refused, right or not.
func TestDERSignatures(t *testing.T) {
	for _, g := range read(t, "ecdsa_secp256r1_sha256_test.json").Groups {
		set := publicSet(t, g.PublicKeyPEM)
		for _, v := range g.Tests {
			if token.VerifySignature(set, "ES256", unhex(t, v.Msg), unhex(t, v.Sig)) {
				t.Errorf("vector %d (%s) is accepted", v.ID, v.Comment)
			}
		}
	}
}

// compact are the files of whole JWS and JWE.
var compact = []string{"json_web_signature_test.json", "json_web_key_test.json", "json_web_crypto_test.json", "json_web_encryption_test.json"}

// otherwise are vectors whose result is not Usher's, and why.
var otherwise = map[string]struct {
	accepted bool
	why      string
}{
	"json_web_signature/346": {false, "PS384 by a key whose alg is PS256"},
	"json_web_signature/347": {false, "ES512 by a key whose alg is ES521, which there is not"},
	"json_web_signature/350": {false, "PS384 by a key whose alg is PS256"},
	"json_web_signature/351": {false, "ES512 by a key whose alg is ES521, which there is not"},
	"json_web_signature/367": {true, "called invalid for its padding, and has none: byte for byte a token with a good signature"},
	"json_web_signature/370": {true, "the same token as 367"},
	"json_web_signature/372": {false, "called valid, with a question mark within the base64url of its header"},
	"json_web_signature/373": {false, "called valid, with a question mark within the base64url of its payload"},
	"json_web_crypto/48":     {false, "a set of secrets"},
	"json_web_key/2":         {false, "a set of secrets: a secret is configured, never published"},
	"json_web_key/13":        {false, "a set of secrets"},
	"json_web_key/14":        {false, "a set of secrets"},
	"json_web_key/15":        {false, "a set of secrets"},
}

// TestCompact: of the JWS, what is valid verifies and what is invalid does not, but for those named above; no JWE is read
// at all.
func TestCompact(t *testing.T) {
	seen := map[string]bool{}
	for _, name := range compact {
		t.Run(strings.TrimSuffix(name, "_test.json"), func(t *testing.T) {
			verified := 0
			for _, g := range read(t, name).Groups {
				set, secret := keysOf(t, g)
				for _, v := range g.Tests {
					id := fmt.Sprintf("%s/%d", strings.TrimSuffix(name, "_test.json"), v.ID)
					want := v.Result == "valid" && v.JWE == ""
					if other, ok := otherwise[id]; ok {
						if seen[id] = true; want == other.accepted {
							t.Errorf("vector %s stands among the exceptions, and is none", id)
						}
						want = other.accepted
					}
					_, err := token.VerifyJWS(set, secret, string(v.JWS+v.JWE))
					if got := err == nil; got != want {
						t.Errorf("vector %s (%s: %s, %s, %v): verified: %v (%v)", id, g.Comment, v.Comment, v.Result, v.Flags, got, err)
					}
					if want {
						verified++
					}
				}
			}
			if verified == 0 && name != "json_web_encryption_test.json" && name != "json_web_key_test.json" {
				t.Error("none is verified")
			}
		})
	}
	if len(seen) != len(otherwise) {
		t.Errorf("found %d of the %d exceptions", len(seen), len(otherwise))
	}
}

// TestNoneIsAToken: on the whole way of a token no vector passes, and each is refused as the client's fault, or as that of
// keys that cannot be used; none of them is a panic.
func TestNoneIsAToken(t *testing.T) {
	mapping, err := policy.NewMapping(policy.MappingSource{})
	if err != nil {
		t.Fatal(err)
	}
	config := func(set, secret []byte) token.Config {
		c := token.Config{Name: "w", Issuer: "https://wycheproof.test", Audiences: []string{"usher"}, JWKS: set, SharedSecret: secret, Identity: mapping}
		if secret != nil {
			c.Algorithms = []string{"HS256"}
		}
		return c
	}
	asked := 0
	ask := func(t *testing.T, set, secret []byte, text string) {
		verifier, err := token.New(config(set, secret))
		if err != nil {
			return // no key of the set may verify anything
		}
		asked++
		id, err := verifier.Verify(context.Background(), token.Credential{Scheme: "Bearer", Token: text})
		var refusal *policy.Refusal
		if id != nil || !errors.As(err, &refusal) || refusal.Outcome != policy.Unauthenticated {
			t.Errorf("%.60s...: identity %v, error %v", text, id != nil, err)
		}
	}
	for _, name := range compact {
		t.Run(strings.TrimSuffix(name, "_test.json"), func(t *testing.T) {
			for _, g := range read(t, name).Groups {
				set, secret := keysOf(t, g)
				for _, v := range g.Tests {
					ask(t, set, secret, string(v.JWS+v.JWE))
				}
			}
		})
	}
	encode := base64.RawURLEncoding.EncodeToString
	for _, r := range slices.Concat(raw, []struct{ file, alg string }{{"ecdsa_secp256r1_sha256_test.json", "ES256"}}) {
		t.Run(strings.TrimSuffix(r.file, "_test.json"), func(t *testing.T) {
			for _, g := range read(t, r.file).Groups {
				set := publicSet(t, g.PublicKeyPEM)
				for _, v := range g.Tests {
					ask(t, set, nil, encode([]byte(`{"alg":"`+r.alg+`"}`))+"."+encode(unhex(t, v.Msg))+"."+encode(unhex(t, v.Sig)))
				}
			}
		})
	}
	if asked < 2000 {
		t.Errorf("only %d vectors reached a verifier", asked)
	}
}
