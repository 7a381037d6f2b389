package dryrun

import (
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/usher-authz/usher/policy"
	"github.com/usher-authz/usher/policy/policytest"
)

// Hidden stands for a credential.
const Hidden = policytest.Hidden

// minSecret is from how many bytes on a credential is looked for elsewhere: shorter ones would hide words.
const minSecret = 8

// hider hides credentials: by the names of what holds them, and those that are known wherever they stand.
type hider struct {
	token, header string
	cookie        string
	secrets       []string // that the request's own headers and parameters hold
	strict        bool     // what is random text under a name that nobody knows may be a credential
}

func (h hider) headers(in map[string]string) map[string]string {
	out := maps.Clone(in)
	if out == nil {
		out = map[string]string{}
	}
	for name, v := range out {
		switch {
		case h.secretHeader(name, v):
			v = Hidden
		case strings.EqualFold(name, "referer"):
			v = h.path(v)
		}
		out[name] = h.text(v)
	}
	return out
}

// path hides the query's parameters that hold credentials.
func (h hider) path(path string) string {
	path, query, found := strings.Cut(path, "?")
	if !found {
		return h.text(path)
	}
	pairs := strings.Split(query, "&")
	for i, pair := range pairs {
		if name, v, ok := strings.Cut(pair, "="); ok && h.secretParameter(name, v) {
			pairs[i] = name + "=" + Hidden
		}
	}
	return h.text(path + "?" + strings.Join(pairs, "&"))
}

// text hides the token itself, and whatever else is a JWS.
func (h hider) text(s string) string {
	if len(h.token) >= minSecret {
		s = strings.ReplaceAll(s, h.token, Hidden)
	}
	for _, secret := range h.secrets {
		s = strings.ReplaceAll(s, secret, Hidden)
	}
	return policytest.Hide(s)
}

// object hides tokens in a JSON object.
func (h hider) object(in map[string]any) map[string]any {
	if in == nil {
		return nil
	}
	out, _ := h.value(in).(map[string]any)
	return out
}

func (h hider) value(v policy.Value) policy.Value { return policytest.HideValue(v, h.text) }

// member is a member of a JSON object whose value is a text.
var member = regexp.MustCompile(`"((?:[^"\\]|\\.)*)"(\s*:\s*)"((?:[^"\\]|\\.)*)"`)

// body hides the texts of members, and of a form's parameters, whose names say that they are credentials.
func (h hider) body(text, contentType string) string {
	if strings.HasPrefix(contentType, "application/x-www-form-urlencoded") {
		return strings.TrimPrefix(h.path("?"+text), "?")
	}
	return h.text(member.ReplaceAllStringFunc(text, func(pair string) string {
		parts := member.FindStringSubmatch(pair)
		if parts[3] == "" || !secretMember(parts[1]) {
			return pair
		}
		return `"` + parts[1] + `"` + parts[2] + `"` + Hidden + `"`
	}))
}

// members hides in a copy of a JSON value what body hides in its text.
func (h hider) members(v policy.Value) policy.Value {
	switch v := v.(type) {
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = h.members(item)
		}
		return out
	case map[string]any:
		if v == nil {
			return nil
		}
		out := make(map[string]any, len(v))
		for name, item := range v {
			if text, ok := item.(string); ok && text != "" && secretMember(name) {
				item = Hidden
			}
			out[name] = h.members(item)
		}
		return out
	}
	return h.value(v)
}

// secretMember reports whether a member of a body or of an object's metadata may be a credential.
func secretMember(name string) bool {
	if text, err := strconv.Unquote(`"` + name + `"`); err == nil {
		name = text
	}
	switch strings.ToLower(name) {
	case "code", "session", "sid", "pin", "ticket", "signature", "sig", "x-auth":
		return false // too many mean something else
	}
	return secretName(name)
}

func (h hider) secretHeader(name, value string) bool {
	name = strings.ToLower(name)
	if secretName(name) || h.header != "" && policy.CanonicalHeader(name) == h.header {
		return true
	}
	return h.strict && !slices.Contains(wellKnown, name) && isRandom(value)
}

// secretParameter reports whether a parameter of a query may hold a credential. Its name counts as the backend reads it.
func (h hider) secretParameter(name, value string) bool {
	if decoded, err := url.QueryUnescape(name); err == nil {
		name = decoded
	}
	return secretName(name) || h.strict && isRandom(value)
}

// secretName reports whether a header or a parameter of that name may hold a credential.
func secretName(name string) bool {
	name = strings.ReplaceAll(strings.ToLower(name), "_", "-")
	switch name {
	case "authorization", "proxy-authorization", "cookie", "set-cookie", "dpop", "x-forwarded-client-cert", "code", "sig", "signature", "jwt", "bearer", "assertion", "x-auth", "session", "sid", "ticket", "otp", "pin":
		return true
	}
	return slices.ContainsFunc([]string{"token", "secret", "password", "passwd", "api-key", "apikey", "auth-key", "access-key", "credential", "signature", "session-id", "sessionid", "private", "client-assertion"}, func(part string) bool {
		return strings.Contains(name, part)
	})
}

// wellKnown are headers that hold long texts, and no credentials.
var wellKnown = []string{
	"accept", "accept-encoding", "accept-language", "baggage", "content-type", "if-match", "if-none-match", "last-event-id", "origin", "referer",
	"sec-websocket-key", "sec-websocket-extensions", "traceparent", "tracestate", "user-agent", "x-envoy-external-address", "x-forwarded-for", "x-request-id",
}

var (
	// random is text such as an opaque token: long, without a break, and with digits.
	random = regexp.MustCompile(`[A-Za-z0-9_~+/%-]{20,}`)
	// known is a UUID, which is the name of something and no secret.
	known = regexp.MustCompile(`(?i)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
)

// isRandom reports whether a value may be an opaque credential.
func isRandom(value string) bool {
	for _, part := range random.FindAllString(known.ReplaceAllLiteralString(value, " "), -1) {
		if strings.ContainsAny(part, "0123456789") {
			return true
		}
	}
	return false
}
