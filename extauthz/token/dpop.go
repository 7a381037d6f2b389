package token

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/usher-authz/usher/policy"
)

const (
	// proofAlgorithms are those that a proof may be signed with: asymmetric ones only (RFC 9449, section 4.3, check 5).
	proofAlgorithms = "ES256 ES384 ES512 EdDSA PS256 PS384 PS512 RS256 RS384 RS512"
	// proofAge is how old a proof may be, beside the skew (RFC 9449, section 11.1).
	proofAge = time.Minute
	// maxProof bounds a proof in bytes: an RSA key of 8192 bits and its signature fit.
	maxProof = 8 << 10
	// maxJTI bounds what a client may call a proof.
	maxJTI = 256
	// maxProofs bounds how many proofs are remembered for one lifetime, and maxUserProofs those of one user: a client
	// makes as many keys as it likes, and must not take the room of everybody else. The last quarter is for users with fewer
	// than fairProofs: a few that flood together leave it to all others.
	maxProofs, sharedProofs   = 1 << 18, 3 << 16
	maxUserProofs, fairProofs = 1 << 14, 1 << 6
)

// proofs checks DPoP proofs and remembers each for as long as it could be used again. It is safe for concurrent use. The
// memory is this process's own: behind several replicas a proof can be used once at each, within its minute.
type proofs struct {
	skew   time.Duration
	nonces *nonces // nil: none are asked for

	mu       sync.Mutex
	turned   time.Time            // when current began
	current  map[proofID]struct{} // seen since then
	previous map[proofID]struct{} // seen in the lifetime before it
	perUser  map[proofID]int      // how many of current are of one user
}

// proofID is the first half of a SHA-256: a collision would only refuse a good proof.
type proofID [16]byte

func newProofs(skew time.Duration) *proofs { return &proofs{skew: skew} }

// check makes the checks of RFC 9449, section 4.3, in its order where the costs allow it. thumbprint is the token's jkt, d
// the digest of the token, user whom it speaks for.
func (p *proofs) check(c *Credential, thumbprint []byte, d *digest, user string, now time.Time) error {
	if len(c.Proofs) != 1 { // check 1
		return badProof("not just one DPoP header")
	}
	proof := c.Proofs[0]
	if len(proof) > maxProof {
		return badProof("the proof is too long")
	}
	t, err := parseCompact(proof, nil) // checks 2 and 3
	if err != nil {
		return badProof("the proof is no compact JWS with strict JSON")
	}
	if t.typ != "dpop+jwt" { // check 4
		return badProof("the proof's typ is not dpop+jwt")
	}
	if !proofAlgorithm(t.alg) { // check 5
		return badProof("the proof's alg is not accepted")
	}
	members, ok := t.members["jwk"].(map[string]any)
	if !ok {
		return badProof("the proof has no jwk")
	}
	k, err := parseKey(members) // check 7: a private key is refused there
	if err != nil || !k.fits(t.alg) {
		return badProof("the proof's jwk is not a public key that fits its alg")
	}
	if subtle.ConstantTimeCompare(k.thumbprint, thumbprint) != 1 { // check 12, before the costly one
		return unproved("the proof is of another key than the token is bound to")
	}
	if err := p.claims(t.claims, c, d, now); err != nil {
		return err
	}
	if !k.verify(t.alg, t.input, t.signature) { // check 6
		return badProof("the proof's signature does not match")
	}
	if p.nonces != nil { // check 10
		if !p.nonces.good(t.claims["nonce"], now) {
			return p.nonces.useNonce(now)
		}
		if next := p.nonces.current(now); c.NextNonce != nil && next != t.claims["nonce"] {
			*c.NextNonce = next // RFC 9449, section 8.2
		}
	}
	jti, _ := t.claims["jti"].(string)
	return p.remember(k.thumbprint, jti, user, now)
}

