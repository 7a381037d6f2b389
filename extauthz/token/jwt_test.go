package token

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/usher-authz/usher/extauthz/token/tokentest"
	"github.com/usher-authz/usher/policy"
)

type (
	claims = tokentest.Claims
	parts  = tokentest.Token
)

var null = json.RawMessage("null")

func TestEveryAlgorithmVerifiesItsOwnSignatureAndNoOther(t *testing.T) {
	for _, alg := range tokentest.Algorithms() {
		t.Run(alg, func(t *testing.T) {
			k := keyOf(alg, 1)
			p := tokentest.New(issuer, k)
			j := inline(t, p, func(c *Config) {
				c.Algorithms = []string{alg}
				if k.Secret != nil {
					c.JWKS, c.SharedSecret = nil, k.Secret
				}
			})
			good := p.Token()
			expect(t, j, bearer(good.String()), policy.Allow)
			for name, bad := range brokenSignatures(t, good, keyOf(alg, 2)) {
				t.Run(name, func(t *testing.T) { expect(t, j, bearer(bad), policy.Unauthenticated) })
			}
		})
	}
}

// brokenSignatures spoils a good token's signature in every way that some verifier somewhere has accepted.
func brokenSignatures(t *testing.T, good parts, other *tokentest.Key) map[string]string {
	t.Helper()
	text := good.String()
	input := text[:strings.LastIndexByte(text, '.')+1]
	signature, err := decodeSegment(text[len(input):])
	if err != nil {
		t.Fatal(err)
	}
	with := func(s []byte) string { return input + tokentest.Base64(s) }
	flip := func(i int) string {
		s := append([]byte{}, signature...)
		s[i] ^= 1
		return with(s)
	}
	fake := good
	fake.Key = other
	half := len(signature) / 2
	padded := append(append([]byte{0}, signature[:half]...), append([]byte{0}, signature[half:]...)...)
	return map[string]string{
		"a_bit_flipped_at_the_start":    flip(0),
		"a_bit_flipped_at_the_end":      flip(len(signature) - 1),
		"an_empty_signature":            input,
		"a_byte_short":                  with(signature[:len(signature)-1]),
		"a_leading_zero":                with(append([]byte{0}, signature...)),
		"trailing_bytes":                with(append(append([]byte{}, signature...), 0, 0)),
		"all_zeros":                     with(make([]byte, len(signature))),
		"halves_padded_with_zeros":      with(padded),
		"signed_by_another_key":         fake.String(),
		"the_signature_of_other_claims": with([]byte(mustSignature(t, good))),
	}
}

