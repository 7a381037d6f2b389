package extauthz

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/usher-authz/usher/policy"
)

// request is a CheckRequest decoded so that each byte has one reading: what could be read in two ways is refused.
type request struct {
	message
	path    string // decoded, without query
	query   string // raw
	host    string // lower-case, without port
	address string // of the peer, as rules see it

	dpop  bool    // the token came with the DPoP scheme
	nonce *string // for the client's next proof; nil or empty: the one that it has
}

// maxTarget bounds :path in bytes.
const maxTarget = 16 << 10

func badRequest(detail string) *policy.Refusal {
	return &policy.Refusal{Outcome: policy.BadRequest, Detail: detail}
}

// addressText is the peer's address as rules see it. A socket for both families names an IPv4 peer by an IPv6 address that
// stands for it (RFC 4291, section 2.5.5.2): it is made the IPv4 address that it is, so that one peer has one address.
func addressText(text string) string {
	if !strings.Contains(text, ":") {
		return text
	}
	if a, err := netip.ParseAddr(text); err == nil && a.Is4In6() && a.Zone() == "" {
		return a.Unmap().String()
	}
	return text
}

// decode reads a CheckRequest from the bytes of the wire. Fields count, not the pseudo-headers in the map, which a caller
// could make differ.
func (r *request) decode(text string) error {
	if err := r.message.read(text); err != nil {
		return &policy.Refusal{Outcome: policy.BadRequest, Detail: "The check is malformed.", Err: fmt.Errorf("read the check: %w", err)}
	}
	if !r.http {
		return badRequest("The check carries no HTTP request.")
	}
	r.address = addressText(r.source)
	if len(r.headers.joined) > 0 && r.headers.list != "" {
		return badRequest("The check carries its headers in two forms.")
	}
	if !isMethod(r.method) {
		return badRequest("The method is malformed.")
	}
	var ok bool
	if r.host, ok = hostName(r.authority); !ok {
		return badRequest("The host is malformed.")
	}
	raw, query, _ := strings.Cut(r.target, "?")
	r.query = query
	if !plain(r.target) {
		return errPath
	}
	var err error
	r.path, err = decodePath(raw)
	return err
}

// publicURL is where the client sent the request, without the query: under the URL that it sees, which is not always the
// one that Envoy sees (RFC 9449, section 4.2, htu).
func (r *request) publicURL(base string) string {
	raw, _, _ := strings.Cut(r.target, "?")
	return base + raw
}

// maxRecordedPath bounds the path in a decision record, in bytes.
const maxRecordedPath = 1 << 10

// recordedPath is the path for the decision record, as it was sent; "" where it is malformed or too long to be of use.
func (r *request) recordedPath() string {
	raw, _, _ := strings.Cut(r.target, "?")
	if r.path == "" || len(raw) > maxRecordedPath {
		return ""
	}
	return raw
}

var errPath = badRequest("The path is malformed.")

// isMethod accepts capital letters only: methods are case-sensitive (RFC 9110, section 9.1), and a backend that folds
// case would read another one.
func isMethod(m string) bool {
	for i := 0; i < len(m); i++ {
		if c := m[i]; !(c >= 'A' && c <= 'Z' || c == '-') {
			return false
		}
	}
	return m != "" && len(m) <= 32
}

// hostName returns the lower-case name of an authority without its port. User information, white space and whatever
// else no host name has is malformed, as it could make two readers see two hosts (RFC 9110, section 4.2.4).
func hostName(authority string) (string, bool) {
	name, port := authority, ""
	if i := strings.LastIndexByte(authority, ':'); i >= 0 && !strings.HasSuffix(authority, "]") {
		name, port = authority[:i], authority[i+1:]
		if _, err := strconv.ParseUint(port, 10, 16); err != nil || port[0] == '+' {
			return "", false
		}
	}
	if literal, ok := strings.CutPrefix(name, "["); ok {
		literal, ok = strings.CutSuffix(literal, "]")
		if !ok || literal == "" || strings.Trim(literal, "0123456789abcdefABCDEF:.") != "" {
			return "", false
		}
		return strings.ToLower(name), true
	}
	if name == "" || len(name) > 253 || name[0] == '.' || name[len(name)-1] == '.' {
		return "", false
	}
	lower := true
	for i := 0; i < len(name); i++ {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_', c == '.':
		case c >= 'A' && c <= 'Z':
			lower = false
		default:
			return "", false
		}
	}
	if !lower {
		name = strings.ToLower(name)
	}
	return name, true
}

