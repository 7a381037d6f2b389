package attacktest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"
)

// loaded is the file, whose keys are made once.
var loaded = sync.OnceValues(func() (*Suite, error) {
	text, err := os.ReadFile("testdata/attacks.json")
	if err != nil {
		return nil, err
	}
	return Load(text)
})

// token is a minted token, taken apart by hand.
type token struct {
	minted
	lab      *lab
	segments []string
}

func (x token) key(name string) crypto.PublicKey {
	return x.lab.suite.keys.named[name].private.Public()
}

// signed reports whether the signature is right for header and payload as they stand, by the named key.
func (x token) signed(algorithm, key string) bool {
	input := []byte(x.segments[0] + "." + x.segments[1])
	signature, err := base64.RawURLEncoding.Strict().DecodeString(x.segments[2])
	return err == nil && verify(algorithm, x.key(key), input, signature)
}

// verify is a verification that shares nothing with the signing.
func verify(algorithm string, key crypto.PublicKey, input, signature []byte) bool {
	sum := sha256.Sum256(input)
	switch k := key.(type) {
	case *rsa.PublicKey:
		if algorithm == "PS256" {
			return rsa.VerifyPSS(k, crypto.SHA256, sum[:], signature, nil) == nil
		}
		return rsa.VerifyPKCS1v15(k, crypto.SHA256, sum[:], signature) == nil
	case *ecdsa.PublicKey:
		r, s := new(big.Int).SetBytes(signature[:len(signature)/2]), new(big.Int).SetBytes(signature[len(signature)/2:])
		return len(signature) == 64 && ecdsa.Verify(k, sum[:], r, s)
	case ed25519.PublicKey:
		return ed25519.Verify(k, input, signature)
	}
	return false
}

func (x token) member(t *testing.T, text []byte, name string) any {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal(text, &object); err != nil {
		t.Fatal(err)
	}
	return object[name]
}

func mintCase(t *testing.T, id, name string) token {
	t.Helper()
	s, err := loaded()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(s.Cases, func(c *Case) bool { return c.ID == id })
	if i < 0 {
		t.Fatalf("no case %s", id)
	}
	c := s.Cases[i]
	x := token{lab: &lab{suite: s, urls: MemoryURLs()}}
	vars := &variables{request: c.Request}
	x.lab.made = func(m minted) { x.minted = m }
	x.lab.vars = func(name string) (string, error) { return vars.value(x.lab, c, name) }
	text, err := x.lab.fill("{{" + name + "}}")
	if err != nil {
		t.Fatal(err)
	}
	if x.text != text {
		t.Fatalf("minted %q, got %q", x.text, text)
	}
	x.segments = strings.Split(text, ".")
	return x
}

