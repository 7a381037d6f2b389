package extauthz

import (
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// headers are a request's headers in whichever of Envoy's two forms they came: a map with equal names joined by a comma,
// or the list that encode_raw_headers gives, with nothing joined. Names are compared without regard to case.
type headers struct {
	joined map[string]string
	raw    []*corev3.HeaderValue
}

// get returns the first value of a header and how many there are.
func (h headers) get(name string) (string, int) {
	if h.joined != nil {
		if v, ok := h.joined[name]; ok && !h.foldedTwice(name) {
			return v, 1
		}
	}
	all := h.all(name)
	if len(all) == 0 {
		return "", 0
	}
	return all[0], len(all)
}

// foldedTwice reports whether the map holds the name in another spelling too, which Envoy never sends.
func (h headers) foldedTwice(name string) bool {
	n := 0
	for k := range h.joined {
		if len(k) == len(name) && strings.EqualFold(k, name) {
			n++
		}
	}
	return n > 1
}

// all returns every value of a header.
func (h headers) all(name string) []string {
	var out []string
	for k, v := range h.joined {
		if len(k) == len(name) && strings.EqualFold(k, name) {
			out = append(out, v)
		}
	}
	for _, v := range h.raw {
		if len(v.GetKey()) == len(name) && strings.EqualFold(v.GetKey(), name) {
			out = append(out, value(v))
		}
	}
	return out
}

func value(v *corev3.HeaderValue) string {
	if len(v.GetRawValue()) > 0 {
		return string(v.GetRawValue())
	}
	return v.GetValue()
}

// names calls f for each name as it was sent.
func (h headers) names(f func(string)) {
	for k := range h.joined {
		f(k)
	}
	for _, v := range h.raw {
		f(v.GetKey())
	}
}

// visible returns the headers for expressions: lower-case names, equal ones joined, without credentials and pseudo-headers.
func (h headers) visible() map[string]string {
	out := map[string]string{}
	add := func(name, value string) {
		name = strings.ToLower(name)
		switch name {
		case "authorization", "dpop", "cookie", "proxy-authorization":
			return
		}
		if name == "" || name[0] == ':' {
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
		add(v.GetKey(), value(v))
	}
	return out
}
