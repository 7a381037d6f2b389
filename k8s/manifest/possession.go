package manifest

import (
	"fmt"

	"github.com/usher-authz/usher/extauthz/token"
)

// minNonceKey is as long as the hash that nonces are made by (RFC 2104, section 3).
const minNonceKey = 32

// possession checks which proofs tokens need.
func (c *compiler) possession(o *Object) token.ProofOfPossession {
	in := o.IdentityProvider.Spec.ProofOfPossession
	out := token.ProofOfPossession{Required: in.Required, Nonces: in.Nonces}
	if in.NonceKeyRef == nil {
		return out
	}
	at := o.at("spec", "proofOfPossession", "nonceKeyRef")
	if !in.Nonces && !o.broken {
		c.add(at, "found a key for nonces without nonces: true", "both or none", "")
	}
	out.NonceKey = c.secret(o, *in.NonceKeyRef, "nonceKey", "spec", "proofOfPossession", "nonceKeyRef")
	if out.NonceKey != nil && len(out.NonceKey) < minNonceKey {
		c.add(at, fmt.Sprintf("found a nonce key of %d bytes", len(out.NonceKey)), fmt.Sprintf("at least %d", minNonceKey), "whoever guesses it can make nonces")
	}
	return out
}
