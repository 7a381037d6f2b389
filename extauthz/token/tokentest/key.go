package tokentest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	_ "crypto/sha512" // for crypto.Hash
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
)

// Algorithms are the signature algorithms that a Key can have (RFC 7518, section 3.1; RFC 8037, section 3.1).
func Algorithms() []string {
	return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "HS256", "HS384", "HS512"}
}

// Key is a signing key. Members says what its JWK carries beside the key material, kid and alg; nil removes one of these.
type Key struct {
	ID, Alg string
	Private crypto.Signer // nil for a secret
	Secret  []byte        // of HS256, HS384 and HS512
	Members map[string]any
}

// NewKey makes a key for the algorithm. RSA keys have 2048 bits and take a while: share them.
func NewKey(id, alg string) *Key {
	k := &Key{ID: id, Alg: alg}
	switch alg {
	case "ES256":
		k.Private = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	case "ES384":
		k.Private = must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	case "ES512":
		k.Private = must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader))
	case "EdDSA":
		_, private, err := ed25519.GenerateKey(rand.Reader)
		k.Private = must(private, err)
	case "HS256", "HS384", "HS512":
		k.Secret = make([]byte, 64)
		must(rand.Read(k.Secret))
	default:
		k.Private = must(rsa.GenerateKey(rand.Reader, 2048))
	}
	return k
}

// As returns the same key under another name or algorithm: what a confused or hostile signer would use.
func (k *Key) As(id, alg string) *Key {
	other := *k
	other.ID, other.Alg = id, alg
	return &other
}

// Thumbprint is the key's RFC 7638 thumbprint with SHA-256, base64url: a `jkt`.
func (k *Key) Thumbprint() string {
	members := material(k.Private.Public())
	text := must(json.Marshal(members)) // names in lexical order and no spaces, as RFC 7638 wants
	sum := sha256.Sum256(text)
	return Base64(sum[:])
}

// JWK is the public half, as a JWK set carries it.
func (k *Key) JWK() map[string]any {
	out := map[string]any{"kid": k.ID, "alg": k.Alg, "use": "sig"}
	var members map[string]any
	if k.Private != nil {
		members = material(k.Private.Public())
	} else {
		members = map[string]any{"kty": "oct", "k": Base64(k.Secret)}
	}
	for _, from := range []map[string]any{members, k.Members} {
		for name, v := range from {
			if out[name] = v; v == nil {
				delete(out, name)
			}
		}
	}
	return out
}

// PrivateJWK is the JWK with its private half, which nobody should publish.
func (k *Key) PrivateJWK() map[string]any {
	out := k.JWK()
	switch p := k.Private.(type) {
	case *rsa.PrivateKey:
		out["d"] = Base64(p.D.Bytes())
	case *ecdsa.PrivateKey:
		out["d"] = Base64(must(p.Bytes()))
	case ed25519.PrivateKey:
		out["d"] = Base64(p.Seed())
	}
	return out
}

func material(public crypto.PublicKey) map[string]any {
	switch p := public.(type) {
	case *rsa.PublicKey:
		return map[string]any{"kty": "RSA", "n": Base64(p.N.Bytes()), "e": Base64(big.NewInt(int64(p.E)).Bytes())}
	case *ecdsa.PublicKey:
		point := must(p.Bytes())[1:] // without the 4 of an uncompressed point
		return map[string]any{"kty": "EC", "crv": p.Curve.Params().Name, "x": Base64(point[:len(point)/2]), "y": Base64(point[len(point)/2:])}
	case ed25519.PublicKey:
		return map[string]any{"kty": "OKP", "crv": "Ed25519", "x": Base64(p)}
	}
	panic(fmt.Sprintf("no JWK for %T", public))
}

// Signature signs the input with the key as the algorithm says, be it the key's own or not.
func (k *Key) Signature(alg string, input []byte) []byte {
	if alg == "EdDSA" {
		return must(k.Private.Sign(rand.Reader, input, crypto.Hash(0)))
	}
	hash := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}[alg[2:]]
	if alg[:2] == "HS" {
		mac := hmac.New(hash.New, k.Secret)
		mac.Write(input)
		return mac.Sum(nil)
	}
	h := hash.New()
	h.Write(input)
	sum := h.Sum(nil)
	switch alg[:2] {
	case "PS":
		return must(k.Private.Sign(rand.Reader, sum, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}))
	case "ES":
		private := k.Private.(*ecdsa.PrivateKey)
		r, s, err := ecdsa.Sign(rand.Reader, private, sum)
		if err != nil {
			panic(err)
		}
		size := (private.Curve.Params().BitSize + 7) / 8
		out := make([]byte, 2*size)
		r.FillBytes(out[:size])
		s.FillBytes(out[size:])
		return out
	}
	return must(k.Private.Sign(rand.Reader, sum, hash))
}

// Base64 is base64url without padding (RFC 7515, section 2).
func Base64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
