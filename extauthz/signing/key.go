package signing

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
)

// minRSABits is from RFC 7518, section 3.3; maxRSABits bounds what one signature costs.
const minRSABits, maxRSABits = 2048, 8192

// Key is a private key and the one algorithm that it signs by. It never changes and is safe for concurrent use. Make one
// with [Parse]; the zero Key signs nothing.
type Key struct {
	private crypto.Signer
	alg     string
	kid     string // as the JWK says; empty: it says none
	public  map[string]string
}

// String shows what may be shown: the algorithm and the thumbprint.
func (k *Key) String() string { return k.alg + " key " + k.Thumbprint() }

// Algorithm is ES256, EdDSA, RS256 or PS256 (RFC 7518, section 3.1; RFC 8037, section 3.1).
func (k *Key) Algorithm() string { return k.alg }

// ID is the `kid` that the key was given in a JWK; empty if it has none.
func (k *Key) ID() string { return k.kid }

// Public returns the public key.
func (k *Key) Public() crypto.PublicKey { return k.private.Public() }

// Thumbprint is the SHA-256 thumbprint of RFC 7638 in base64url.
func (k *Key) Thumbprint() string {
	// json.Marshal sorts the names of a map, and writes no white space, as section 3.3 asks.
	text, err := json.Marshal(k.public)
	if err != nil {
		return "" // a map of strings can be written
	}
	sum := sha256.Sum256(text)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// JWK is the public key as a JWK (RFC 7517) with this kid.
func (k *Key) JWK(kid string) (json.RawMessage, error) {
	members := map[string]string{"kid": kid, "alg": k.alg, "use": "sig"}
	for name, value := range k.public {
		members[name] = value
	}
	return json.Marshal(members)
}

// newKey checks the private key, and settles its algorithm; alg may be empty.
func newKey(private crypto.Signer, alg, kid string) (*Key, error) {
	k := &Key{private: private, kid: kid}
	b64 := base64.RawURLEncoding.EncodeToString
	var fits []string // the first by default
	switch p := private.(type) {
	case *ecdsa.PrivateKey:
		if p.Curve != elliptic.P256() {
			return nil, fmt.Errorf("found an EC key of curve %s, expected P-256", p.Curve.Params().Name)
		}
		point, err := p.PublicKey.Bytes()
		if err != nil {
			return nil, errors.New("found an EC key that is no point of its curve")
		}
		fits, k.public = []string{"ES256"}, map[string]string{"kty": "EC", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:])}
	case ed25519.PrivateKey:
		fits, k.public = []string{"EdDSA"}, map[string]string{"kty": "OKP", "crv": "Ed25519", "x": b64(p[32:])}
	case *rsa.PrivateKey:
		if bits := p.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return nil, fmt.Errorf("found an RSA key of %d bits, expected %d to %d", bits, minRSABits, maxRSABits)
		}
		if err := p.Validate(); err != nil {
			return nil, errors.New("found an RSA key whose parts do not fit together")
		}
		p.Precompute()
		fits, k.public = []string{"RS256", "PS256"}, map[string]string{"kty": "RSA", "n": b64(p.N.Bytes()), "e": b64(big.NewInt(int64(p.E)).Bytes())}
	default:
		return nil, errors.New("found a key of a type that signs no token here, expected EC P-256, Ed25519 or RSA")
	}
	k.alg = fits[0]
	if alg != "" {
		k.alg = ""
		for _, a := range fits {
			if a == alg {
				k.alg = a
			}
		}
	}
	if k.alg == "" {
		return nil, fmt.Errorf("found a key whose alg does not fit it, expected %v", fits)
	}
	return k, nil
}

// Header is the first part of every token that the key signs, encoded. An empty kid leaves it out.
func (k *Key) Header(typ, kid string) (string, error) {
	members := map[string]string{"alg": k.alg, "typ": typ}
	if kid != "" {
		members["kid"] = kid
	}
	text, err := json.Marshal(members)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(text), nil
}

// Sign returns the compact token (RFC 7515, section 7.1) of a header that [Key.Header] made and of claims, a JSON object.
func (k *Key) Sign(header string, claims []byte) (string, error) {
	if k == nil || k.private == nil {
		return "", errors.New("sign: no key")
	}
	b64 := base64.RawURLEncoding
	token := make([]byte, 0, len(header)+b64.EncodedLen(len(claims))+2+b64.EncodedLen(64))
	token = append(append(token, header...), '.')
	token = b64.AppendEncode(token, claims)
	signature, err := k.signature(token)
	if err != nil {
		return "", fmt.Errorf("sign by %s: %w", k.alg, err)
	}
	return string(b64.AppendEncode(append(token, '.'), signature)), nil
}

func (k *Key) signature(input []byte) ([]byte, error) {
	if k.alg == "EdDSA" {
		return k.private.Sign(nil, input, crypto.Hash(0))
	}
	sum := sha256.Sum256(input)
	var options crypto.SignerOpts = crypto.SHA256
	if k.alg == "PS256" {
		options = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256} // RFC 7518, section 3.5
	}
	signature, err := k.private.Sign(rand.Reader, sum[:], options)
	if err != nil || k.alg != "ES256" {
		return signature, err
	}
	// RFC 7518, section 3.4: both numbers in full length, and not as ASN.1.
	var pair struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(signature, &pair); err != nil || len(rest) > 0 {
		return nil, errors.New("a signature that cannot be read")
	}
	out := make([]byte, 64)
	pair.R.FillBytes(out[:32])
	pair.S.FillBytes(out[32:])
	return out, nil
}