func mustSignature(t *testing.T, good parts) []byte {
	t.Helper()
	good.Claims = tokentest.With(good.Claims, claims{"sub": "bob"})
	text := good.String()
	s, err := decodeSegment(text[strings.LastIndexByte(text, '.')+1:])
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestClaims(t *testing.T) {
	p := tokentest.New(issuer, keyOf("ES256", 1))
	j := inline(t, p)
	now := time.Now().Unix()
	cases := []struct {
		name   string
		change claims
		want   policy.Outcome
	}{
		{"good", nil, policy.Allow},
		{"iss_of_another", claims{"iss": "https://other.test"}, policy.Unauthenticated},
		{"iss_with_a_slash_more", claims{"iss": issuer + "/"}, policy.Unauthenticated},
		{"iss_in_capitals", claims{"iss": strings.ToUpper(issuer)}, policy.Unauthenticated},
		{"iss_with_a_space", claims{"iss": " " + issuer}, policy.Unauthenticated},
		{"iss_list", claims{"iss": []string{issuer}}, policy.Unauthenticated},
		{"iss_null", claims{"iss": null}, policy.Unauthenticated},
		{"iss_missing", claims{"iss": nil}, policy.Unauthenticated},
		{"aud_list_with_ours", claims{"aud": []string{"x", "api"}}, policy.Allow},
		{"aud_of_another", claims{"aud": "other"}, policy.Unauthenticated},
		{"aud_prefix", claims{"aud": "ap"}, policy.Unauthenticated},
		{"aud_in_capitals", claims{"aud": "API"}, policy.Unauthenticated},
		{"aud_joined_by_space", claims{"aud": "x api"}, policy.Unauthenticated},
		{"aud_empty_list", claims{"aud": []string{}}, policy.Unauthenticated},
		{"aud_nested_list", claims{"aud": []any{[]string{"api"}}}, policy.Unauthenticated},
		{"aud_list_with_a_number", claims{"aud": []any{"api", 1}}, policy.Unauthenticated},
		{"aud_object", claims{"aud": claims{"api": true}}, policy.Unauthenticated},
		{"aud_null", claims{"aud": null}, policy.Unauthenticated},
		{"aud_missing_with_azp", claims{"aud": nil, "azp": "api", "client_id": "api"}, policy.Unauthenticated},
		{"exp_with_a_fraction", claims{"exp": float64(now) + 300.5}, policy.Allow},
		{"exp_31_s_ago", claims{"exp": now - 31}, policy.Unauthenticated},
		{"exp_20_s_ago_is_within_skew", claims{"exp": now - 20}, policy.Allow},
		{"exp_zero", claims{"exp": 0}, policy.Unauthenticated},
		{"exp_negative", claims{"exp": -1}, policy.Unauthenticated},
		{"exp_text", claims{"exp": "9999999999"}, policy.Unauthenticated},
		{"exp_null", claims{"exp": null}, policy.Unauthenticated},
		{"exp_true", claims{"exp": true}, policy.Unauthenticated},
		{"exp_list", claims{"exp": []int64{now + 300}}, policy.Unauthenticated},
		{"exp_1e300", claims{"exp": json.RawMessage("1e300")}, policy.Unauthenticated},
		{"exp_1e400", claims{"exp": json.RawMessage("1e400")}, policy.Unauthenticated},
		{"exp_beyond_int64", claims{"exp": json.RawMessage("9223372036854775808")}, policy.Unauthenticated},
		{"exp_beyond_uint64", claims{"exp": json.RawMessage("18446744073709551616")}, policy.Unauthenticated},
		{"exp_in_milliseconds", claims{"exp": (now + 300) * 1000}, policy.Unauthenticated},
		{"exp_missing", claims{"exp": nil}, policy.Unauthenticated},
		{"EXP_is_not_exp", claims{"exp": now - 3600, "EXP": now + 3600}, policy.Unauthenticated},
		{"nbf_20_s_ahead_is_within_skew", claims{"nbf": now + 20}, policy.Allow},
		{"nbf_60_s_ahead", claims{"nbf": now + 60}, policy.Unauthenticated},
		{"nbf_text", claims{"nbf": "0"}, policy.Unauthenticated},
		{"nbf_1e19", claims{"nbf": json.RawMessage("1e19")}, policy.Unauthenticated},
		{"iat_missing", claims{"iat": nil}, policy.Allow},
		{"iat_120_s_ahead", claims{"iat": now + 120}, policy.Unauthenticated},
		{"iat_text", claims{"iat": "yesterday"}, policy.Unauthenticated},
		{"sub_number", claims{"sub": 12345}, policy.Unauthenticated},
		{"sub_list", claims{"sub": []string{"alice"}}, policy.Unauthenticated},
		{"sub_null", claims{"sub": null}, policy.Unauthenticated},
		{"sub_missing", claims{"sub": nil}, policy.Unauthenticated},
		{"sub_empty", claims{"sub": ""}, policy.Unauthenticated},
		{"scope_list_where_the_mapping_wants_text", claims{"scope": []string{"read"}}, policy.Unauthenticated},
		{"cnf_null", claims{"cnf": null}, policy.Unauthenticated},
		{"cnf_empty", claims{"cnf": claims{}}, policy.Unauthenticated},
		{"cnf_text", claims{"cnf": "jkt"}, policy.Unauthenticated},
		{"cnf_list", claims{"cnf": []any{claims{"jkt": "x"}}}, policy.Unauthenticated},
		{"cnf_of_an_unknown_kind", claims{"cnf": claims{"x-new": "abc"}}, policy.Unauthenticated},
		{"cnf_of_an_unknown_kind_that_looks_like_a_digest", claims{"cnf": claims{"x5t": keyOf("ES256", 1).Thumbprint()}}, policy.Unauthenticated},
		{"cnf_jwk", claims{"cnf": claims{"jwk": keyOf("ES256", 1).JWK()}}, policy.Unauthenticated},
		{"cnf_kid", claims{"cnf": claims{"kid": "ES256-1"}}, policy.Unauthenticated},
		{"cnf_jkt_null", claims{"cnf": claims{"jkt": null}}, policy.Unauthenticated},
		{"nested_3000_deep", claims{"deep": json.RawMessage(strings.Repeat("[", 3000) + strings.Repeat("]", 3000))}, policy.Unauthenticated},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { expect(t, j, bearer(p.Mint(c.change)), c.want) })
	}
}

