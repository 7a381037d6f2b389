package langgraph

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/usher-authz/usher/policy"
)

// hook is a place that runs may report to: a scheme, a host with its port, and the segments that a path must begin with.
type hook struct {
	scheme, host, port string
	path               string // without a slash at its end; empty: every path
}

// maxHook is how long a webhook may be.
const maxHook = 2048

// parseHook reads a URL so that no other reader can find another place in it: only the plain spelling of an http or https
// URL is one. Python's urllib and JavaScript's URL differ in what they make of user names, backslashes, spaces, capitals,
// and of dots and slashes that are percent-encoded, so none of those may stand there. query is what follows the path.
func parseHook(text string) (h hook, query string, ok bool) {
	if len(text) > maxHook {
		return hook{}, "", false
	}
	for i := 0; i < len(text); i++ {
		if c := text[i]; c <= ' ' || c >= 0x7f || strings.IndexByte("\\\"<>^`{|}#@", c) >= 0 {
			return hook{}, "", false
		}
	}
	h.scheme, text, ok = strings.Cut(text, "://")
	if !ok || h.scheme != "https" && h.scheme != "http" {
		return hook{}, "", false
	}
	end := strings.IndexAny(text, "/?")
	if end < 0 {
		end = len(text)
	}
	authority, rest := text[:end], text[end:]
	if h.host, h.port, ok = splitAuthority(authority); !ok {
		return hook{}, "", false
	}
	if h.port == "" {
		h.port = map[string]string{"http": "80", "https": "443"}[h.scheme]
	}
	h.path, query, _ = strings.Cut(rest, "?")
	if !plainPath(h.path) {
		return hook{}, "", false
	}
	h.path = strings.TrimSuffix(h.path, "/")
	return h, query, true
}

// splitAuthority splits host[:port]. A host is lower-case letters, digits, hyphens and dots, or an IPv6 address in
// brackets; whether it is an address is not looked at, as it must be listed letter for letter.
func splitAuthority(text string) (host, port string, ok bool) {
	host = text
	if i := strings.LastIndexByte(text, ':'); i >= 0 && !strings.HasSuffix(text, "]") {
		host, port = text[:i], text[i+1:]
		if port == "" || len(port) > 5 || port[0] == '0' || strings.Trim(port, "0123456789") != "" {
			return "", "", false
		}
	}
	letters, inner := "abcdefghijklmnopqrstuvwxyz0123456789-.", host
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		letters, inner = "abcdef0123456789:.", host[1:len(host)-1]
	}
	return host, port, inner != "" && strings.Trim(inner, letters) == "" && !strings.HasPrefix(inner, ".") && !strings.Contains(inner, "..")
}

// plainPath reports whether a path has no segment that somebody would leave out or read as another one.
func plainPath(path string) bool {
	if path == "" || path == "/" {
		return true
	}
	for _, s := range strings.Split(strings.TrimSuffix(path[1:], "/"), "/") {
		decoded, err := url.PathUnescape(s)
		if err != nil || decoded == "" || decoded == "." || decoded == ".." || strings.ContainsAny(decoded, "/\\;") {
			return false
		}
		for j := 0; j < len(decoded); j++ {
			if decoded[j] < ' ' || decoded[j] == 0x7f || decoded[j] == '%' {
				return false
			}
		}
	}
	return true
}

// covers reports whether a webhook is within h: the same place, and h's path or one below it.
func (h hook) covers(webhook hook) bool {
	return h.scheme == webhook.scheme && h.host == webhook.host && h.port == webhook.port &&
		(webhook.path == h.path || strings.HasPrefix(webhook.path, h.path+"/"))
}

// checkWebhook refuses a run's webhook that the policy does not list.
func (a *api) checkWebhook(v any) error {
	if v == nil {
		return nil
	}
	if len(a.webhooks) == 0 || a.http.disableWebhooks {
		return forbidden("Webhooks are not allowed here.")
	}
	text, _ := v.(string)
	if webhook, _, ok := parseHook(text); ok {
		for _, h := range a.webhooks {
			if h.covers(webhook) {
				return nil
			}
		}
	}
	return forbidden("This webhook is not on the policy's list.")
}

// webhooks reads {allow: [URL, ...]}.
func (r *reader) webhooks(t policy.Tree) (out []hook) {
	for _, m := range r.members(t, "allow") {
		if !m.Value.IsList {
			r.add(m.Value.Pos, "webhooks.allow is no list", "URLs, such as https://hooks.example.com/agents", "")
			continue
		}
		for _, item := range m.Value.Items {
			text, _ := item.Scalar.(string)
			h, query, ok := parseHook(text)
			if !ok || query != "" || strings.HasSuffix(text, "?") {
				r.add(item.Pos, fmt.Sprintf("webhook %q", text), "an http or https URL in lower case, such as https://hooks.example.com/agents", "without user name, query, fragment or dot segments; a path covers what is below it")
				continue
			}
			out = append(out, h)
		}
	}
	return out
}