// claims makes the checks of RFC 9449, section 4.3, from the eighth on.
func (p *proofs) claims(claims map[string]any, c *Credential, d *digest, now time.Time) error {
	if jti, ok := claims["jti"].(string); !ok || jti == "" || len(jti) > maxJTI {
		return badProof("the proof's jti is missing, no string or too long")
	}
	if htm, ok := claims["htm"].(string); !ok || htm == "" || htm != c.Method {
		return badProof("the proof is for another method")
	}
	if htu, ok := claims["htu"].(string); !ok || !sameTarget(htu, c.URL) {
		return badProof("the proof is for another URL")
	}
	made, ok := numericDate(claims["iat"])
	if !ok || made.After(now.Add(p.skew)) || made.Before(now.Add(-proofAge-p.skew)) {
		return badProof("the proof's iat is missing or out of its window")
	}
	ath, ok := claims["ath"].(string)
	if !ok {
		return badProof("the proof has no ath")
	}
	if sum, err := decodeSegment(ath); err != nil || subtle.ConstantTimeCompare(sum, d[:]) != 1 {
		return badProof("the proof is for another token")
	}
	return nil
}

// remember refuses a proof that was seen before (RFC 9449, section 11.1). Without room to remember it, it is refused as
// our own fault: it could come again unnoticed.
func (p *proofs) remember(thumbprint []byte, jti, user string, now time.Time) error {
	h := sha256.New()
	h.Write(thumbprint) // of one length, so that no other pair gives the same text
	h.Write([]byte(jti))
	name := sha256.Sum256([]byte(user))
	id, of := proofID(h.Sum(nil)[:16]), proofID(name[:16])
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turn(now)
	if _, ok := p.current[id]; ok {
		return badProof("the proof was used before")
	}
	if _, ok := p.previous[id]; ok {
		return badProof("the proof was used before")
	}
	all, own := len(p.current), p.perUser[of]
	if all >= maxProofs || own >= maxUserProofs || all >= sharedProofs && own >= fairProofs {
		return &policy.Refusal{
			Outcome: policy.Unavailable, Detail: "Too many proofs of possession.", RetryAfter: proofAge,
			Err: errors.New("no room to remember another DPoP proof"),
		}
	}
	p.current[id] = struct{}{}
	p.perUser[of]++
	return nil
}

// turn begins a new generation when the current one is as old as a proof can get: from a skew ahead of its iat until a
// minute and a skew after it. So each is remembered for at least that long.
func (p *proofs) turn(now time.Time) {
	lifetime := proofAge + 2*p.skew
	switch age := now.Sub(p.turned); {
	case p.current == nil || age >= 2*lifetime:
		p.previous = nil
	case age >= lifetime:
		p.previous = p.current
	default:
		return
	}
	p.current, p.perUser, p.turned = map[proofID]struct{}{}, map[proofID]int{}, now
}

// ProofAlgs is the auth-param that every DPoP challenge has (RFC 9449, section 7.1).
const ProofAlgs = `algs="` + proofAlgorithms + `"`

// ProofAlgorithms are the algorithms that a DPoP proof may be signed with.
func ProofAlgorithms() []string { return strings.Fields(proofAlgorithms) }

func proofAlgorithm(alg string) bool {
	for known := range strings.SplitSeq(proofAlgorithms, " ") {
		if alg == known {
			return true
		}
	}
	return false
}

// sameTarget compares htu with the URL of the request, both without query and fragment, and normalised by scheme and host
// only (RFC 9449, section 4.3, check 9; RFC 3986, sections 6.2.2.1 and 6.2.3). Paths are compared byte by byte: another
// spelling is refused.
func sameTarget(htu, target string) bool {
	a, ok := normalTarget(htu)
	if !ok {
		return false
	}
	b, ok := normalTarget(target)
	return ok && a == b
}

// normalTarget takes the URL apart by hand: a parser that undoes or adds escapes would make one of two spellings.
func normalTarget(text string) (string, bool) {
	if i := strings.IndexAny(text, "?#"); i >= 0 {
		text = text[:i]
	}
	for i := 0; i < len(text); i++ {
		if c := text[i]; c <= ' ' || c >= 0x7f || c == '\\' { // RFC 3986, section 2: no URI has these
			return "", false
		}
	}
	scheme, rest, found := strings.Cut(text, "://")
	if !found {
		return "", false
	}
	host, path := rest, "/"
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		host, path = rest[:i], rest[i:]
	}
	scheme, host = strings.ToLower(scheme), strings.ToLower(host)
	switch scheme {
	case "https":
		host = strings.TrimSuffix(host, ":443")
	case "http":
		host = strings.TrimSuffix(host, ":80")
	default:
		return "", false
	}
	if host == "" || strings.Contains(host, "@") {
		return "", false
	}
	return scheme + "://" + host + path, true
}
