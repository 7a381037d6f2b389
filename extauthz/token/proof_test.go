package token

import (
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/usher-authz/usher/extauthz/token/tokentest"
	"github.com/usher-authz/usher/policy"
)

// A proof is for one URL, whose spelling counts but for what RFC 9449, section 4.3, check 9, lets differ.
func TestAProofIsForOneURL(t *testing.T) {
	for _, c := range []struct {
		name, htu, url string
		want           bool
	}{
		{"the same", "https://api.test/v1/items", "https://api.test/v1/items", true},
		{"its default port", "https://api.test:443/v1", "https://api.test/v1", true},
		{"the other's default port", "https://api.test/v1", "https://api.test:443/v1", true},
		{"http and its default port", "http://api.test:80/v1", "http://api.test/v1", true},
		{"capitals in scheme and host", "HTTPS://API.Test/v1", "https://api.test/v1", true},
		{"a query", "https://api.test/v1?a=b", "https://api.test/v1", true},
		{"a fragment", "https://api.test/v1#a", "https://api.test/v1", true},
		{"no path for the root", "https://api.test", "https://api.test/", true},
		{"an IPv6 address", "https://[2001:DB8::1]:443/v1", "https://[2001:db8::1]/v1", true},
		{"the default port of the other scheme", "https://api.test:80/v1", "https://api.test/v1", false},
		{"another port", "https://api.test:8443/v1", "https://api.test/v1", false},
		{"no port where there is one", "https://api.test/v1", "https://api.test:8443/v1", false},
		{"an empty port", "https://api.test:/v1", "https://api.test/v1", false},
		{"the port twice", "https://api.test:443:443/v1", "https://api.test/v1", false},
		{"another scheme", "http://api.test/v1", "https://api.test/v1", false},
		{"a scheme that is not the web's", "wss://api.test/v1", "wss://api.test/v1", false},
		{"no scheme", "//api.test/v1", "https://api.test/v1", false},
		{"no host", "https:///v1", "https://api.test/v1", false},
		{"only the path", "/v1", "https://api.test/v1", false},
		{"a slash at the end", "https://api.test/v1/", "https://api.test/v1", false},
		{"capitals in the path", "https://api.test/V1", "https://api.test/v1", false},
		{"an escape", "https://api.test/%76%31", "https://api.test/v1", false},
		{"an escape in capitals", "https://api.test/%2A", "https://api.test/%2a", false},
		{"an escaped slash", "https://api.test/v1%2Fitems", "https://api.test/v1/items", false},
		{"a space for its escape", "https://api.test/a b", "https://api.test/a%20b", false},
		{"a letter for its escape", "https://api.test/é", "https://api.test/%C3%A9", false},
		{"a dot segment", "https://api.test/x/../v1", "https://api.test/v1", false},
		{"two slashes", "https://api.test//v1", "https://api.test/v1", false},
		{"a backslash", `https://api.test\v1`, "https://api.test/v1", false},
		{"user information", "https://api.test@evil.test/v1", "https://api.test/v1", false},
		{"user information before the host", "https://a@api.test/v1", "https://api.test/v1", false},
		{"a longer host", "https://api.test.evil.test/v1", "https://api.test/v1", false},
		{"a final dot", "https://api.test./v1", "https://api.test/v1", false},
		{"a letter that folds to one of the host", "https://\u212aeys.test/v1", "https://keys.test/v1", false},
		{"an escaped host", "https://%61pi.test/v1", "https://api.test/v1", false},
		{"a line break", "https://api.test/v1\n", "https://api.test/v1", false},
		{"a NUL", "https://api.test/v1\x00", "https://api.test/v1", false},
		{"a space before it", " https://api.test/v1", "https://api.test/v1", false},
		{"nothing", "", "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := sameTarget(c.htu, c.url); got != c.want {
				t.Errorf("%q for %q: %v", c.htu, c.url, got)
			}
		})
	}
}

