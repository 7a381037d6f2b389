package token

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"

	"github.com/usher-authz/usher/policy"
)

// binding is what `cnf` (RFC 7800) binds a token to: every part that is not nil must be proved. A nil *binding is a
// bearer token.
type binding struct {
	certificate []byte // SHA-256 of the client's certificate (RFC 8705, section 3.1)
	key         []byte // SHA-256 thumbprint of the key that signs DPoP proofs (RFC 9449, section 6.1)
}

// bindingOf reads cnf. RFC 7800, section 3.1, lets a reader ignore members that it does not know; here a member that
// cannot be checked refuses the token, as a proof that was asked for and not made is no proof.
func bindingOf(claims map[string]any) (*binding, error) {
	v, ok := claims["cnf"]
	if !ok {
		return nil, nil
	}
	cnf, ok := v.(map[string]any)
	if !ok || len(cnf) == 0 {
		return nil, bad("cnf is not understood")
	}
	b := &binding{}
	for name, value := range cnf {
		text, ok := value.(string)
		if !ok {
			return nil, bad("cnf is not understood")
		}
		sum, err := decodeSegment(text)
		if err != nil || len(sum) != sha256.Size {
			return nil, bad("cnf is not understood")
		}
		switch name {
		case "x5t#S256":
			b.certificate = sum
		case "jkt":
			b.key = sum
		default:
			return nil, bad("cnf asks for a proof of possession that is not known")
		}
	}
	return b, nil
}

// prove compares a verified token's binding with what the request shows. d is the digest of the token.
func (r *rules) prove(v *verified, c *Credential, d *digest) error {
	b := v.binding
	if b == nil || b.key == nil {
		// RFC 9449, section 7.1: the DPoP scheme is for bound tokens.
		if c.Scheme != "Bearer" {
			return unproved("the scheme is not Bearer, and the token is not bound to a key")
		}
	}
	if b == nil {
		if r.bound {
			return unproved("the token is bound to nothing, and a proof of possession is required")
		}
		return nil
	}
	if b.certificate != nil {
		sum := c.CertificateSum
		if len(c.Certificate) > 0 {
			of := sha256.Sum256(c.Certificate)
			sum = of[:]
		}
		if len(sum) == 0 {
			return bad("the token is bound to a certificate, and the request showed none that can be read")
		}
		if subtle.ConstantTimeCompare(sum, b.certificate) != 1 {
			return bad("the token is bound to another certificate")
		}
	}
	if b.key != nil {
		// RFC 9449, section 7.1: a bound token is not accepted as a bearer token, even with a proof beside it.
		if c.Scheme != "DPoP" {
			return unproved("the token is bound to a key, and the scheme is not DPoP")
		}
		return r.proofs.check(c, b.key, d, v.identity.Name, r.now())
	}
	return nil
}

// badProof refuses a request for its DPoP proof: the challenge says so, and how one may be signed (RFC 9449, section 7.1).
func badProof(reason string) error {
	return &policy.Refusal{
		Outcome: policy.Unauthenticated, Detail: "The proof of possession is not valid.", Err: errors.New(reason),
		Scheme:    "DPoP",
		Challenge: `error="invalid_dpop_proof", error_description="The DPoP proof is not valid for this request.", ` + ProofAlgs,
	}
}

// unproved refuses a token that is not bound as it was shown, whatever proof is beside it. The challenge is of the scheme that
// was used (RFC 9449, section 7.1).
func unproved(reason string) error {
	return invalid("The access token and the proof of possession do not go together.", errors.New(reason))
}