func TestATokenHasOneSpelling(t *testing.T) {
	p := tokentest.New(issuer, keyOf("ES256", 1))
	token := p.Token()
	token.Header["x"] = "y" // so that the last character of the header has bits to spare
	good := token.String()
	for len(strings.Split(good, ".")[0])%4 == 0 || len(strings.Split(good, ".")[1])%4 == 0 || !strings.ContainsAny(good, "-_") {
		token.Header["x"] = token.Header["x"].(string) + "y"
		token.Claims = p.Good(claims{"pad": token.Header["x"]})
		good = token.String()
	}
	segments := strings.Split(good, ".")
	with := func(i int, text string) string {
		out := append([]string{}, segments...)
		out[i] = text
		return strings.Join(out, ".")
	}
	dirty := func(text string) string { // the same bytes, by a decoder that does not look at the spare bits
		const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
		last := strings.IndexByte(alphabet, text[len(text)-1])
		return text[:len(text)-1] + alphabet[last+1:last+2]
	}
	cases := map[string]string{
		"the_standard_alphabet": strings.NewReplacer("-", "+", "_", "/").Replace(good),
		"four_segments":         good + ".AAAA",
		"a_dot_behind":          good + ".",
		"a_dot_before":          "." + good,
		"two_segments":          segments[0] + "." + segments[1],
		"no_payload":            segments[0] + ".." + segments[2],
		"no_header":             "." + segments[1] + "." + segments[2],
		"JSON_serialisation":    `{"payload":"` + segments[1] + `","protected":"` + segments[0] + `","signature":"` + segments[2] + `"}`,
		"a_JWE":                 segments[0] + "...." + segments[2],
	}
	for i, segment := range segments {
		name := []string{"header", "payload", "signature"}[i]
		cases["padding_in_the_"+name] = with(i, segment+strings.Repeat("=", (4-len(segment)%4)%4))
		cases["dirty_bits_in_the_"+name] = with(i, dirty(segment))
		for what, c := range map[string]string{"line_feed": "\n", "carriage_return": "\r", "space": " ", "tab": "\t", "NUL": "\x00"} {
			cases["a_"+what+"_in_the_"+name] = with(i, segment[:8]+c+segment[8:])
			cases["a_"+what+"_behind_the_"+name] = with(i, segment+c)
		}
	}
	j := inline(t, p)
	expect(t, j, bearer(good), policy.Allow)
	for name, text := range cases {
		t.Run(name, func(t *testing.T) {
			if text == good {
				t.Fatal("the case changes nothing")
			}
			expect(t, j, bearer(text), policy.Unauthenticated)
			expect(t, inline(t, p), bearer(text), policy.Unauthenticated) // with nothing remembered
			if _, err := parseCompact(text, nil); err == nil {
				t.Error("it was taken apart: only the signature saved us")
			}
		})
	}
}

