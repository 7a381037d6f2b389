package token

import (
	"crypto/sha256"
	"crypto/subtle"
)

// binding is what `cnf` (RFC 7800) binds a token to. A nil binding is a bearer token.
type binding struct {
	certificate []byte // SHA-256 of the certificate (RFC 8705, section 3.1)
}

// bindingOf reads cnf. What it says in another way than is known here cannot be checked: the token is refused.
func bindingOf(claims map[string]any) (*binding, error) {
	v, ok := claims["cnf"]
	if !ok {
		return nil, nil
	}
	cnf, ok := v.(map[string]any)
	if !ok || len(cnf) != 1 {
		return nil, bad("cnf is not understood")
	}
	text, ok := cnf["x5t#S256"].(string)
	if !ok {
		return nil, bad("cnf asks for a proof of possession that is not supported")
	}
	sum, err := decodeSegment(text)
	if err != nil || len(sum) != sha256.Size {
		return nil, bad("cnf is not understood")
	}
	return &binding{certificate: sum}, nil
}

// check compares the binding with what the request shows.
func (b *binding) check(c Credential) error {
	if b == nil {
		if c.Scheme == "DPoP" {
			return bad("DPoP scheme with a token that is not bound to a key")
		}
		return nil
	}
	if c.Scheme != "Bearer" || c.Certificate == nil {
		return bad("the token is bound to a certificate that the request does not show")
	}
	if sum := sha256.Sum256(c.Certificate); subtle.ConstantTimeCompare(sum[:], b.certificate) != 1 {
		return bad("the token is bound to another certificate")
	}
	return nil
}
