package signing

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// maxText bounds a key in bytes: an RSA key of the largest size is about 6 kB of PEM.
const maxText = 32 << 10

// Parse reads just one private key: a JWK (RFC 7517), or PEM with PKCS #8, SEC 1 or PKCS #1. The key is EC on curve P-256,
// Ed25519, or RSA of 2048 to 8192 bits; an RSA key signs by RS256 unless its JWK says PS256. The error says what was found
// and what was expected, and holds nothing of the key.
func Parse(text []byte) (*Key, error) {
	if len(text) > maxText {
		return nil, fmt.Errorf("found %d bytes, expected a private key of at most %d", len(text), maxText)
	}
	text = bytes.TrimSpace(text)
	switch {
	case len(text) == 0:
		return nil, errors.New("found nothing, expected a private key as JWK or PEM")
	case text[0] == '{':
		return parseJWK(text)
	}
	return parsePEM(text)
}

func parsePEM(text []byte) (*Key, error) {
	var key *Key
	for len(text) > 0 {
		block, rest := pem.Decode(text)
		if block == nil || !bytes.HasPrefix(text, []byte("-----BEGIN ")) {
			return nil, errors.New("found text that is neither a JWK nor PEM, expected a private key")
		}
		text = bytes.TrimSpace(rest)
		if block.Type == "EC PARAMETERS" { // which openssl writes before a key; the key names its curve too
			continue
		}
		if key != nil {
			return nil, errors.New("found more than one key, expected one: name a key of the Secret for each")
		}
		private, err := readBlock(block)
		if err != nil {
			return nil, err
		}
		if key, err = newKey(private, "", ""); err != nil {
			return nil, err
		}
	}
	if key == nil {
		return nil, errors.New("found no key, expected a private key")
	}
	return key, nil
}

func readBlock(block *pem.Block) (crypto.Signer, error) {
	if block.Headers["DEK-Info"] != "" || block.Type == "ENCRYPTED PRIVATE KEY" {
		return nil, errors.New("found a key that is encrypted, expected one without a password")
	}
	var private any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		private, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		private, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		private, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "PUBLIC KEY", "RSA PUBLIC KEY", "CERTIFICATE":
		return nil, fmt.Errorf("found PEM of type %s, expected a private key", block.Type)
	default:
		return nil, errors.New("found PEM of another type, expected PRIVATE KEY, EC PRIVATE KEY or RSA PRIVATE KEY")
	}
	signer, ok := private.(crypto.Signer)
	if err != nil || !ok {
		return nil, fmt.Errorf("found a %s that cannot be read, expected EC P-256, Ed25519 or RSA", block.Type)
	}
	return signer, nil
}

// jwk holds the members of a private key (RFC 7518, sections 6.2 and 6.3; RFC 8037, section 2).
type jwk struct {
	Kty string   `json:"kty"`
	Crv string   `json:"crv"`
	Kid string   `json:"kid"`
	Alg string   `json:"alg"`
	Use string   `json:"use"`
	Ops []string `json:"key_ops"`

	X, Y, D, N, E, P, Q member

	Keys  json.RawMessage `json:"keys"`
	Other json.RawMessage `json:"oth"`
}

// member is a base64url text; nil where there is none.
type member []byte

func (m *member) UnmarshalJSON(text []byte) error {
	var s string
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	*m = b
	return err
}

func parseJWK(text []byte) (*Key, error) {
	var j jwk
	if json.Unmarshal(text, &j) != nil { // its error could quote the key
		return nil, errors.New("found a JWK that cannot be read")
	}
	switch {
	case j.Keys != nil:
		return nil, errors.New("found a JWK set, expected one key: name a key of the Secret for each")
	case j.Kty == "oct":
		return nil, errors.New("found a shared secret (kty oct), expected a private key")
	case j.Kty == "":
		return nil, errors.New("found JSON without kty, expected a JWK")
	case len(j.D) == 0:
		return nil, errors.New("found a public key (no d), expected a private one")
	case j.Use != "" && j.Use != "sig", j.Ops != nil && !slices.Contains(j.Ops, "sign"):
		return nil, errors.New("found a key that is not for signatures (use, key_ops)")
	}
	private, err := j.private()
	if err != nil {
		return nil, err
	}
	return newKey(private, j.Alg, j.Kid)
}

func (j *jwk) private() (crypto.Signer, error) {
	switch {
	case j.Kty == "EC" && j.Crv == "P-256":
		p, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), j.D)
		if err != nil {
			return nil, errors.New("found an EC key that cannot be read")
		}
		point, err := p.PublicKey.Bytes()
		if err != nil || !bytes.Equal(point[1:33], j.X) || !bytes.Equal(point[33:], j.Y) {
			return nil, errors.New("found an EC key whose x and y do not belong to its d")
		}
		return p, nil
	case j.Kty == "OKP" && j.Crv == "Ed25519":
		if len(j.D) != ed25519.SeedSize {
			return nil, errors.New("found an Ed25519 key of the wrong length")
		}
		p := ed25519.NewKeyFromSeed(j.D)
		if !bytes.Equal(p[32:], j.X) {
			return nil, errors.New("found an Ed25519 key whose x does not belong to its d")
		}
		return p, nil
	case j.Kty == "RSA":
		return j.rsa()
	}
	return nil, errors.New("found a key of another type or curve, expected EC P-256, Ed25519 or RSA")
}

func (j *jwk) rsa() (crypto.Signer, error) {
	switch {
	case j.Other != nil:
		return nil, errors.New("found an RSA key with more than two primes")
	case len(j.P) == 0 || len(j.Q) == 0:
		return nil, errors.New("found an RSA key without its primes p and q")
	case len(j.N) > maxRSABits/8+1 || len(j.E) == 0 || len(j.E) > 4:
		return nil, errors.New("found an RSA key with a modulus or exponent out of bounds")
	}
	number := func(b []byte) *big.Int { return new(big.Int).SetBytes(b) }
	p := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: number(j.N), E: int(number(j.E).Int64())},
		D:         number(j.D), Primes: []*big.Int{number(j.P), number(j.Q)},
	}
	return p, nil
}