func TestHeader(t *testing.T) {
	k := keyOf("ES256", 1)
	p := tokentest.New(issuer, k)
	cases := []struct {
		name   string
		change claims
		typ    []string
		want   policy.Outcome
	}{
		{"good", nil, nil, policy.Allow},
		{"alg_none", claims{"alg": "none"}, nil, policy.Unauthenticated},
		{"alg_in_lower_case", claims{"alg": "es256"}, nil, policy.Unauthenticated},
		{"alg_with_a_space", claims{"alg": "ES256 "}, nil, policy.Unauthenticated},
		{"alg_list", claims{"alg": []string{"ES256"}}, nil, policy.Unauthenticated},
		{"alg_null", claims{"alg": null}, nil, policy.Unauthenticated},
		{"alg_missing", claims{"alg": nil}, nil, policy.Unauthenticated},
		{"alg_empty", claims{"alg": ""}, nil, policy.Unauthenticated},
		{"alg_of_one_letter", claims{"alg": "E"}, nil, policy.Unauthenticated},
		{"alg_of_another_curve", claims{"alg": "ES384"}, nil, policy.Unauthenticated},
		{"alg_outside_the_list", claims{"alg": "ES256K"}, nil, policy.Unauthenticated},
		{"crit_unknown", claims{"crit": []string{"x"}, "x": 1}, nil, policy.Unauthenticated},
		{"crit_empty", claims{"crit": []string{}}, nil, policy.Unauthenticated},
		{"crit_null", claims{"crit": null}, nil, policy.Unauthenticated},
		{"crit_text", claims{"crit": "exp"}, nil, policy.Unauthenticated},
		{"b64_true", claims{"b64": true}, nil, policy.Unauthenticated},
		{"cty_JWT", claims{"cty": "JWT"}, nil, policy.Unauthenticated},
		{"cty_number", claims{"cty": 1}, nil, policy.Unauthenticated},
		{"typ_number", claims{"typ": 7}, nil, policy.Unauthenticated},
		{"typ_missing_where_none_is_configured", claims{"typ": nil}, nil, policy.Allow},
		{"typ_dpop_proof", claims{"typ": "dpop+jwt"}, nil, policy.Unauthenticated},
		{"typ_logout_token", claims{"typ": "application/Logout+JWT"}, nil, policy.Unauthenticated},
		{"typ_as_configured", claims{"typ": "at+jwt"}, []string{"at+jwt"}, policy.Allow},
		{"typ_as_a_full_media_type", claims{"typ": "application/AT+JWT"}, []string{"at+jwt"}, policy.Allow},
		{"typ_configured_as_a_full_media_type", claims{"typ": "at+jwt"}, []string{"application/at+jwt"}, policy.Allow},
		{"typ_other_than_configured", claims{"typ": "JWT"}, []string{"at+jwt"}, policy.Unauthenticated},
		{"typ_missing_where_configured", claims{"typ": nil}, []string{"at+jwt"}, policy.Unauthenticated},
		{"kid_null", claims{"kid": null}, nil, policy.Unauthenticated},
		{"kid_number", claims{"kid": 1}, nil, policy.Unauthenticated},
		{"kid_empty", claims{"kid": ""}, nil, policy.Unauthenticated},
		{"kid_with_NUL", claims{"kid": k.ID + "\x00"}, nil, policy.Unauthenticated},
		{"kid_in_another_case", claims{"kid": strings.ToLower(k.ID)}, nil, policy.Unauthenticated},
		{"kid_missing", claims{"kid": nil}, nil, policy.Allow},
		{"jku_is_not_looked_at", claims{"jku": "https://evil.test/jwks"}, nil, policy.Allow},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			j := inline(t, p, func(config *Config) { config.Typ = c.typ })
			token := p.Token()
			token.Header = tokentest.With(token.Header, c.change)
			expect(t, j, bearer(token.String()), c.want)
		})
	}
}

