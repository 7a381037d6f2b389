package policytest

import (
	"regexp"

	"github.com/usher-authz/usher/policy"
)

// Hidden stands for a credential.
const Hidden = "(hidden)"

// jws is a JWS in its compact form (RFC 7515, section 3.1): its header is a JSON object, which base64url begins with eyJ.
var jws = regexp.MustCompile(`eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*`)

// Hide replaces tokens in a text, such as the assertion that Usher signs for a backend.
func Hide(text string) string { return jws.ReplaceAllLiteralString(text, Hidden) }

// HideValue replaces tokens in a JSON value, in a copy.
func HideValue(v policy.Value, hide func(string) string) policy.Value {
	switch v := v.(type) {
	case string:
		return hide(v)
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = HideValue(item, hide)
		}
		return out
	case map[string]any:
		if v == nil {
			return nil
		}
		out := make(map[string]any, len(v))
		for name, item := range v {
			out[name] = HideValue(item, hide)
		}
		return out
	}
	return v
}