// Keys that prove nothing, or that cannot sign: a token is bound to each, so that the thumbprint is right.
func TestKeysThatProveNothing(t *testing.T) {
	number := func(n *big.Int) string { return tokentest.Base64(n.Bytes()) }
	short, err := rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // that is the case
	if err != nil {
		t.Fatal(err)
	}
	agreement, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ec := keyOf("ES256", 5)
	jwk := func(change claims) claims {
		return tokentest.With(ec.JWK(), claims{"kid": nil, "alg": nil, "use": nil}, change)
	}
	rsaJWK := claims{"kty": "RSA", "n": number(short.N), "e": "AQAB"}
	x25519 := claims{"kty": "OKP", "crv": "X25519", "x": tokentest.Base64(agreement.PublicKey().Bytes())}
	for _, c := range []struct {
		name, alg string
		jwk       any
		members   []string // of the thumbprint (RFC 7638, section 3.2)
		key       *tokentest.Key
	}{
		{"RSA_of_1024_bits", "RS256", rsaJWK, []string{"e", "kty", "n"}, nil},
		{"a_key_for_agreement", "EdDSA", x25519, []string{"crv", "kty", "x"}, nil},
		{"a_key_for_encryption", "ES256", jwk(claims{"use": "enc"}), []string{"crv", "kty", "x", "y"}, ec},
		{"a_key_that_may_only_derive", "ES256", jwk(claims{"key_ops": []string{"deriveKey"}}), []string{"crv", "kty", "x", "y"}, ec},
		{"a_key_of_another_alg", "ES256", jwk(claims{"alg": "ES384"}), []string{"crv", "kty", "x", "y"}, ec},
		{"a_private_key", "ES256", tokentest.With(ec.PrivateJWK(), claims{"kid": nil, "alg": nil, "use": nil}), []string{"crv", "kty", "x", "y"}, ec},
		{"a_key_with_a_secret", "ES256", jwk(claims{"k": "AA"}), []string{"crv", "kty", "x", "y"}, ec},
		{"a_list_of_keys", "ES256", []any{jwk(nil)}, nil, ec},
		{"no_key", "ES256", claims{}, nil, ec},
	} {
		t.Run(c.name, func(t *testing.T) {
			thumbprint := ec.Thumbprint()
			if members, ok := c.jwk.(claims); ok && c.members != nil {
				required := claims{}
				for _, name := range c.members {
					required[name] = members[name]
				}
				text, err := json.Marshal(required) // sorted, without spaces
				if err != nil {
					t.Fatal(err)
				}
				sum := sha256.Sum256(text)
				thumbprint = tokentest.Base64(sum[:])
			}
			j, token := bound(t, claims{"jkt": thumbprint})
			p := tokentest.Proof(ec, "GET", target, token, time.Now())
			p.Header["jwk"], p.Header["alg"] = c.jwk, c.alg
			proof := p.String()
			if c.key == nil { // signed by it, or with as many bytes
				signature := make([]byte, 64)
				if c.alg == "RS256" {
					input := proof[:strings.LastIndexByte(proof, '.')]
					sum := sha256.Sum256([]byte(input))
					if signature, err = rsa.SignPKCS1v15(rand.Reader, short, crypto.SHA256, sum[:]); err != nil {
						t.Fatal(err)
					}
				}
				proof = proof[:strings.LastIndexByte(proof, '.')+1] + tokentest.Base64(signature)
			}
			expect(t, j, Credential{Scheme: "DPoP", Token: token, Proofs: []string{proof}, Method: "GET", URL: target}, policy.Unauthenticated)
		})
	}
}