func TestKeysAreBoundToTheirAlgorithmUseAndIssuer(t *testing.T) {
	rsa, ec, evil := keyOf("RS256", 1), keyOf("ES256", 1), keyOf("RS256", 2)
	plain := rsa.As("plain", "RS256")
	plain.Members = claims{"alg": nil}
	encryption := keyOf("ES256", 3).As("enc", "ES256")
	encryption.Members = claims{"use": "enc"}
	operations := keyOf("ES256", 3).As("ops", "ES256")
	operations.Members = claims{"use": nil, "key_ops": []string{"encrypt"}}
	p := tokentest.New(issuer, encryption, operations, plain, ec, rsa)
	p.PublishRaw(claims{"kty": "oct", "kid": "o1", "k": tokentest.Base64([]byte(strings.Repeat("s", 32)))})
	p.PublishRaw(keyOf("ES256", 4).As("private", "ES256").PrivateJWK())
	p.PublishRaw(claims{"kty": "RSA", "kid": "e1", "n": rsa.JWK()["n"], "e": "AQ"})
	p.PublishRaw(claims{"kty": "RSA", "kid": "huge-e", "n": rsa.JWK()["n"], "e": tokentest.Base64([]byte{1, 0, 0, 0, 0, 0, 1, 0, 1})})
	p.PublishRaw(claims{"kty": "EC", "crv": "P-256", "kid": "off", "x": tokentest.Base64(make([]byte, 32)), "y": tokentest.Base64(make([]byte, 32))})
	p.PublishRaw(claims{"kty": "XX"})
	p.PublishRaw("not a key")
	p.PublishRaw(null)
	j := inline(t, p)
	secret := func(b []byte, alg, kid string) parts {
		return parts{Header: claims{"alg": alg, "kid": kid}, Claims: p.Good(), Key: &tokentest.Key{Secret: b}, Alg: alg}
	}
	as := func(k *tokentest.Key, kid, alg, really string) parts {
		return parts{Header: claims{"alg": alg, "kid": kid}, Claims: p.Good(), Key: k, Alg: really}
	}
	cases := []struct {
		name  string
		token parts
		want  policy.Outcome
	}{
		{"rsa", as(rsa, rsa.ID, "RS256", "RS256"), policy.Allow},
		{"an_RSA_key_without_alg_takes_RS512", as(rsa, "plain", "RS512", "RS512"), policy.Allow},
		{"a_key_of_RS256_does_not_take_RS512", as(rsa, rsa.ID, "RS512", "RS512"), policy.Unauthenticated},
		{"a_key_of_RS256_does_not_take_PS256", as(rsa, rsa.ID, "PS256", "PS256"), policy.Unauthenticated},
		{"RS256_under_an_EC_kid", as(evil, ec.ID, "RS256", "RS256"), policy.Unauthenticated},
		{"ES256_under_an_RSA_kid", as(ec, rsa.ID, "ES256", "ES256"), policy.Unauthenticated},
		{"an_attackers_key_under_a_good_kid", as(evil, rsa.ID, "RS256", "RS256"), policy.Unauthenticated},
		{"PKCS1_under_PS256", as(rsa, "plain", "PS256", "RS256"), policy.Unauthenticated},
		{"a_SHA512_signature_under_RS256", as(rsa, rsa.ID, "RS256", "RS512"), policy.Unauthenticated},
		{"HS256_with_the_modulus", secret([]byte(rsa.JWK()["n"].(string)), "HS256", rsa.ID), policy.Unauthenticated},
		{"HS256_with_an_empty_secret", secret(nil, "HS256", rsa.ID), policy.Unauthenticated},
		{"HS256_with_a_published_oct_key", secret([]byte(strings.Repeat("s", 32)), "HS256", "o1"), policy.Unauthenticated},
		{"a_key_for_encryption", as(keyOf("ES256", 3), "enc", "ES256", "ES256"), policy.Unauthenticated},
		{"a_key_whose_key_ops_lack_verify", as(keyOf("ES256", 3), "ops", "ES256", "ES256"), policy.Unauthenticated},
		{"a_key_whose_private_half_is_published", as(keyOf("ES256", 4), "private", "ES256", "ES256"), policy.Unauthenticated},
		{"an_exponent_of_1", as(rsa, "e1", "RS256", "RS256"), policy.Unauthenticated},
		{"an_exponent_whose_low_bits_are_65537", as(rsa, "huge-e", "RS256", "RS256"), policy.Unauthenticated},
		{"a_point_off_its_curve", as(ec, "off", "ES256", "ES256"), policy.Unauthenticated},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { expect(t, j, bearer(c.token.String()), c.want) })
	}

	embedded := as(evil, rsa.ID, "RS256", "RS256")
	embedded.Header["jwk"] = evil.As(rsa.ID, "RS256").JWK()
	expect(t, j, bearer(embedded.String()), policy.Unauthenticated)
	delete(embedded.Header, "kid")
	expect(t, j, bearer(embedded.String()), policy.Unauthenticated)
}

