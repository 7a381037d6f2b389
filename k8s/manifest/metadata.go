package manifest

import (
	"encoding/json"
	"net/url"
	"strings"

	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/policy"
)

// wellKnown is where the metadata of a protected resource is (RFC 9728, section 3).
const wellKnown = "/.well-known/oauth-protected-resource"

// resourceMetadata is the document (RFC 9728, section 2). Just what Usher knows to be true is in it.
type resourceMetadata struct {
	Resource             string   `json:"resource"`
	AuthorizationServers []string `json:"authorization_servers,omitempty"`
	Scopes               []string `json:"scopes_supported,omitempty"`
	BearerMethods        []string `json:"bearer_methods_supported"`
	Name                 string   `json:"resource_name,omitempty"`
	Documentation        string   `json:"resource_documentation,omitempty"`
	ProofAlgorithms      []string `json:"dpop_signing_alg_values_supported"`
}

// protectedResource makes the document that Usher serves for a policy, and the URL that challenges name.
func (c *compiler) protectedResource(o *Object) (address string, document *policy.Document) {
	spec := &o.AuthPolicy.Spec
	in := spec.ProtectedResource
	if spec.ResourceMetadata != "" {
		c.add(o.at("spec", "protectedResource"), "found both resourceMetadata and protectedResource", "one of them", "resourceMetadata is for a document that somebody else serves")
	}
	c.strings(o, in.Scopes, "scope", "spec", "protectedResource", "scopes")
	for i, scope := range in.Scopes {
		c.challengeable(o, scope, "scope", "spec", "protectedResource", "scopes", i)
	}
	if in.Documentation != "" {
		c.url(o.text("spec", "protectedResource", "documentation"), urlRule{what: "documentation", path: true, query: true, example: "https://docs.example.com/api"})
	}
	if in.Resource == "" {
		c.missing(o, "the identifier of what is protected, such as https://agents.example.com", "spec", "protectedResource", "resource")
		return "", nil
	}
	// RFC 9728, section 1.2, also lets a resource have a query, which nobody uses.
	ok := c.url(o.text("spec", "protectedResource", "resource"), urlRule{what: "a resource", local: true, path: true, example: "https://agents.example.com"})
	u, err := url.Parse(in.Resource)
	if err != nil || !ok {
		return "", nil
	}
	// The path of the resource is put behind the well-known one (RFC 9728, section 3.1).
	path := u.EscapedPath()
	if path == "/" {
		path = ""
	}
	if strings.Contains(path, "%") || strings.Contains(path, "//") {
		c.add(o.at("spec", "protectedResource", "resource"), "found a resource whose path has escapes or empty segments", "plain segments, such as https://agents.example.com/mcp", "")
		return "", nil
	}
	out := resourceMetadata{
		Resource: in.Resource, Scopes: in.Scopes, BearerMethods: []string{"header"},
		Name: in.Name, Documentation: in.Documentation, ProofAlgorithms: token.ProofAlgorithms(),
	}
	for _, name := range spec.Providers {
		if p := c.named(o, name); p != nil {
			out.AuthorizationServers = append(out.AuthorizationServers, issuers(&p.IdentityProvider.Spec)...)
		}
	}
	body, err := json.Marshal(out)
	if err != nil {
		c.add(o.at("spec", "protectedResource"), "found texts that are no JSON", "UTF-8", "")
		return "", nil
	}
	return u.Scheme + "://" + u.Host + wellKnown + path, &policy.Document{Path: wellKnown + path, Body: string(body)}
}
