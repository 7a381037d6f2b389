package manifest

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/usher-authz/usher/policy"
)

// basePath returns the path of the servers' URLs, in which they must agree: a request says nothing of which one it is for.
func (r *openAPIReader) basePath(servers policy.Tree) string {
	if !servers.IsList {
		r.mismatch(servers, "a list of servers")
		return ""
	}
	base, known := "", false
	for _, server := range servers.Items {
		url, given := member(server, "url")
		text, isText := url.Value.Scalar.(string)
		if !given || !isText {
			if given {
				r.mismatch(url.Value, "a string")
			} else {
				r.c.add(server.Pos, "found a server without url", "a URL or a path", "")
			}
			continue
		}
		for _, path := range r.serverPaths(text, server, url.Value.Pos) {
			if known && path != base {
				r.c.add(url.Value.Pos, fmt.Sprintf("found servers with different base paths, %q and %q", base, path), "the same for all", "spec.api.openapi.basePath says which one requests to this policy's hosts have")
				break
			}
			base, known = path, true
		}
	}
	return base
}

var serverVariable = regexp.MustCompile(`\{([^{}]*)\}`)

// serverPaths returns the base paths that a server's URL may have by the values of its variables.
func (r *openAPIReader) serverPaths(url string, server policy.Tree, pos policy.Position) []string {
	variables, _ := member(server, "variables")
	values := map[string][]string{}
	for _, v := range variables.Value.Members {
		if d, ok := member(v.Value, "default"); ok {
			values[v.Name.Text] = append(values[v.Name.Text], textOf(d.Value))
		}
		enum, _ := member(v.Value, "enum")
		for _, e := range enum.Value.Items {
			values[v.Name.Text] = append(values[v.Name.Text], textOf(e))
		}
	}
	fill := func(name, value string) string {
		return serverVariable.ReplaceAllStringFunc(url, func(s string) string {
			switch list := values[s[1:len(s)-1]]; {
			case s[1:len(s)-1] == name:
				return value
			case len(list) > 0:
				return list[0]
			}
			return s
		})
	}
	candidates := []string{fill("", "")}
	for _, name := range sorted(values) {
		for _, value := range values[name] {
			candidates = append(candidates, fill(name, value))
		}
	}
	var out []string
	for _, candidate := range candidates {
		path, ok := pathOfURL(candidate)
		if !ok || !isBasePath(path) {
			r.c.add(pos, fmt.Sprintf("found server URL %q", candidate), "a URL with a scheme, or a path that starts with /; decoded, without query, each variable with a default", "spec.api.openapi.basePath says what paths begin with, whatever the servers are")
			return nil
		}
		out = append(out, path)
	}
	return out
}

func textOf(t policy.Tree) string {
	switch v := t.Scalar.(type) {
	case string:
		return v
	case int64, float64, bool:
		return fmt.Sprint(v)
	}
	return "{}" // no base path
}

// pathOfURL returns the path of a URL that is absolute, or relative to a host (RFC 3986, section 4.2).
func pathOfURL(url string) (string, bool) {
	if scheme, rest, ok := strings.Cut(url, "://"); ok && !strings.ContainsAny(scheme, "/?#") {
		url = "//" + rest
	}
	if rest, ok := strings.CutPrefix(url, "//"); ok {
		i := strings.IndexAny(rest, "/?#")
		if i < 0 {
			return "", true
		}
		url = rest[i:]
	}
	return strings.TrimSuffix(url, "/"), strings.HasPrefix(url, "/")
}

// isBasePath reports whether a path can stand before others: empty, or segments in their decoded form.
func isBasePath(path string) bool {
	if path == "" {
		return true
	}
	if !strings.HasPrefix(path, "/") {
		return false
	}
	for s := range strings.SplitSeq(path[1:], "/") {
		if s == "" || s == "." || s == ".." || strings.ContainsAny(s, "{}*?#%\\;") || strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f || c == '\uFFFD' }) {
			return false
		}
	}
	return true
}
