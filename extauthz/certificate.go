package extauthz

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"net/url"
	"strings"

	"github.com/usher-authz/usher/extauthz/token"
)

// certificate adds the client's certificate to what the request shows (RFC 8705, section 3): the one of the connection to
// Envoy, or where the policy says so the one that a proxy before Envoy forwards. Never both: the connection's is then the
// proxy's own. What cannot be read is no certificate, so that a token bound to one is refused.
func (r *request) certificate(c *token.Credential, forwarded bool) {
	if !forwarded {
		if r.certificateText != "" {
			c.Certificate = leaf(r.certificateText)
		}
		return
	}
	if values := r.headers.all("x-forwarded-client-cert"); len(values) == 1 {
		c.Certificate, c.CertificateSum, _ = forwardedCertificate(values[0])
	}
}

// maxForwarded bounds x-forwarded-client-cert in bytes: certificate and chain of the largest keys fit.
const maxForwarded = 64 << 10

// forwardedCertificate reads Envoy's x-forwarded-client-cert: pairs with a semicolon between them, values in quotes where
// they hold what separates. It returns the DER of Cert, or the SHA-256 of Hash where there is no Cert. Several elements,
// which a comma separates, are refused: only the proxies know which one is of the client.
func forwardedCertificate(text string) (der, sum []byte, ok bool) {
	if text == "" || len(text) > maxForwarded {
		return nil, nil, false
	}
	for more := true; more; {
		var name, value string
		if name, value, text, more, ok = forwardedPair(text); !ok {
			return nil, nil, false
		}
		switch strings.ToLower(name) {
		case "hash":
			if sum != nil {
				return nil, nil, false
			}
			if sum, _ = hex.DecodeString(value); len(sum) != sha256.Size {
				return nil, nil, false
			}
		case "cert":
			if der != nil {
				return nil, nil, false
			}
			if der = leaf(value); len(der) == 0 {
				return nil, nil, false
			}
		case "by", "chain", "subject", "uri", "dns":
		default:
			return nil, nil, false
		}
	}
	if der != nil {
		if of := sha256.Sum256(der); sum != nil && !bytes.Equal(of[:], sum) {
			return nil, nil, false
		}
		return der, nil, true
	}
	return nil, sum, sum != nil
}

// forwardedPair takes the first pair off an element. more says that a semicolon, and so another pair, follows.
func forwardedPair(text string) (name, value, rest string, more, ok bool) {
	name, text, ok = strings.Cut(text, "=")
	if !ok {
		return
	}
	if !strings.HasPrefix(text, `"`) {
		value, rest, more = strings.Cut(text, ";")
		return name, value, rest, more, !strings.ContainsAny(value, `,="\`)
	}
	end := 1
	for ; end < len(text) && text[end] != '"'; end++ {
		if text[end] == '\\' {
			end++ // a quote, or whatever else is escaped, does not end the value
		}
	}
	if end >= len(text) {
		return name, "", "", false, false
	}
	value, rest = text[1:end], text[end+1:]
	if rest == "" {
		return name, value, "", false, true
	}
	return name, value, rest[1:], true, rest[0] == ';'
}

// leaf returns the DER of the client's certificate from Envoy's URL-encoded PEM, undone as of a path, so that a plus
// sign stays one; nil if it cannot be read. It must be just one block and nothing else: of two, others may mean the second.
func leaf(text string) []byte {
	decoded, err := url.PathUnescape(text)
	if err != nil || !strings.HasPrefix(decoded, "-----BEGIN CERTIFICATE-----") {
		return nil
	}
	block, rest := pem.Decode([]byte(decoded))
	if block == nil || block.Type != "CERTIFICATE" || len(block.Headers) > 0 || len(block.Bytes) == 0 || len(bytes.TrimSpace(rest)) > 0 {
		return nil
	}
	return block.Bytes
}
