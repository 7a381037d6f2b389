package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"

	"github.com/usher-authz/usher/policy"
)

// This is the only file that imports jwx. It turns JWKs into keys and checks signatures; which key may check which
// algorithm is settled here too, once, when the key is read, as it is a property of the key (RFC 8725, section 3.1).

// key is one verification key of an issuer. It never changes.
type key struct {
	kid        string
	issuer     string // whose tokens it may sign, maybe with {tenantid}; empty: any of the provider's
	thumbprint []byte // RFC 7638, SHA-256; nil for a secret
	identity   string // equal for two keys only if all that matters of them is equal
	material   any
	size       int                     // of its signatures in bytes
	verifiers  map[string]jws.Verifier // by algorithm that it may verify
}

// asymmetric are the algorithms that are accepted by default.
func asymmetric() []string {
	return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
}

// secretSize is how long the secret of an HMAC algorithm must be, and its signature is, in bytes (RFC 7518, section 3.2);
// 0: not an HMAC algorithm.
func secretSize(alg string) int {
	switch alg {
	case "HS256":
		return 32
	case "HS384":
		return 48
	case "HS512":
		return 64
	}
	return 0
}

const (
	// maxKeys bounds how many keys of a set are looked at.
	maxKeys = 200
	// minRSABits is from RFC 7518, section 3.3; maxRSABits bounds what one verification costs.
	minRSABits, maxRSABits = 2048, 8192
)

