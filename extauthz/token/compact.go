package token

import (
	"encoding/base64"
	"errors"
	"slices"
	"strings"

	"github.com/usher-authz/usher/policy"
)

// maxToken bounds a token in bytes, before anything of it is decoded.
const maxToken = 16 << 10

// compact is a JWS in its compact form, taken apart (RFC 7515, section 7.1). Nothing of it is verified yet.
type compact struct {
	alg, kid, typ string
	hasKid        bool
	input         []byte // what is signed
	signature     []byte
	header        map[string]any
	claims        map[string]any
}

// looksLikeJWS reports whether the text has three segments of which the first is a JWS header. Opaque tokens may have
// dots too. It stops at the third dot, so that a token of nothing but dots costs nothing (CVE-2025-30204).
func looksLikeJWS(text string) bool {
	header, rest, found := strings.Cut(text, ".")
	if !found || !twoSegments(rest) {
		return false
	}
	object, err := decodeObject(header)
	if err != nil {
		return false
	}
	_, ok := object["alg"]
	return ok
}

// twoSegments reports whether the text has just one dot.
func twoSegments(text string) bool {
	i := strings.IndexByte(text, '.')
	return i >= 0 && strings.IndexByte(text[i+1:], '.') < 0
}

// parseCompact takes a token apart so that every byte has one reading: canonical base64url, strict JSON, header
// parameters of the right type. Extensions that would change how the rest is read are refused. Parameters that carry or
// point to keys (jwk, jku, x5c, x5u) are never looked at (RFC 8725, section 3.10).
func parseCompact(text string) (*compact, error) {
	if len(text) > maxToken {
		return nil, bad("token is too long")
	}
	header, rest, found := strings.Cut(text, ".")
	if !found || !twoSegments(rest) {
		return nil, bad("token is not a compact JWS")
	}
	payload, signature, _ := strings.Cut(rest, ".")
	t := &compact{input: []byte(text[:len(header)+1+len(payload)])}
	var err error
	if t.header, err = decodeObject(header); err != nil {
		return nil, bad("header: " + err.Error())
	}
	if err := t.readHeader(); err != nil {
		return nil, err
	}
	if t.claims, err = decodeObject(payload); err != nil {
		return nil, bad("claims: " + err.Error())
	}
	if t.signature, err = decodeSegment(signature); err != nil {
		return nil, bad("signature: " + err.Error())
	}
	return t, nil
}

// readHeader checks the parameters of RFC 7515, section 4.1, that matter here.
func (t *compact) readHeader() error {
	var ok bool
	if t.alg, ok = t.header["alg"].(string); !ok {
		return bad("alg is no string") // RFC 7515, section 4.1.1
	}
	if _, ok := t.header["crit"]; ok {
		return bad("crit names extensions, none of which is known") // RFC 7515, section 4.1.11
	}
	if _, ok := t.header["b64"]; ok {
		return bad("b64 is not supported") // RFC 7797, section 6
	}
	if v, ok := t.header["kid"]; ok {
		if t.kid, t.hasKid = v.(string); !t.hasKid || t.kid == "" {
			return bad("kid is no string that names a key") // RFC 7515, section 4.1.4
		}
	}
	if v, ok := t.header["typ"]; ok {
		if t.typ, ok = v.(string); !ok {
			return bad("typ is no string") // RFC 7515, section 4.1.9
		}
	}
	if v, ok := t.header["cty"]; ok {
		cty, ok := v.(string)
		if !ok || mediaType(cty) == "jwt" {
			return bad("cty says that the token is nested") // RFC 7519, section 5.2
		}
	}
	return nil
}

// decodeSegment undoes base64url without padding in its one canonical spelling (RFC 7515, section 2; RFC 4648, section
// 3.5), so that no other text is the same token. Go's decoder skips line breaks, so that they are looked for first.
func decodeSegment(text string) ([]byte, error) {
	if strings.ContainsAny(text, "\r\n") {
		return nil, errors.New("not canonical base64url")
	}
	out, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, errors.New("not canonical base64url") // the decoder's own words would quote the token
	}
	return out, nil
}

func decodeObject(segment string) (map[string]any, error) {
	text, err := decodeSegment(segment)
	if err != nil {
		return nil, err
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

// mediaType folds a typ or cty for comparison: without regard to case, and with or without application/ (RFC 7515,
// section 4.1.9).
func mediaType(text string) string {
	text = strings.ToLower(text)
	if rest, ok := strings.CutPrefix(text, "application/"); ok && !strings.Contains(rest, "/") {
		return rest
	}
	return text
}

// otherKinds are types of JWT that are no access token, whoever signed them (RFC 8725, section 3.11): DPoP proofs
// (RFC 9449), logout tokens (OpenID Connect Back-Channel Logout), security events (RFC 8417), request objects (RFC 9101),
// introspection answers (RFC 9701), key-binding JWTs.
func otherKind(typ string) bool {
	switch typ {
	case "dpop+jwt", "logout+jwt", "secevent+jwt", "oauth-authz-req+jwt", "token-introspection+jwt", "kb+jwt":
		return true
	}
	return false
}

// typeAccepted reports whether a token of this typ may be an access token of the provider. accepted is folded.
func typeAccepted(typ string, accepted []string) bool {
	typ = mediaType(typ)
	if len(accepted) > 0 {
		return slices.Contains(accepted, typ)
	}
	return !otherKind(typ)
}
