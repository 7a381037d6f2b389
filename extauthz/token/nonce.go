package token

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/usher-authz/usher/policy"
)

const (
	// nonceStep is how often there is a new nonce.
	nonceStep = time.Minute
	// nonceSteps is how many steps a nonce stays good for.
	nonceSteps = 5
	// minNonceKey is how many bytes a configured key must have at least.
	minNonceKey = 32
)

// nonces makes and checks the nonces of DPoP proofs (RFC 9449, sections 8 and 9). Nothing is kept: a nonce is the time of its
// step, and a keyed hash of that. So every replica with the same key takes the nonces of all. It is immutable.
type nonces struct{ key []byte }

// newNonces takes the key, or makes one of this process's own.
func newNonces(key []byte) (*nonces, error) {
	switch {
	case len(key) == 0:
		key = make([]byte, sha256.Size)
		_, _ = rand.Read(key) // never fails (crypto/rand)
	case len(key) < minNonceKey:
		return nil, fmt.Errorf("a nonce key of %d bytes, expected at least %d", len(key), minNonceKey)
	}
	return &nonces{key: key}, nil
}

// current is the nonce of the present step.
func (n *nonces) current(now time.Time) string {
	return n.at(now.Unix() / int64(nonceStep/time.Second))
}

func (n *nonces) at(step int64) string {
	out := binary.BigEndian.AppendUint64(make([]byte, 0, 24), uint64(step))
	h := hmac.New(sha256.New, n.key)
	h.Write([]byte("usher dpop nonce\x00"))
	h.Write(out)
	return base64.RawURLEncoding.EncodeToString(append(out, h.Sum(nil)[:16]...))
}

// good reports whether the nonce is one of the last few steps; of the next one too, as another replica's clock may be ahead.
func (n *nonces) good(nonce any, now time.Time) bool {
	text, ok := nonce.(string)
	if !ok || len(text) != 32 {
		return false
	}
	raw, err := decodeSegment(text)
	if err != nil || len(raw) != 24 {
		return false
	}
	step := int64(binary.BigEndian.Uint64(raw))
	age := now.Unix()/int64(nonceStep/time.Second) - step
	return age >= -1 && age < nonceSteps && hmac.Equal([]byte(n.at(step)), []byte(text))
}

// useNonce tells the client which nonce to put into its proof (RFC 9449, section 9).
func (n *nonces) useNonce(now time.Time) error {
	return &policy.Refusal{
		Outcome: policy.Unauthenticated, Detail: "The proof of possession needs a nonce.", Nonce: n.current(now),
		Err:       errors.New("the proof has no nonce, or an old one"),
		Scheme:    "DPoP",
		Challenge: `error="use_dpop_nonce", error_description="The DPoP proof needs the nonce of header DPoP-Nonce.", ` + ProofAlgs,
	}
}
