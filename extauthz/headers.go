package extauthz

import (
	"strings"

	"github.com/usher-authz/usher/policy"
)

// headers are a request's headers in whichever of Envoy's two forms they came: a map with equal names joined by a comma,
// or the list that encode_raw_headers gives, with nothing joined. What a decision may need is noted while the message is
// read; names are compared without regard to case.
type headers struct {
	joined map[string]string
	list   string // envoy.config.core.v3.HeaderMap, which was read without fault

	authorization                                    string // the last one
	authorizations                                   int
	dpop                                             []string
	contentLength, contentEncoding, transferEncoding []string
	partialBody                                      []string
	requestID                                        string
	upgrade                                          bool
	hidden                                           string   // lower-case name of the header with the token, if not authorization
	odd                                              []string // names with other bytes than lower-case letters, digits and hyphens
}

// join keeps an entry of the map. Of several with the same name the last one counts.
func (h *headers) join(name, value string) {
	if h.joined == nil {
		h.joined = map[string]string{}
	}
	h.joined[name] = value
}

// each calls f for every header.
func (h *headers) each(f func(name, value string)) {
	for name, value := range h.joined {
		f(name, value)
	}
	eachHeader(h.list, f)
}

// note keeps the values that a decision may need.
func (h *headers) note(name, value string) {
	if !isPlainName(name) {
		if name != "" && name[0] != ':' {
			h.odd = append(h.odd, name)
		}
		name = strings.ToLower(name)
	}
	var to *[]string
	switch name {
	case "authorization":
		h.authorization = value
		h.authorizations++
		return
	case "dpop":
		to = &h.dpop
	case "content-length":
		to = &h.contentLength
	case "content-encoding":
		to = &h.contentEncoding
	case "transfer-encoding":
		to = &h.transferEncoding
	case "x-envoy-auth-partial-body":
		to = &h.partialBody
	case "x-request-id":
		h.requestID = value
		return
	case "upgrade":
		h.upgrade = true
		return
	default:
		return
	}
	*to = append(*to, value)
}

// all returns the values of the headers of one name, which is lower-case.
func (h *headers) all(name string) []string {
	var out []string
	h.each(func(k, v string) {
		if strings.EqualFold(k, name) {
			out = append(out, v)
		}
	})
	return out
}

func isPlainName(name string) bool {
	for i := 0; i < len(name); i++ {
		if c := name[i]; !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-') {
			return false
		}
	}
	return name != ""
}

// visible returns the headers for expressions: lower-case names, equal ones joined, without credentials and pseudo-headers.
func (h *headers) visible() map[string]string {
	out := map[string]string{}
	h.each(func(name, value string) {
		name = strings.ToLower(name)
		switch name {
		case "authorization", "dpop", "cookie", "proxy-authorization":
			return
		}
		if name == "" || name[0] == ':' || h.hidden != "" && policy.CanonicalHeader(name) == h.hidden {
			return
		}
		if old, ok := out[name]; ok {
			value = old + "," + value
		}
		out[name] = value
	})
	return out
}
