package extauthz

import (
	"strings"
	"unsafe"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/usher-authz/usher/policy"
)

// headers are a request's headers in whichever of Envoy's two forms they came: a map with equal names joined by a comma,
// or the list that encode_raw_headers gives, with nothing joined. One pass takes what a decision may need; names are
// compared without regard to case.
type headers struct {
	joined map[string]string
	raw    []*corev3.HeaderValue

	authorization, dpop                              []string
	contentLength, contentEncoding, transferEncoding []string
	partialBody                                      []string
	requestID                                        string
	upgrade                                          bool
	hidden                                           string   // lower-case name of the header with the token, if not authorization
	odd                                              []string // names with other bytes than lower-case letters, digits and hyphens
}

func readHeaders(joined map[string]string, raw []*corev3.HeaderValue) headers {
	h := headers{joined: joined, raw: raw}
	for name, v := range joined {
		h.note(name, v, nil)
	}
	for _, v := range raw {
		h.note(v.GetKey(), v.GetValue(), v.GetRawValue())
	}
	return h
}

func (h *headers) note(name, text string, raw []byte) {
	if !isPlainName(name) {
		if name != "" && name[0] != ':' {
			h.odd = append(h.odd, name)
		}
		name = strings.ToLower(name)
	}
	var to *[]string
	switch name {
	case "authorization":
		to = &h.authorization
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
		h.requestID = valueOf(text, raw)
		return
	case "upgrade":
		h.upgrade = true
		return
	default:
		return
	}
	*to = append(*to, valueOf(text, raw))
}

// all returns the values of the headers of one name, which is lower-case.
func (h *headers) all(name string) []string {
	var out []string
	for k, v := range h.joined {
		if strings.EqualFold(k, name) {
			out = append(out, v)
		}
	}
	for _, v := range h.raw {
		if strings.EqualFold(v.GetKey(), name) {
			out = append(out, valueOf(v.GetValue(), v.GetRawValue()))
		}
	}
	return out
}

// valueOf returns whichever form is filled, without a copy: nobody changes a decoded message, and the string keeps it alive.
func valueOf(text string, raw []byte) string {
	if len(raw) > 0 {
		return unsafe.String(&raw[0], len(raw))
	}
	return text
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
	add := func(name, value string) {
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
	}
	for k, v := range h.joined {
		add(k, v)
	}
	for _, v := range h.raw {
		add(v.GetKey(), valueOf(v.GetValue(), v.GetRawValue()))
	}
	return out
}