// An attack that is refused for another fault than its own shows nothing: each token has its fault, and no other.
func TestTokensHaveTheirFaultAndNoOther(t *testing.T) {
	for _, c := range []struct {
		id   string
		good func(t *testing.T, x token) bool
	}{
		{"ctl-01-good-rs256", func(_ *testing.T, x token) bool { return x.signed("RS256", "a1") }},
		{"ctl-02-good-es256", func(_ *testing.T, x token) bool { return x.signed("ES256", "a2") }},
		{"ctl-03-good-eddsa", func(_ *testing.T, x token) bool { return x.signed("EdDSA", "a3") }},
		{"ctl-06-exp-fraction", func(_ *testing.T, x token) bool {
			return x.signed("RS256", "a1") && strings.Contains(string(x.claims), ".5,")
		}},
		{"alg-02-none-mixed-case", func(t *testing.T, x token) bool {
			return x.member(t, x.header, "alg") == "nOnE" && x.segments[2] == ""
		}},
		{"alg-03-none-with-signature", func(_ *testing.T, x token) bool { return x.signed("RS256", "a1") }},
		{"alg-04-none-no-trailing-dot", func(_ *testing.T, x token) bool { return len(x.segments) == 2 }},
		{"alg-05-hs256-rsa-pem", func(_ *testing.T, x token) bool {
			secret, err := x.lab.suite.keys.form("a1", "$spki_pem")
			mac := hmac.New(sha256.New, secret)
			mac.Write([]byte(x.segments[0] + "." + x.segments[1]))
			return err == nil && bytes.HasPrefix(secret, []byte("-----BEGIN PUBLIC KEY-----\n")) && b64u(mac.Sum(nil)) == x.segments[2]
		}},
		{"alg-13-key-alg-ps256", func(_ *testing.T, x token) bool { return x.signed("PS256", "a1") }},
		{"alg-17-alg-missing", func(t *testing.T, x token) bool {
			return x.member(t, x.header, "alg") == nil && x.signed("RS256", "a1")
		}},
		{"alg-19-alg-null", func(_ *testing.T, x token) bool {
			return strings.Contains(string(x.header), `"alg":null`) && x.signed("RS256", "a1")
		}},
		{"alg-20-alg-duplicate-none-first", func(_ *testing.T, x token) bool {
			return strings.HasPrefix(string(x.header), `{"alg":"none","alg":"RS256"`) && x.signed("RS256", "a1")
		}},
		{"sig-01-bit-flip", func(_ *testing.T, x token) bool {
			signature, _ := base64.RawURLEncoding.DecodeString(x.segments[2])
			signature[0] ^= 0x04
			return verify("RS256", x.key("a1"), []byte(x.segments[0]+"."+x.segments[1]), signature)
		}},
		{"sig-02-last-bit-flip", func(_ *testing.T, x token) bool {
			signature, _ := base64.RawURLEncoding.DecodeString(x.segments[2])
			signature[255] ^= 0x01
			return verify("RS256", x.key("a1"), []byte(x.segments[0]+"."+x.segments[1]), signature)
		}},
		{"sig-05-rsa-leading-zero", func(_ *testing.T, x token) bool {
			return len(x.signature) == 257 && verify("RS256", x.key("a1"), []byte(x.input), x.signature[1:])
		}},
		{"sig-10-es256-der", func(_ *testing.T, x token) bool {
			sum := sha256.Sum256([]byte(x.input))
			return ecdsa.VerifyASN1(x.key("a2").(*ecdsa.PublicKey), sum[:], x.signature)
		}},
		{"sig-11-es256-padded", func(_ *testing.T, x token) bool {
			return len(x.signature) == 66 && x.signature[0] == 0 && x.signature[33] == 0 &&
				verify("ES256", x.key("a2"), []byte(x.input), slices.Concat(x.signature[1:33], x.signature[34:]))
		}},
		{"sig-14-eddsa-noncanonical", func(_ *testing.T, x token) bool {
			order, _ := new(big.Int).SetString("1000000000000000000000000000000014def9dea2f79cd65812631a5cf5d3ed", 16)
			s := slices.Clone(x.signature[32:])
			slices.Reverse(s)
			n := new(big.Int).Sub(new(big.Int).SetBytes(s), order)
			canonical := n.FillBytes(make([]byte, 32))
			slices.Reverse(canonical)
			return n.Sign() >= 0 && verify("EdDSA", x.key("a3"), []byte(x.input), slices.Concat(x.signature[:32], canonical))
		}},
		{"sig-16-payload-swapped", func(t *testing.T, x token) bool {
			return x.member(t, x.claims, "sub") == "bob" && !x.signed("RS256", "a1") && verify("RS256", x.key("a1"), []byte(x.input), x.signature)
		}},
		{"sig-17-attacker-key", func(_ *testing.T, x token) bool { return x.signed("RS256", "evil") }},
		{"sig-18-rs256-sha1-digest", func(_ *testing.T, x token) bool {
			sum := sha1.Sum([]byte(x.input))
			return rsa.VerifyPKCS1v15(x.key("a1").(*rsa.PublicKey), crypto.SHA1, sum[:], x.signature) == nil
		}},
		{"ser-02-padding-signature", func(_ *testing.T, x token) bool {
			signature, err := base64.URLEncoding.DecodeString(x.segments[2])
			return err == nil && strings.HasSuffix(x.text, "==") && verify("RS256", x.key("a1"), []byte(x.input), signature)
		}},
		{"ser-03-standard-alphabet", func(_ *testing.T, x token) bool {
			signature, err := base64.RawStdEncoding.DecodeString(x.segments[2])
			return err == nil && strings.ContainsAny(x.segments[2], "+/") && verify("RS256", x.key("a1"), []byte(x.input), signature)
		}},
		{"ser-04-dirty-bits", func(_ *testing.T, x token) bool {
			loose, err := base64.RawURLEncoding.DecodeString(x.segments[2])
			_, strict := base64.RawURLEncoding.Strict().DecodeString(x.segments[2])
			return err == nil && strict != nil && verify("RS256", x.key("a1"), []byte(x.input), loose)
		}},
		{"ser-05-dirty-bits-header", func(_ *testing.T, x token) bool {
			loose, err := base64.RawURLEncoding.DecodeString(x.segments[0])
			_, strict := base64.RawURLEncoding.Strict().DecodeString(x.segments[0])
			return err == nil && strict != nil && bytes.Equal(loose, x.header)
		}},
		{"ser-06-newline-in-payload", func(_ *testing.T, x token) bool {
			clean := strings.Replace(x.text, "\n", "", 1)
			return x.segments[1][8] == '\n' && clean == x.input+"."+b64u(x.signature)
		}},
		{"ser-11-leading-dot", func(_ *testing.T, x token) bool { return x.text[0] == '.' && len(x.segments) == 4 }},
		{"ser-12-json-flattened", func(t *testing.T, x token) bool {
			return x.member(t, []byte(x.text), "protected").(string)+"."+x.member(t, []byte(x.text), "payload").(string) == x.input
		}},
		{"ser-13-json-general-two-signatures", func(t *testing.T, x token) bool {
			return len(x.member(t, []byte(x.text), "signatures").([]any)) == 2
		}},
		{"ser-18-huge-token", func(_ *testing.T, x token) bool { return len(x.text) > 74000 && x.signed("RS256", "a1") }},
		{"ser-19-detached-payload", func(_ *testing.T, x token) bool { return x.segments[1] == "" && len(x.segments) == 3 }},
		{"ser-20-b64-false", func(_ *testing.T, x token) bool {
			return x.segments[1] == `{"x":1}` && x.signed("RS256", "a1")
		}},
		{"jsn-04-payload-empty", func(_ *testing.T, x token) bool { return x.segments[1] == "" && x.signed("RS256", "a1") }},
		{"jsn-05-payload-bom", func(_ *testing.T, x token) bool {
			return bytes.HasPrefix(x.claims, []byte{0xef, 0xbb, 0xbf, '{'}) && x.signed("RS256", "a1")
		}},
		{"jsn-06-payload-utf16", func(_ *testing.T, x token) bool {
			return bytes.HasPrefix(x.claims, []byte{'{', 0, '"', 0}) && x.signed("RS256", "a1")
		}},
		{"jsn-08-payload-invalid-utf8", func(_ *testing.T, x token) bool {
			return !utf8.Valid(x.claims) && json.Valid(x.claims) && x.signed("RS256", "a1")
		}},
		{"jsn-09-duplicate-sub", func(_ *testing.T, x token) bool {
			return strings.Count(string(x.claims), `"sub":`) == 2 && x.signed("RS256", "a1")
		}},
		{"jsn-13-nested-3000", func(_ *testing.T, x token) bool {
			return strings.Contains(string(x.claims), strings.Repeat("[", 3000)+strings.Repeat("]", 3000)) && x.signed("RS256", "a1")
		}},
		{"iss-11-iss-upper-host", func(_ *testing.T, x token) bool {
			return strings.Contains(string(x.claims), "HTTPS://ISSUER-A.TEST") && x.signed("RS256", "a1")
		}},
		{"tim-09-exp-overflow-float", func(_ *testing.T, x token) bool {
			return strings.Contains(string(x.claims), `"exp":1e400`) && x.signed("RS256", "a1")
		}},
		{"typ-07-nested-jwt", func(_ *testing.T, x token) bool {
			return strings.Count(string(x.claims), ".") == 2 && x.signed("RS256", "a1")
		}},
		{"kid-06-jwk-embedded", func(t *testing.T, x token) bool {
			jwk := x.member(t, x.header, "jwk").(map[string]any)
			return jwk["kty"] == "RSA" && jwk["d"] == nil && x.member(t, x.header, "kid") == nil && x.signed("RS256", "evil")
		}},
		{"kid-08-x5c-embedded", func(_ *testing.T, x token) bool { return x.signed("RS256", "client1") }},
		{"jwk-20-rsa-exponent-1", func(_ *testing.T, x token) bool {
			sum := sha256.Sum256([]byte(x.input))
			return len(x.signature) == 256 && bytes.HasPrefix(x.signature, []byte{0, 1, 0xff}) && bytes.HasSuffix(x.signature, sum[:])
		}},
		{"cnf-19-private-jwk", func(t *testing.T, x token) bool {
			return x.member(t, x.header, "jwk").(map[string]any)["d"] != nil && x.signed("ES256", "dpop1")
		}},
	} {
		t.Run(c.id, func(t *testing.T) {
			name := "token"
			if strings.HasPrefix(c.id, "cnf-19") {
				name = "proof"
			}
			if x := mintCase(t, c.id, name); !c.good(t, x) {
				t.Errorf("header %s\nclaims %s\ntoken %s", short(string(x.header)), short(string(x.claims)), short(x.text))
			}
		})
	}
}

