package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"

	"github.com/usher-authz/usher/policy"
)

// This is the only file that imports jwx. It turns JWKs into keys and checks signatures; which key may check which
// token is decided here too, as it is a property of the key (RFC 8725, section 3.1).

// key is one verification key of an issuer.
type key struct {
	kid        string
	thumbprint string
	alg        string // the key's own; empty: any that fits its type
	material   any
	curve      string // of an EC key
}

// asymmetric are the algorithms accepted by default.
var asymmetric = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// hmacSizes are the HMAC algorithms and how long a secret must be at least (RFC 7518, section 3.2).
var hmacSizes = map[string]int{"HS256": 32, "HS384": 48, "HS512": 64}

const (
	// maxKeys bounds how many keys of a set are looked at.
	maxKeys = 200
	// minRSABits is from RFC 7518, section 3.3; maxRSABits bounds what one verification costs.
	minRSABits, maxRSABits = 2048, 8192
)

// parseKeys reads a JWK set (RFC 7517, section 5). A key that cannot verify a signature safely is left out and does not
// spoil the others: an unknown type, a secret or private one, one for encryption, one that is too small. Of several keys
// with one kid all are kept.
func parseKeys(set []byte) ([]key, error) {
	v, err := policy.ParseValue(set)
	if err != nil {
		return nil, errors.New("the JWK set is not strict JSON")
	}
	object, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("the JWK set is not a JSON object")
	}
	list, ok := object["keys"].([]any)
	if !ok {
		return nil, errors.New(`the JWK set has no list "keys"`)
	}
	var keys []key
	for i, item := range list {
		if i == maxKeys {
			break
		}
		if k, ok := parseKey(item); ok {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

func parseKey(item any) (key, bool) {
	members, ok := item.(map[string]any)
	if !ok {
		return key{}, false
	}
	for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
		if _, ok := members[private]; ok {
			return key{}, false
		}
	}
	for _, name := range []string{"kid", "alg", "use"} {
		if v, ok := members[name]; ok {
			if _, ok := v.(string); !ok && v != nil {
				return key{}, false
			}
		}
	}
	if use, _ := members["use"].(string); use != "" && use != "sig" {
		return key{}, false
	}
	if ops, ok := members["key_ops"]; ok && ops != nil {
		if list, ok := ops.([]any); !ok || !slices.Contains(list, any("verify")) {
			return key{}, false
		}
	}
	text, err := marshal(members)
	if err != nil {
		return key{}, false
	}
	parsed, err := jwk.ParseKey(text)
	if err != nil {
		return key{}, false
	}
	k := key{kid: parsed.KeyID()}
	k.alg, _ = members["alg"].(string)
	if parsed.Raw(&k.material) != nil {
		return key{}, false
	}
	sum, err := parsed.Thumbprint(crypto.SHA256)
	if err != nil {
		return key{}, false
	}
	// The key's own alg and kid are part of what a withdrawal is about.
	k.thumbprint = string(sum) + "/" + k.alg + "/" + k.kid
	switch m := k.material.(type) {
	case *rsa.PublicKey:
		if bits := m.N.BitLen(); bits < minRSABits || bits > maxRSABits || m.E < 3 || m.E%2 == 0 {
			return key{}, false
		}
	case *ecdsa.PublicKey:
		if _, err := m.ECDH(); err != nil { // not on the curve
			return key{}, false
		}
		k.curve = m.Curve.Params().Name
	case ed25519.PublicKey:
	default:
		return key{}, false
	}
	return k, true
}

func marshal(members map[string]any) ([]byte, error) {
	out := []byte{'{'}
	for name, v := range members {
		s, ok := v.(string)
		if !ok {
			continue // lists such as x5c and key_ops say nothing about the material
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		var err error
		if out, err = jsontext.AppendQuote(out, name); err != nil {
			return nil, err
		}
		out = append(out, ':')
		if out, err = jsontext.AppendQuote(out, s); err != nil {
			return nil, err
		}
	}
	return append(out, '}'), nil
}

// fits reports whether the key may verify a signature of that algorithm: by its own alg where it has one, and by its
// type and curve always (RFC 7518, section 3.1).
func (k *key) fits(alg string) bool {
	if k.alg != "" && k.alg != alg {
		return false
	}
	switch k.material.(type) {
	case *rsa.PublicKey:
		return alg[:2] == "RS" || alg[:2] == "PS"
	case *ecdsa.PublicKey:
		return alg == "ES256" && k.curve == "P-256" || alg == "ES384" && k.curve == "P-384" || alg == "ES512" && k.curve == "P-521"
	case ed25519.PublicKey:
		return alg == "EdDSA"
	case []byte:
		return alg[:2] == "HS"
	}
	return false
}

// check verifies the signature over the signing input. The length of the signature must be just the algorithm's, as some
// verifiers take longer ones (RFC 7518, section 3.4).
func (k *key) check(alg string, input, signature []byte) error {
	size := map[string]int{"ES256": 64, "ES384": 96, "ES512": 132, "EdDSA": 64, "HS256": 32, "HS384": 48, "HS512": 64}[alg]
	if m, ok := k.material.(*rsa.PublicKey); ok {
		size = m.Size()
	}
	if len(signature) != size || size == 0 {
		return errors.New("signature has the wrong length")
	}
	verifier, err := jws.NewVerifier(jwa.SignatureAlgorithm(alg))
	if err != nil {
		return fmt.Errorf("no verifier for %q", alg)
	}
	if verifier.Verify(input, signature, k.material) != nil {
		return errors.New("signature does not match")
	}
	return nil
}

// compact is a JWS in its compact form, taken apart (RFC 7515, section 7.1).
type compact struct {
	alg, kid, typ string
	hasKid        bool
	input         []byte // what is signed
	signature     []byte
	header        map[string]any
	claims        map[string]any
}

var strict = base64.RawURLEncoding.Strict()

// decodeSegment undoes base64url without padding, in its one canonical spelling. Go's decoder skips line breaks, so that
// they are refused first.
func decodeSegment(text string) ([]byte, error) {
	for i := 0; i < len(text); i++ {
		c := text[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return nil, errors.New("not base64url")
		}
	}
	return strict.DecodeString(text)
}

// looksLikeJWS reports whether the text has the form of a compact JWS: three segments.
func looksLikeJWS(text string) bool {
	dots := 0
	for i := 0; i < len(text); i++ {
		if text[i] == '.' {
			if dots++; dots > 2 {
				return false
			}
		}
	}
	return dots == 2
}

func parseCompact(text string) (*compact, error) {
	if len(text) > maxToken {
		return nil, bad("token is too long")
	}
	if !looksLikeJWS(text) {
		return nil, bad("token is not a compact JWS")
	}
	var segments [3]string
	for i, start := 0, 0; i < 3; i++ {
		end := start
		for end < len(text) && text[end] != '.' {
			end++
		}
		segments[i] = text[start:end]
		start = end + 1
	}
	c := &compact{input: []byte(text[:len(segments[0])+1+len(segments[1])])}
	var err error
	if c.header, err = decodeObject(segments[0]); err != nil {
		return nil, bad("header: " + err.Error())
	}
	if c.claims, err = decodeObject(segments[1]); err != nil {
		return nil, bad("claims: " + err.Error())
	}
	if c.signature, err = decodeSegment(segments[2]); err != nil {
		return nil, bad("signature is not canonical base64url")
	}
	var ok bool
	if c.alg, ok = c.header["alg"].(string); !ok {
		return nil, bad("alg is no string")
	}
	if _, ok := c.header["crit"]; ok {
		return nil, bad("crit is not supported")
	}
	if _, ok := c.header["b64"]; ok {
		return nil, bad("b64 is not supported")
	}
	if v, ok := c.header["kid"]; ok {
		if c.kid, c.hasKid = v.(string); !c.hasKid {
			return nil, bad("kid is no string")
		}
	}
	if v, ok := c.header["typ"]; ok {
		if c.typ, ok = v.(string); !ok {
			return nil, bad("typ is no string")
		}
	}
	if v, ok := c.header["cty"]; ok && v != nil {
		return nil, bad("nested tokens are not supported")
	}
	return c, nil
}

func decodeObject(segment string) (map[string]any, error) {
	text, err := decodeSegment(segment)
	if err != nil {
		return nil, errors.New("not canonical base64url")
	}
	v, err := policy.ParseValue(text)
	if err != nil {
		return nil, errors.New("not strict JSON")
	}
	object, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("not a JSON object")
	}
	return object, nil
}
