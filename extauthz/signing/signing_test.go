package signing

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
)

var b64 = base64.RawURLEncoding

func block(kind string, der []byte, err error) string {
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func pkcs8(key any) string {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return block("PRIVATE KEY", der, err)
}

func jwkOf(members map[string]any) string {
	text, err := json.Marshal(members)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// keys are made once, as RSA ones take a while.
var keys = struct {
	ec, p384 *ecdsa.PrivateKey
	ed       ed25519.PrivateKey
	rsa      *rsa.PrivateKey
}{}

func init() {
	keys.ec, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	keys.p384, _ = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	_, keys.ed, _ = ed25519.GenerateKey(rand.Reader)
	keys.rsa, _ = rsa.GenerateKey(rand.Reader, 2048)
}

func ecJWK(change map[string]any) string {
	point, _ := keys.ec.PublicKey.Bytes()
	d, _ := keys.ec.Bytes()
	members := map[string]any{"kty": "EC", "crv": "P-256", "x": b64.EncodeToString(point[1:33]), "y": b64.EncodeToString(point[33:]), "d": b64.EncodeToString(d)}
	return changed(members, change)
}

func edJWK(change map[string]any) string {
	return changed(map[string]any{"kty": "OKP", "crv": "Ed25519", "x": b64.EncodeToString(keys.ed[32:]), "d": b64.EncodeToString(keys.ed.Seed())}, change)
}

func rsaJWK(change map[string]any) string {
	k := keys.rsa
	n := func(x *big.Int) string { return b64.EncodeToString(x.Bytes()) }
	return changed(map[string]any{"kty": "RSA", "n": n(k.N), "e": "AQAB", "d": n(k.D), "p": n(k.Primes[0]), "q": n(k.Primes[1])}, change)
}

func changed(members, change map[string]any) string {
	for name, value := range change {
		if members[name] = value; value == nil {
			delete(members, name)
		}
	}
	return jwkOf(members)
}

// verify is written against the RFCs, and apart from the code that signs.
func verify(t *testing.T, public crypto.PublicKey, token string) (header, claims map[string]any) {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("%d parts", len(parts))
	}
	var raw [3][]byte
	for i, p := range parts {
		var err error
		if raw[i], err = b64.Strict().DecodeString(p); err != nil {
			t.Fatal(err)
		}
	}
	if json.Unmarshal(raw[0], &header) != nil || json.Unmarshal(raw[1], &claims) != nil {
		t.Fatal("no JSON")
	}
	input := []byte(parts[0] + "." + parts[1])
	sum := sha256.Sum256(input)
	ok := false
	switch alg := header["alg"]; alg {
	case "ES256":
		r, s := new(big.Int).SetBytes(raw[2][:32]), new(big.Int).SetBytes(raw[2][32:])
		ok = len(raw[2]) == 64 && ecdsa.Verify(public.(*ecdsa.PublicKey), sum[:], r, s)
	case "EdDSA":
		ok = ed25519.Verify(public.(ed25519.PublicKey), input, raw[2])
	case "RS256":
		ok = rsa.VerifyPKCS1v15(public.(*rsa.PublicKey), crypto.SHA256, sum[:], raw[2]) == nil
	case "PS256":
		ok = rsa.VerifyPSS(public.(*rsa.PublicKey), crypto.SHA256, sum[:], raw[2], &rsa.PSSOptions{SaltLength: 32}) == nil
	}
	if !ok {
		t.Fatalf("a bad signature by %v", header["alg"])
	}
	return header, claims
}

func TestKeysOfEveryKindSign(t *testing.T) {
	ecDER, err := x509.MarshalECPrivateKey(keys.ec)
	sec1 := block("EC PRIVATE KEY", ecDER, err)
	for name, c := range map[string]struct {
		text, alg, kid string
		public         crypto.PublicKey
	}{
		"ec_jwk":                     {ecJWK(map[string]any{"kid": "one", "use": "sig"}), "ES256", "one", &keys.ec.PublicKey},
		"ec_jwk_with_its_algorithm":  {ecJWK(map[string]any{"alg": "ES256", "key_ops": []string{"sign"}}), "ES256", "", &keys.ec.PublicKey},
		"ec_pkcs8":                   {pkcs8(keys.ec), "ES256", "", &keys.ec.PublicKey},
		"ec_sec1":                    {sec1, "ES256", "", &keys.ec.PublicKey},
		"ec_sec1_as_openssl_writes":  {"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" + sec1 + "\n\n", "ES256", "", &keys.ec.PublicKey},
		"ed_jwk":                     {edJWK(nil), "EdDSA", "", keys.ed.Public()},
		"ed_pkcs8":                   {pkcs8(keys.ed), "EdDSA", "", keys.ed.Public()},
		"rsa_jwk":                    {rsaJWK(nil), "RS256", "", &keys.rsa.PublicKey},
		"rsa_jwk_that_asks_for_pss":  {rsaJWK(map[string]any{"alg": "PS256"}), "PS256", "", &keys.rsa.PublicKey},
		"rsa_pkcs8":                  {pkcs8(keys.rsa), "RS256", "", &keys.rsa.PublicKey},
		"rsa_pkcs1_with_white_space": {"\n " + block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(keys.rsa), nil), "RS256", "", &keys.rsa.PublicKey},
	} {
		t.Run(name, func(t *testing.T) {
			k, err := Parse([]byte(c.text))
			if err != nil {
				t.Fatal(err)
			}
			if k.Algorithm() != c.alg || k.ID() != c.kid {
				t.Errorf("algorithm %s, kid %q", k.Algorithm(), k.ID())
			}
			for range 20 { // an ES256 number may begin with zeros
				head, err := k.Header("test+jwt", "k")
				if err != nil {
					t.Fatal(err)
				}
				token, err := k.Sign(head, []byte(`{"a":"b"}`))
				if err != nil {
					t.Fatal(err)
				}
				header, claims := verify(t, c.public, token)
				if header["typ"] != "test+jwt" || header["kid"] != "k" || claims["a"] != "b" {
					t.Errorf("header %v, claims %v", header, claims)
				}
			}
			public, err := k.JWK("k")
			if err != nil {
				t.Fatal(err)
			}
			var members map[string]any
			if err := json.Unmarshal(public, &members); err != nil {
				t.Fatal(err)
			}
			for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "k"} {
				if members[private] != nil {
					t.Errorf("the public key has %s", private)
				}
			}
			if text := fmt.Sprintf("%v %s", k, k); !strings.HasPrefix(text, c.alg+" key ") || len(text) > 120 {
				t.Errorf("its text is %q", text)
			}
		})
	}
}