// plain reports whether a request target has only visible ASCII without fragment and backslash (RFC 9112, section 3.2).
func plain(target string) bool {
	if len(target) > maxTarget {
		return false
	}
	for i := 0; i < len(target); i++ {
		if c := target[i]; c <= ' ' || c >= 0x7f || c == '#' || c == '\\' {
			return false
		}
	}
	return true
}

// decodePath undoes percent-encoding once. A path that another reader could split, cut or walk differently is refused:
// encoded slashes and percent signs, dot segments in whatever spelling, empty segments, path parameters, control bytes,
// bytes that are not UTF-8 (CVE-2019-9901, CVE-2021-29492).
func decodePath(raw string) (string, error) {
	if raw == "" || raw[0] != '/' {
		return "", errPath
	}
	path := raw
	if strings.IndexByte(raw, '%') >= 0 {
		decoded := make([]byte, 0, len(raw))
		for i := 0; i < len(raw); i++ {
			c := raw[i]
			if c == '%' {
				if i+2 >= len(raw) {
					return "", errPath
				}
				high, low := unhex(raw[i+1]), unhex(raw[i+2])
				if high < 0 || low < 0 {
					return "", errPath
				}
				c = byte(high<<4 | low)
				if c < ' ' || c == 0x7f || c == '/' || c == '\\' || c == '%' {
					return "", errPath
				}
				i += 2
			}
			decoded = append(decoded, c)
		}
		if !utf8.Valid(decoded) {
			return "", errPath
		}
		path = string(decoded)
	}
	if strings.IndexByte(raw, ';') >= 0 {
		return "", errPath
	}
	rest := path[1:]
	for {
		segment, tail, more := strings.Cut(rest, "/")
		if segment == "." || segment == ".." || segment == "" && more {
			return "", errPath
		}
		if !more {
			return path, nil
		}
		rest = tail
	}
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// errUnsent refuses a request whose body counts, but whose Envoy was configured for a policy that needed none. That there is one
// cannot be told from the headers: HTTP/2 needs no content-length, and Envoy takes out of a request whatever its Connection names
// (RFC 9110, section 7.6.1).
var errUnsent = &policy.Refusal{
	Outcome: policy.Unavailable, Detail: "The gate does not see the body.",
	Err: errors.New("Envoy sends no bodies for this host, as no policy needed one when its configuration was written: write it again with usher envoy"),
}

// body returns the whole body for a route that needs it, at most so many bytes. One that Envoy cut off, did not send, or
// that is encoded cannot be decided on.
func (r *request) body(most int) (string, error) {
	if r.rawBody != "" && r.bodyText != "" {
		return "", badRequest("The check carries its body in two forms.")
	}
	body := cmp.Or(r.rawBody, r.bodyText)
	if r.unsent && !slices.Equal(r.headers.contentLength, []string{"0"}) {
		return "", errUnsent
	}
	tooLarge := &policy.Refusal{Outcome: policy.TooLarge, Detail: "The body is larger than the gate reads.", Err: errors.New("body cut off by Envoy")}
	if len(body) > most {
		return "", tooLarge
	}
	for _, v := range r.headers.partialBody {
		for _, part := range strings.Split(v, ",") {
			if !strings.EqualFold(strings.TrimSpace(part), "false") {
				return "", tooLarge
			}
		}
	}
	for _, v := range r.headers.contentLength {
		if n, err := strconv.ParseUint(v, 10, 63); err != nil || n != uint64(len(body)) {
			return "", tooLarge
		}
	}
	if len(body) == 0 {
		if len(r.headers.transferEncoding) > 0 {
			return "", tooLarge
		}
		return "", nil
	}
	for _, v := range r.headers.contentEncoding {
		if !strings.EqualFold(v, "identity") && v != "" {
			return "", &policy.Refusal{Outcome: policy.Encoded, Detail: "The body is encoded; send it plain."}
		}
	}
	return body, nil
}
