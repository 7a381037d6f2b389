package token

import (
	"errors"
	"fmt"
)

// VerifySignature reports whether a key of the JWK set verifies the signature over input by alg, just as tokens are
// verified: the same keys are left out, the same lengths are asked for. No token passes through here; it is there for
// other people's test vectors, whose input is no token.
func VerifySignature(set []byte, alg string, input, signature []byte) bool {
	keys, err := parseKeys(set)
	if err != nil {
		return false
	}
	signer, _ := (&keySet{keys: keys}).verify(&compact{header: &header{alg: alg}, input: input, signature: signature})
	return signer != nil
}

// VerifyJWS takes a compact JWS apart and verifies its signature by the JWK set, or by the HMAC secret where one is given,
// just as with tokens, and returns the payload, which need not be claims. No token passes through here; it is there for
// other people's test vectors.
func VerifyJWS(set, secret []byte, text string) ([]byte, error) {
	t, payload, err := takeApart(text, nil)
	if err != nil {
		return nil, err
	}
	decoded, err := decodeSegment(payload)
	if err != nil {
		return nil, bad("payload: " + err.Error())
	}
	var keys []*key
	if secret != nil {
		algorithms := []string{"HS256", "HS384", "HS512"}
		for len(algorithms) > 0 && len(secret) < secretSize(algorithms[len(algorithms)-1]) {
			algorithms = algorithms[:len(algorithms)-1]
		}
		k, err := secretKey(secret, algorithms)
		if err != nil {
			return nil, fmt.Errorf("read the secret: %w", err)
		}
		keys = []*key{k}
	} else if keys, err = parseKeys(set); err != nil {
		return nil, err
	}
	if signer, _ := (&keySet{keys: keys}).verify(t); signer == nil {
		return nil, errors.New("no key verifies the signature")
	}
	return decoded, nil
}