func TestThumbprintIsTheOneOfRFC7638(t *testing.T) {
	// RFC 8037, appendix A: the key and its thumbprint (A.3).
	k, err := Parse([]byte(`{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := k.Thumbprint(); got != "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k" {
		t.Errorf("thumbprint %s", got)
	}
	// Appendix A.4: EdDSA signs the same each time.
	if token, err := k.Sign("eyJhbGciOiJFZERTQSJ9", []byte("Example of Ed25519 signing")); err != nil ||
		token != "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg" {
		t.Errorf("token %s, %v", token, err)
	}
}

func TestWhatIsNoSigningKeyIsRefused(t *testing.T) {
	t.Setenv("GODEBUG", "rsa1024min=0") // or no such key can be made
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	publicDER, err := x509.MarshalPKIXPublicKey(&keys.ec.PublicKey)
	public := block("PUBLIC KEY", publicDER, err)
	other, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	point, _ := other.PublicKey.Bytes()
	for name, c := range map[string]struct{ text, want string }{
		"nothing":            {"", "found nothing"},
		"white_space":        {" \n", "found nothing"},
		"a_password":         {"hunter2hunter2", "neither a JWK nor PEM"},
		"huge":               {strings.Repeat("x", 1<<20), "bytes"},
		"public_pem":         {public, "PEM of type PUBLIC KEY"},
		"certificate":        {block("CERTIFICATE", []byte{1}, nil), "PEM of type CERTIFICATE"},
		"encrypted":          {block("ENCRYPTED PRIVATE KEY", []byte{1}, nil), "encrypted"},
		"broken_pem":         {block("PRIVATE KEY", []byte{1, 2, 3}, nil), "cannot be read"},
		"unknown_pem":        {block("OPENSSH PRIVATE KEY", []byte{1}, nil), "of another type"},
		"only_parameters":    {block("EC PARAMETERS", []byte{1}, nil), "no key"},
		"two_keys":           {pkcs8(keys.ec) + pkcs8(keys.ed), "more than one key"},
		"text_behind":        {pkcs8(keys.ec) + "and more", "neither a JWK nor PEM"},
		"text_before":        {"key: " + pkcs8(keys.ec), "neither a JWK nor PEM"},
		"p384":               {pkcs8(keys.p384), "curve P-384"},
		"small_rsa":          {pkcs8(small), "1024 bits"},
		"broken_json":        {`{"kty":`, "cannot be read"},
		"json_of_no_key":     {`{"a":"b"}`, "without kty"},
		"set":                {`{"keys":[` + ecJWK(nil) + `]}`, "JWK set"},
		"shared_secret":      {`{"kty":"oct","k":"c2VjcmV0"}`, "shared secret"},
		"public_jwk":         {ecJWK(map[string]any{"d": nil}), "public key"},
		"for_encryption":     {ecJWK(map[string]any{"use": "enc"}), "not for signatures"},
		"only_verifies":      {ecJWK(map[string]any{"key_ops": []string{"verify"}}), "not for signatures"},
		"another_algorithm":  {ecJWK(map[string]any{"alg": "RS256"}), "alg does not fit"},
		"no_algorithm":       {ecJWK(map[string]any{"alg": "none"}), "alg does not fit"},
		"another_curve":      {ecJWK(map[string]any{"crv": "secp256k1"}), "another type or curve"},
		"another_public_key": {ecJWK(map[string]any{"x": b64.EncodeToString(point[1:33])}), "do not belong"},
		"short_d":            {ecJWK(map[string]any{"d": "AQ"}), "cannot be read"},
		"zero_d":             {ecJWK(map[string]any{"d": b64.EncodeToString(make([]byte, 32))}), "cannot be read"},
		"padded_d":           {ecJWK(map[string]any{"d": "AQ=="}), "cannot be read"},
		"ed_other_public":    {edJWK(map[string]any{"x": b64.EncodeToString(make([]byte, 32))}), "does not belong"},
		"ed_short":           {edJWK(map[string]any{"d": "AQ"}), "wrong length"},
		"x25519":             {edJWK(map[string]any{"crv": "X25519"}), "another type or curve"},
		"rsa_no_primes":      {rsaJWK(map[string]any{"p": nil}), "without its primes"},
		"rsa_other_prime":    {rsaJWK(map[string]any{"p": "AQAB"}), "do not fit"},
		"rsa_zero_modulus":   {rsaJWK(map[string]any{"n": "AA"}), "bits"},
		"rsa_zero_exponent":  {rsaJWK(map[string]any{"e": "AA"}), "do not fit"},
		"rsa_huge_modulus":   {rsaJWK(map[string]any{"n": strings.Repeat("_", 4000)}), "out of bounds"},
		"rsa_three_primes":   {rsaJWK(map[string]any{"oth": []any{}}), "more than two primes"},
	} {
		t.Run(name, func(t *testing.T) {
			k, err := Parse([]byte(c.text))
			if err == nil || k != nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %q, want %q in it", err, c.want)
			}
			if len(c.text) > 8 && len(c.text) < 5000 && strings.Contains(err.Error(), c.text) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error holds the key: %q", err)
			}
		})
	}
	if _, err := (*Key)(nil).Sign("", nil); err == nil {
		t.Error("no key signs")
	}
	if _, err := (&Key{}).Sign("", nil); err == nil {
		t.Error("the zero key signs")
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{ecJWK(nil), edJWK(nil), rsaJWK(nil), pkcs8(keys.ec), pkcs8(keys.rsa)} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		k, err := Parse(text)
		if (k == nil) == (err == nil) {
			t.Fatal("neither a key nor an error, or both")
		}
		if k == nil {
			return
		}
		token, err := k.Sign("e30", []byte("{}"))
		if err != nil {
			return // an RSA key whose parts fit only so far
		}
		if strings.Count(token, ".") != 2 {
			t.Fatal("no compact token")
		}
	})
}
