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
	*header
	input     []byte // what is signed
	signature []byte
	claims    map[string]any
}

// header is a JOSE header whose parameters are of the right types. It never changes.
type header struct {
	segment       string // that it was read from
	alg, kid, typ string
	hasKid        bool
	members       map[string]any
}

// looksLikeJWS reports whether the text has three segments of which the first is a JWS header. Opaque tokens may have
// dots too. It stops at the third dot, so that a token of nothing but dots costs nothing (CVE-2025-30204).
func looksLikeJWS(text string) bool {
	segment, rest, found := strings.Cut(text, ".")
	if !found || !twoSegments(rest) {
		return false
	}
	object, err := decodeObject(segment)
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
// parameters of the right type. known, which may be nil, is a header that was read before: most tokens of an issuer have
// the same one, and the same text is the same header.
func parseCompact(text string, known *header) (*compact, error) {
	t, payload, err := takeApart(text, known)
	if err != nil {
		return nil, err
	}
	if t.claims, err = decodeObject(payload); err != nil {
		return nil, bad("claims: " + err.Error())
	}
	return t, nil
}

// takeApart is parseCompact without the claims; it returns their segment.
func takeApart(text string, known *header) (t *compact, payload string, err error) {
	if len(text) > maxToken {
		return nil, "", bad("token is too long")
	}
	segment, rest, found := strings.Cut(text, ".")
	if !found || !twoSegments(rest) {
		return nil, "", bad("token is not a compact JWS")
	}
	payload, signature, _ := strings.Cut(rest, ".")
	t = &compact{header: known}
	if known == nil || known.segment != segment {
		if t.header, err = parseHeader(segment); err != nil {
			return nil, "", err
		}
	}
	if t.signature, err = decodeSegment(signature); err != nil {
		return nil, "", bad("signature: " + err.Error())
	}
	t.input = []byte(text[:len(segment)+1+len(payload)])
	return t, payload, nil
}

// parseHeader checks the parameters of RFC 7515, section 4.1, that matter here. Extensions that would change how the rest
// is read are refused. Parameters that carry or point to keys (jwk, jku, x5c, x5u) are not looked at (RFC 8725, section
// 3.10).
func parseHeader(segment string) (*header, error) {
	members, err := decodeObject(segment)
	if err != nil {
		return nil, bad("header: " + err.Error())
	}
	h := &header{segment: strings.Clone(segment), members: members}
	var ok bool
	if h.alg, ok = members["alg"].(string); !ok {
		return nil, bad("alg is no string") // RFC 7515, section 4.1.1
	}
	if _, ok := members["crit"]; ok {
		return nil, bad("crit names extensions, none of which is known") // RFC 7515, section 4.1.11
	}
	if _, ok := members["b64"]; ok {
		return nil, bad("b64 is not supported") // RFC 7797, section 6
	}
	if v, ok := members["kid"]; ok {
		if h.kid, h.hasKid = v.(string); !h.hasKid || h.kid == "" {
			return nil, bad("kid is no string that names a key") // RFC 7515, section 4.1.4
		}
	}
	if v, ok := members["typ"]; ok {
		if h.typ, ok = v.(string); !ok {
			return nil, bad("typ is no string") // RFC 7515, section 4.1.9
		}
	}
	if v, ok := members["cty"]; ok {
		cty, ok := v.(string)
		if !ok || mediaType(cty) == "jwt" {
			return nil, bad("cty says that the token is nested") // RFC 7519, section 5.2
		}
	}
	return h, nil
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
