package tokentest

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"maps"
	"time"
)

// Claims are the members of a JSON object.
type Claims = map[string]any

// With returns a copy of base with the changes laid over it; a nil value removes a member. For a JSON null use
// json.RawMessage("null").
func With(base Claims, changes ...Claims) Claims {
	out := maps.Clone(base)
	if out == nil {
		out = Claims{}
	}
	for _, c := range changes {
		for name, v := range c {
			if out[name] = v; v == nil {
				delete(out, name)
			}
		}
	}
	return out
}

// Sign makes a compact JWS of raw header and payload text, which need not be JSON, by the algorithm, which need not be
// the header's. A nil key leaves the signature empty.
func Sign(key *Key, alg string, header, payload []byte) string {
	input := Base64(header) + "." + Base64(payload)
	if key == nil {
		return input + "."
	}
	return input + "." + Base64(key.Signature(alg, []byte(input)))
}

// Token is a JWT by its parts.
type Token struct {
	Header Claims
	Claims Claims
	Key    *Key   // nil: not signed
	Alg    string // how it is really signed; empty: the key's own
}

// String mints the token.
func (t Token) String() string {
	alg := t.Alg
	if alg == "" && t.Key != nil {
		alg = t.Key.Alg
	}
	return Sign(t.Key, alg, must(json.Marshal(t.Header)), must(json.Marshal(t.Claims)))
}

// Proof is a DPoP proof (RFC 9449, section 4.2) for the token, good now. Changes are laid over its claims.
func Proof(key *Key, method, url, token string, now time.Time, changes ...Claims) Token {
	ath := sha256.Sum256([]byte(token))
	jwk := key.JWK()
	for _, name := range []string{"kid", "alg", "use"} {
		delete(jwk, name)
	}
	return Token{
		Header: Claims{"typ": "dpop+jwt", "alg": key.Alg, "jwk": jwk},
		Claims: With(Claims{"jti": rand.Text(), "htm": method, "htu": url, "iat": now.Unix(), "ath": Base64(ath[:])}, changes...),
		Key:    key,
	}
}