// A proof says what RFC 9449, section 4.2, asks of it, about the case's own request and token.
func TestProofIsForItsRequest(t *testing.T) {
	x := mintCase(t, "cnf-12-query-ignored", "proof")
	access := x.lab.caseToken
	thumbprint := x.member(t, access.claims, "cnf").(map[string]any)["jkt"]
	jwk := x.member(t, x.header, "jwk").(map[string]any)
	public := x.key("dpop1").(*ecdsa.PublicKey)
	point, err := public.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	canonical := sha256.Sum256([]byte(`{"crv":"P-256","kty":"EC","x":"` + b64u(point[1:33]) + `","y":"` + b64u(point[33:]) + `"}`))
	ath := sha256.Sum256([]byte(access.text))
	for _, c := range []struct {
		name      string
		got, want any
	}{
		{"htm", x.member(t, x.claims, "htm"), "GET"},
		{"htu", x.member(t, x.claims, "htu"), "https://api.test/v1/items"},
		{"ath", x.member(t, x.claims, "ath"), b64u(ath[:])},
		{"jwk", jwk["x"], b64u(point[1:33])},
		{"jkt", thumbprint, b64u(canonical[:])},
		{"signature", x.signed("ES256", "dpop1"), true},
	} {
		if c.got != c.want {
			t.Errorf("%s is %v, expected %v", c.name, c.got, c.want)
		}
	}
}