func TestASaltOfAnotherLengthThanTheHashIsRefused(t *testing.T) {
	for alg, hash := range map[string]crypto.Hash{"PS256": crypto.SHA256, "PS384": crypto.SHA384, "PS512": crypto.SHA512} {
		k := keyOf(alg, 1)
		p := tokentest.New(issuer, k)
		j := inline(t, p)
		text := p.Mint()
		input := text[:strings.LastIndexByte(text, '.')]
		h := hash.New()
		h.Write([]byte(input))
		for _, salt := range []int{0, 1, 20, hash.Size() - 1, hash.Size(), hash.Size() + 1, 100} {
			options := &rsa.PSSOptions{SaltLength: salt, Hash: hash}
			if salt == 0 {
				// Zero means as long as possible to the standard library.
				options.SaltLength = rsa.PSSSaltLengthAuto
			}
			signature, err := k.Private.Sign(rand.Reader, h.Sum(nil), options)
			if err != nil {
				t.Fatal(err)
			}
			want := policy.Unauthenticated
			if salt == hash.Size() {
				want = policy.Allow
			}
			expect(t, j, bearer(input+"."+tokentest.Base64(signature)), want)
		}
	}
}

func TestAnAlgorithmThatIsNotListedIsRefusedThoughTheIssuerHasAKeyForIt(t *testing.T) {
	p := tokentest.New(issuer, keyOf("EdDSA", 1), keyOf("ES256", 1))
	j := inline(t, p, func(c *Config) { c.Algorithms = []string{"EdDSA"} })
	expect(t, j, bearer(p.Mint()), policy.Unauthenticated)
	token := p.Token()
	token.Key, token.Header = keyOf("EdDSA", 1), claims{"alg": "EdDSA"}
	expect(t, j, bearer(token.String()), policy.Allow)
}

func TestSmallRSAKeysAreNotAccepted(t *testing.T) {
	n := make([]byte, 128)
	n[0], n[127] = 0x80, 1
	keys, err := parseKeys([]byte(`{"keys":[{"kty":"RSA","kid":"w","alg":"RS256","e":"AQAB","n":"` + tokentest.Base64(n) + `"}]}`))
	if err != nil || len(keys) != 0 {
		t.Errorf("got %d keys, %v", len(keys), err)
	}
}

func TestRSAKeysThatCanBeFactoredAreNotAccepted(t *testing.T) {
	product := big.NewInt(1)
	for p := int64(2); p <= 353; p++ {
		if big.NewInt(p).ProbablyPrime(0) {
			product.Mul(product, big.NewInt(p))
		}
	}
	n := new(big.Int).Lsh(big.NewInt(1), 2047)
	n.Sub(n, new(big.Int).Mod(n, product)).Add(n, product)
	n.Add(n, new(big.Int).Exp(big.NewInt(65537), big.NewInt(1234), product))
	keys, err := parseKeys([]byte(`{"keys":[{"kty":"RSA","e":"AQAB","n":"` + tokentest.Base64(n.Bytes()) + `"}]}`))
	if n.BitLen() != 2048 || err != nil || len(keys) != 0 {
		t.Errorf("%d bits, %d keys, %v", n.BitLen(), len(keys), err)
	}
}

