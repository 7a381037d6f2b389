package manifest

import "strings"

// publicURL checks what clients see the policy's hosts at: an origin, and maybe the path prefix that a proxy before Envoy, or
// Envoy itself, cuts off.
func (c *compiler) publicURL(o *Object) string {
	t := o.text("spec", "publicURL")
	if !c.url(t, urlRule{what: "a public URL", local: true, path: true, example: "https://agents.example.com"}) {
		return ""
	}
	switch _, path, _ := strings.Cut(strings.SplitN(t.Text, "://", 2)[1], "/"); {
	case strings.HasSuffix(t.Text, "/"):
		c.add(t.Pos, "found a public URL with a slash at its end", "https://agents.example.com or https://example.com/agents", "the request's path follows")
	case strings.ContainsAny(path, "%;") || strings.Contains("/"+path+"/", "/../") || strings.Contains("/"+path+"/", "/./") || strings.Contains("/"+path, "//"):
		c.add(t.Pos, "found a public URL whose path is not plain", "plain segments, such as https://example.com/agents", "")
	}
	return t.Text
}