// parseKeys reads a JWK set (RFC 7517, section 5). A key that cannot verify a signature safely is left out and does not
// spoil the others: an unknown type, a secret or private one, one for encryption, one that is too small. Of several keys
// with one kid all are kept.
func parseKeys(set []byte) ([]*key, error) {
	v, err := policy.ParseValue(set)
	if err != nil {
		return nil, errors.New("the JWK set is " + notJSON(set))
	}
	object, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("the JWK set is not a JSON object")
	}
	list, ok := object["keys"].([]any)
	if !ok {
		return nil, errors.New(`the JWK set has no list "keys"`)
	}
	var keys []*key
	for _, item := range list[:min(len(list), maxKeys)] {
		members, ok := item.(map[string]any)
		if !ok {
			continue
		}
		k, err := parseKey(members)
		if err != nil || slices.ContainsFunc(keys, func(other *key) bool { return other.identity == k.identity }) {
			continue
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// parseKey reads one public JWK. The error holds nothing of the key.
func parseKey(members map[string]any) (*key, error) {
	// A key whose private half is published, or a secret, is known to all.
	for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
		if _, ok := members[private]; ok {
			return nil, errors.New("the key is private")
		}
	}
	alg, err := optional(members, "alg")
	if err != nil {
		return nil, err
	}
	use, err := optional(members, "use")
	if err != nil {
		return nil, err
	}
	if use != "" && use != "sig" {
		return nil, errors.New("the key is not for signatures") // RFC 7517, section 4.2
	}
	if ops, ok := members["key_ops"]; ok && ops != nil {
		if list, ok := ops.([]any); !ok || !slices.Contains(list, any("verify")) {
			return nil, errors.New("the key is not for verification") // RFC 7517, section 4.3
		}
	}
	k := &key{}
	if k.kid, err = optional(members, "kid"); err != nil {
		return nil, err
	}
	if k.issuer, err = optional(members, "issuer"); err != nil {
		return nil, err
	}
	text, err := publicMembers(members)
	if err != nil {
		return nil, err
	}
	parsed, err := jwk.ParseKey(text)
	if err != nil {
		return nil, errors.New("the key cannot be read") // jwx quotes it
	}
	if err := parsed.Raw(&k.material); err != nil {
		return nil, errors.New("the key cannot be read")
	}
	var fits []string
	switch m := k.material.(type) {
	case *rsa.PublicKey:
		if err := checkRSA(m, parsed); err != nil {
			return nil, err
		}
		k.size, fits = m.Size(), []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
	case *ecdsa.PublicKey:
		if _, err := m.ECDH(); err != nil { // a point that is not on the curve
			return nil, errors.New("the key is no point of its curve")
		}
		// Each algorithm has just one curve (RFC 7518, section 3.4).
		switch m.Curve.Params().Name {
		case "P-256":
			k.size, fits = 64, []string{"ES256"}
		case "P-384":
			k.size, fits = 96, []string{"ES384"}
		case "P-521":
			k.size, fits = 132, []string{"ES512"}
		}
	case ed25519.PublicKey:
		if len(m) != ed25519.PublicKeySize {
			return nil, errors.New("the key has the wrong length")
		}
		k.size, fits = ed25519.SignatureSize, []string{"EdDSA"}
	}
	if alg != "" { // RFC 7517, section 4.4
		fits = slices.DeleteFunc(fits, func(a string) bool { return a != alg })
	}
	if len(fits) == 0 {
		return nil, errors.New("the key fits no known algorithm")
	}
	if k.verifiers, err = verifiers(fits); err != nil {
		return nil, err
	}
	if k.thumbprint, err = parsed.Thumbprint(crypto.SHA256); err != nil {
		return nil, errors.New("the key has no thumbprint")
	}
	k.identity = string(k.thumbprint) + alg + "\x00" + k.kid + "\x00" + k.issuer
	return k, nil
}

// optional reads a member that is a string, null or absent.
func optional(members map[string]any, name string) (string, error) {
	v := members[name]
	if s, ok := v.(string); ok || v == nil {
		return s, nil
	}
	return "", fmt.Errorf("the key's %s is no string", name)
}

// publicMembers writes what jwx needs to know of a key, and no more: certificate chains, dates and extensions are none of
// its business.
func publicMembers(members map[string]any) ([]byte, error) {
	out := []byte{'{'}
	for _, name := range []string{"kty", "crv", "x", "y", "n", "e"} {
		s, ok := members[name].(string)
		if !ok {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(append(out, '"'), name...), '"', ':')
		var err error
		if out, err = jsontext.AppendQuote(out, s); err != nil {
			return nil, errors.New("the key cannot be read")
		}
	}
	return append(out, '}'), nil
}

// checkRSA refuses moduli out of bounds, and exponents that make signatures forgeable or slow. The exponent is read from
// the JWK, as the integer in the Go key would hold just the low bits of a huge one.
func checkRSA(m *rsa.PublicKey, parsed jwk.Key) error {
	if bits := m.N.BitLen(); bits < minRSABits || bits > maxRSABits || m.N.Bit(0) == 0 {
		return fmt.Errorf("the RSA modulus has %d bits, or is even", bits)
	}
	if fromInfineon(m.N) {
		return errors.New("the RSA modulus is of a kind that can be factored")
	}
	public, ok := parsed.(jwk.RSAPublicKey)
	if !ok {
		return errors.New("the key cannot be read")
	}
	e := new(big.Int).SetBytes(public.E())
	if e.BitLen() > 31 || e.Bit(0) == 0 || e.Cmp(big.NewInt(3)) < 0 {
		return errors.New("the RSA exponent is even, or out of bounds")
	}
	return nil
}

// secretKey is the key of an HMAC secret.
func secretKey(secret []byte, algorithms []string) (*key, error) {
	vs, err := verifiers(algorithms)
	return &key{identity: "secret", material: slices.Clone(secret), verifiers: vs}, err
}

func verifiers(algorithms []string) (map[string]jws.Verifier, error) {
	out := make(map[string]jws.Verifier, len(algorithms))
	for _, alg := range algorithms {
		switch alg {
		case "PS256":
			out[alg] = pss{crypto.SHA256}
		case "PS384":
			out[alg] = pss{crypto.SHA384}
		case "PS512":
			out[alg] = pss{crypto.SHA512}
		default:
			v, err := jws.NewVerifier(jwa.SignatureAlgorithm(alg))
			if err != nil {
				return nil, fmt.Errorf("no verifier for %q: %w", alg, err)
			}
			out[alg] = v
		}
	}
	return out, nil
}

// pss verifies PS256, PS384 and PS512. The salt must be as long as the hash (RFC 7518, section 3.5); jwx takes any length
// (Wycheproof, json_web_signature, SaltLenChanged).
type pss struct{ hash crypto.Hash }

func (v pss) Verify(input, signature []byte, material any) error {
	public, ok := material.(*rsa.PublicKey)
	if !ok {
		return errors.New("not an RSA key")
	}
	h := v.hash.New()
	h.Write(input)
	return rsa.VerifyPSS(public, v.hash, h.Sum(nil), signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
}

// fits reports whether the key may verify signatures of that algorithm: by its type and curve, and by its own alg where
// it has one.
func (k *key) fits(alg string) bool { return k.verifiers[alg] != nil }

// verify checks the signature over the input. The signature must have just the algorithm's length, as some verifiers take
// other ones too (RFC 7518, section 3.4).
func (k *key) verify(alg string, input, signature []byte) bool {
	v := k.verifiers[alg]
	size := k.size
	if size == 0 {
		size = secretSize(alg)
	}
	return v != nil && size > 0 && len(signature) == size && v.Verify(input, signature, k.material) == nil
}