func TestKeysThatShareAKidAreEachTried(t *testing.T) {
	one, two, evil := keyOf("ES256", 1).As("same", "ES256"), keyOf("ES256", 2).As("same", "ES256"), keyOf("ES256", 3).As("same", "ES256")
	p := tokentest.New(issuer, one, two)
	j := inline(t, p)
	for _, k := range []*tokentest.Key{one, two} {
		token := p.Token()
		token.Key = k
		expect(t, j, bearer(token.String()), policy.Allow)
	}
	token := p.Token()
	token.Key = evil
	expect(t, j, bearer(token.String()), policy.Unauthenticated)
}

// quickest is how long something takes on a machine that has nothing else to do: the least of several times.
func quickest(f func()) time.Duration {
	least := time.Hour
	for range 5 {
		start := time.Now()
		f()
		least = min(least, time.Since(start))
	}
	return least
}

func TestTenThousandKeysOfOneNameCostNoMoreThanAFew(t *testing.T) {
	k := keyOf("ES256", 1)
	s := &keySet{}
	parsed, err := parseKeys(tokentest.New(issuer, k).Set())
	if err != nil {
		t.Fatal(err)
	}
	for range 10_000 {
		s.keys = append(s.keys, parsed[0])
	}
	bad := tokentest.New(issuer, k).Token()
	bad.Key = keyOf("ES256", 2)
	c, err := parseCompact(bad.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	took := quickest(func() {
		if signer, named := s.verify(c); signer != nil || !named {
			t.Errorf("got %v, %v", signer, named)
		}
	})
	if took > 200*time.Millisecond {
		t.Errorf("took %v", took)
	}
}

func TestASharedSecretIsItsProvidersAlone(t *testing.T) {
	secret := &tokentest.Key{ID: "s", Alg: "HS256", Secret: []byte("legacy-shared-secret-0123456789abcdef")}
	p := tokentest.New(issuer, secret)
	j := inline(t, p, func(c *Config) { c.JWKS, c.SharedSecret = nil, secret.Secret })
	token := p.Token()
	delete(token.Header, "kid")
	expect(t, j, bearer(token.String()), policy.Allow)
	token.Header["alg"], token.Alg = "HS512", "HS512"
	expect(t, j, bearer(token.String()), policy.Unauthenticated)
	token.Header["alg"], token.Alg, token.Key = "RS256", "RS256", keyOf("RS256", 1)
	expect(t, j, bearer(token.String()), policy.Unauthenticated)
}

func TestConfigurationMistakesAreErrors(t *testing.T) {
	p := tokentest.New(issuer, keyOf("ES256", 1))
	for name, change := range map[string]func(*Config){
		"no_issuer":                      func(c *Config) { c.Issuer = "" },
		"no_audience":                    func(c *Config) { c.Audiences = nil },
		"an_empty_audience":              func(c *Config) { c.Audiences = []string{""} },
		"no_mapping":                     func(c *Config) { c.Identity = nil },
		"a_negative_skew":                func(c *Config) { c.ClockSkew = new(time.Duration(-1)) },
		"an_unknown_algorithm":           func(c *Config) { c.Algorithms = []string{"none"} },
		"HMAC_without_a_secret":          func(c *Config) { c.Algorithms = []string{"HS256"} },
		"RS256_with_a_secret":            func(c *Config) { c.SharedSecret, c.Algorithms = make([]byte, 64), []string{"RS256"} },
		"a_secret_shorter_than_its_hash": func(c *Config) { c.SharedSecret = make([]byte, 31) },
		"a_secret_too_short_for_HS512":   func(c *Config) { c.SharedSecret, c.Algorithms = make([]byte, 63), []string{"HS512"} },
		"a_JWKS_URI_over_http":           func(c *Config) { c.JWKSURI = "http://idp.test/jwks" },
		"a_JWKS_URI_of_a_file":           func(c *Config) { c.JWKSURI = "file:///jwks.json" },
		"an_issuer_over_http":            func(c *Config) { c.Issuer = "http://idp.test" },
		"inline_keys_that_are_no_set":    func(c *Config) { c.JWKS = []byte(`[]`) },
		"inline_keys_without_a_good_one": func(c *Config) { c.JWKS = []byte(`{"keys":[]}`) },
		"introspection_over_http": func(c *Config) {
			c.Introspection = &Introspection{Endpoint: "http://idp.test/i", ClientID: "a", ClientSecret: "b"}
		},
		"introspection_without_a_secret": func(c *Config) {
			c.Introspection = &Introspection{Endpoint: issuer + "/i", ClientID: "a", ClientSecret: ""}
		},
		"introspection_without_an_issuer": func(c *Config) {
			c.Introspection, c.Issuer = &Introspection{Endpoint: issuer + "/i", ClientID: "a", ClientSecret: "b"}, ""
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := config(t, p)
			change(&c)
			if v, err := New(c); err == nil || v != nil {
				t.Errorf("got %v, %v", v, err)
			}
		})
	}
}