// What is odd about a proof as a whole.
func TestProofsThatAreNoProofs(t *testing.T) {
	key := keyOf("ES256", 5)
	j, token := bound(t, claims{"jkt": key.Thumbprint()})
	good := func() tokentest.Token { return tokentest.Proof(key, "GET", target, token, time.Now()) }
	header := func(change claims) string {
		p := good()
		p.Header = tokentest.With(p.Header, change)
		return p.String()
	}
	ask := func(proofs ...string) policy.Outcome {
		return verify(j, Credential{Scheme: "DPoP", Token: token, Proofs: proofs, Method: "GET", URL: target})
	}
	for name, proofs := range map[string][]string{
		"of_a_megabyte":                    {good().String() + strings.Repeat("A", 1<<20)},
		"with_a_claim_of_a_megabyte":       {tokentest.Proof(key, "GET", target, token, time.Now(), claims{"x": strings.Repeat("a", 1<<20)}).String()},
		"of_a_megabyte_of_dots":            {strings.Repeat(".", 1<<20)},
		"with_b64_false":                   {header(claims{"b64": false})},
		"with_b64_false_that_is_crit":      {header(claims{"b64": false, "crit": []string{"b64"}})},
		"with_an_empty_crit":               {header(claims{"crit": []string{}})},
		"with_typ_as_a_media_type_and_txt": {header(claims{"typ": "dpop+jwt;a"})},
		"with_cty_jwt":                     {header(claims{"cty": "JWT"})},
		"nested_in_spaces":                 {" " + good().String()},
		"in_quotes":                        {`"` + good().String() + `"`},
		"thousand":                         make([]string, 1000),
		"a_good_one_and_an_empty_one":      {good().String(), ""},
		"padded":                           {good().String() + "="},
		"with_a_line_break":                {strings.Replace(good().String(), ".", ".\n", 1)},
	} {
		t.Run(name, func(t *testing.T) {
			if got := ask(proofs...); got != policy.Unauthenticated {
				t.Errorf("got %v", got)
			}
		})
	}
	if got := ask(good().String()); got != policy.Allow {
		t.Errorf("a good one: got %v", got)
	}
}

// FuzzProofOfAnotherRequest shows a good proof beside whatever request: it is taken for its own only.
func FuzzProofOfAnotherRequest(f *testing.F) {
	key := keyOf("ES256", 5)
	now := time.Now()
	p := tokentest.New(issuer, keyOf("ES256", 1))
	j := inline(f, p, func(c *Config) { c.Now = func() time.Time { return now } })
	mint := func() string { return p.Mint(claims{"cnf": claims{"jkt": key.Thumbprint()}, "exp": now.Unix() + 3600}) }
	mine, other := mint(), mint()
	f.Add("GET", target, false)
	f.Add("get", target, false)
	f.Add("POST", target, false)
	f.Add("GET", target, true)
	f.Add("GET", target+"/", false)
	f.Add("GET", "https://api.test:443/v1/items", false)
	f.Add("", "", false)
	f.Fuzz(func(t *testing.T, method, url string, another bool) {
		proof := tokentest.Proof(key, "GET", target, mine, now).String()
		token := mine
		if another {
			token = other
		}
		same := method == "GET" && sameTarget(url, target) && !another
		got := verify(j, Credential{Scheme: "DPoP", Token: token, Proofs: []string{proof}, Method: method, URL: url})
		if same && got != policy.Allow && got != policy.Unavailable || !same && got != policy.Unauthenticated {
			t.Errorf("got %v for %q %q, another token: %v", got, method, url, another)
		}
	})
}