func TestAVerifiedTokenIsRememberedAsItsExactBytes(t *testing.T) {
	p := tokentest.New(issuer, keyOf("ES256", 1))
	now := time.Now()
	j := inline(t, p, func(c *Config) { c.Now = func() time.Time { return now } })
	good := p.Mint(claims{"exp": now.Unix() + 60})
	expect(t, j, bearer(good), policy.Allow)
	expect(t, j, bearer(good), policy.Allow)
	for _, other := range []string{good + "=", good + "\n", good[:len(good)-1], good + ".", " " + good} {
		expect(t, j, bearer(other), policy.Unauthenticated)
	}
	expect(t, j, Credential{Scheme: "DPoP", Token: good}, policy.Unauthenticated)
	expect(t, j, Credential{Token: good}, policy.Unauthenticated)
	expect(t, j, Credential{}, policy.Unauthenticated)
	now = now.Add(89 * time.Second)
	expect(t, j, bearer(good), policy.Allow)
	now = now.Add(2 * time.Second)
	expect(t, j, bearer(good), policy.Unauthenticated)
}

func TestTheIdentityIsWhatTheMappingSays(t *testing.T) {
	p := tokentest.New(issuer, keyOf("ES256", 1))
	j := inline(t, p)
	exp := time.Now().Add(time.Hour).Truncate(time.Second)
	id, err := j.Verify(t.Context(), bearer(p.Mint(claims{"exp": exp.Unix()})))
	if err != nil {
		t.Fatal(err)
	}
	if id.Name != "alice" || id.Provider != "idp" || !id.Expires.Equal(exp) || len(id.Permissions) != 2 || id.Claims["sub"] != "alice" {
		t.Errorf("got %v %v %v %v", id.Name, id.Provider, id.Expires, id.Permissions)
	}
}

func TestNoRefusalShowsATokenOrAClaim(t *testing.T) {
	p := tokentest.New(issuer, keyOf("ES256", 1))
	j := inline(t, p)
	const value = "do-not-show-me"
	for _, change := range []claims{{"iss": value}, {"aud": value}, {"exp": value}, {"sub": []string{value}}, {"scope": []string{value}}, {"cnf": claims{value: value}}, {"nbf": value}} {
		token := p.Mint(change)
		_, err := j.Verify(t.Context(), bearer(token))
		if err == nil || strings.Contains(err.Error(), value) || strings.Contains(err.Error(), token[:20]) {
			t.Errorf("%v: %v", change, err)
		}
	}
	for _, token := range []string{"a.b.c", "!.!.!", strings.Repeat(".", 16000), strings.Repeat("a", 100_000)} {
		var err error
		took := quickest(func() { _, err = j.Verify(t.Context(), bearer(token)) })
		if r, ok := err.(*policy.Refusal); !ok || r.Outcome != policy.Unauthenticated || !strings.HasPrefix(r.Challenge, `error="invalid_token"`) {
			t.Errorf("got %v", err)
		}
		if took > 50*time.Millisecond {
			t.Errorf("took %v", took)
		}
	}
}