// FuzzProofParts signs rightly whatever header and claims: a proof is accepted only if it reads as the very one that this
// request needs.
func FuzzProofParts(f *testing.F) {
	key := keyOf("EdDSA", 5)
	now := time.Unix(1_800_000_000, 0)
	p := tokentest.New(issuer, keyOf("ES256", 1))
	j := inline(f, p, func(c *Config) { c.Now = func() time.Time { return now } })
	token := p.Mint(claims{"cnf": claims{"jkt": key.Thumbprint()}, "iat": now.Unix(), "exp": now.Unix() + 3600})
	good := tokentest.Proof(key, "GET", target, token, now)
	text := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		return string(b)
	}
	header, payload := text(good.Header), text(good.Claims)
	ath := good.Claims["ath"]
	f.Add(header, payload)
	f.Add(strings.Replace(header, "{", `{"typ":"JWT",`, 1), payload)
	f.Add(header, strings.Replace(payload, "{", `{"htm":"POST",`, 1))
	f.Add(header, text(tokentest.With(good.Claims, claims{"iat": json.RawMessage("1.8e9")})))
	f.Add(header, text(tokentest.With(good.Claims, claims{"htu": target + "?x"})))
	f.Add(text(tokentest.With(good.Header, claims{"jwk": nil})), payload)
	f.Add("null", "[]")
	f.Fuzz(func(t *testing.T, header, payload string) {
		proof := tokentest.Sign(key, "EdDSA", []byte(header), []byte(payload))
		got := verify(j, Credential{Scheme: "DPoP", Token: token, Proofs: []string{proof}, Method: "GET", URL: target})
		if got == policy.Unauthenticated || got == policy.Unavailable {
			return
		}
		h, herr := policy.ParseValue([]byte(header))
		c, cerr := policy.ParseValue([]byte(payload))
		if got != policy.Allow || herr != nil || cerr != nil {
			t.Fatalf("got %v for %q %q", got, header, payload)
		}
		head, body := h.(map[string]any), c.(map[string]any)
		htu, _ := body["htu"].(string)
		htu, _, _ = strings.Cut(htu, "?")
		htu, _, _ = strings.Cut(htu, "#")
		jti, _ := body["jti"].(string)
		made, ok := numericDate(body["iat"])
		age := now.Sub(made)
		if head["typ"] != "dpop+jwt" || head["alg"] != "EdDSA" || head["crit"] != nil || body["htm"] != "GET" || body["ath"] != ath || jti == "" || !ok ||
			age > proofAge+defaultSkew || age < -defaultSkew || !strings.EqualFold(strings.Replace(htu, ":443/", "/", 1), target) {
			t.Fatalf("accepted %q %q", header, payload)
		}
	})
}

// FuzzProofMemory plays proofs in any order and time: none is good twice while it could be.
func FuzzProofMemory(f *testing.F) {
	f.Add([]byte{1, 0, 1, 0, 1, 90, 1, 60, 2, 0})
	f.Fuzz(func(t *testing.T, moves []byte) {
		const skew = 30 * time.Second
		p := newProofs(skew)
		now := time.Unix(1_800_000_000, 0)
		last := map[string]time.Time{}
		for i := 0; i+1 < len(moves); i += 2 {
			now = now.Add(time.Duration(moves[i+1]) * time.Second)
			jti := fmt.Sprint(moves[i] % 8)
			err := p.remember([]byte("a thumbprint"), jti, "alice", now)
			if seen, ok := last[jti]; ok && now.Sub(seen) < proofAge+2*skew && err == nil {
				t.Fatalf("%s again after %v", jti, now.Sub(seen))
			}
			if err == nil {
				last[jti] = now
			}
		}
	})
}

// The documentation's table of checks names tests that there are.
func TestEveryCheckOfProofsHasItsTest(t *testing.T) {
	page, err := os.ReadFile("../../docs/sender-constrained.md")
	if err != nil {
		t.Fatal(err)
	}
	var tests strings.Builder
	for _, pattern := range []string{"*_test.go", "../*_test.go", "../../envoy/e2e/*_test.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatal(pattern, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			tests.Write(text)
		}
	}
	for _, name := range regexp.MustCompile(`(Test|Fuzz)[A-Z]\w+`).FindAllString(string(page), -1) {
		if !strings.Contains(tests.String(), "func "+name+"(") {
			t.Errorf("there is no %s", name)
		}
	}
	for _, list := range regexp.MustCompile(`TestProofs: ([a-zA-Z0-9_, ]+)`).FindAllStringSubmatch(string(page), -1) {
		for _, name := range strings.Split(strings.TrimSpace(list[1]), ", ") {
			if !strings.Contains(tests.String(), `{"`+name+`", "DPoP"`) {
				t.Errorf("TestProofs has no case %q", name)
			}
		}
	}
}
