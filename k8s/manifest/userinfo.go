package manifest

import (
	"fmt"

	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/k8s/api/v1alpha1"
)

// userinfo checks where tokens are shown, and resolves the headers that go there.
func (c *compiler) userinfo(o *Object, spec *v1alpha1.IdentityProviderSpec) *token.Userinfo {
	in := spec.Userinfo
	out := &token.Userinfo{Endpoint: in.Endpoint, TokenParameter: in.TokenParameter, AnyAudience: in.AnyAudience}
	if in.Endpoint == "" {
		c.missing(o, "the URL of the userinfo endpoint", "spec", "userinfo", "endpoint")
	} else {
		// RFC 6750, section 5.3: over TLS only, as tokens go there.
		c.url(o.text("spec", "userinfo", "endpoint"), urlRule{what: "an endpoint", local: spec.AllowHTTP, path: true, query: true, example: "https://auth.example.com/userinfo"})
	}
	out.CacheFor = c.cacheFor(o, in.CacheFor, "userinfo")
	if _, given := o.find("spec", "userinfo", "tokenParameter"); given && !isHeaderName(in.TokenParameter) && !o.broken {
		c.add(o.at("spec", "userinfo", "tokenParameter"), fmt.Sprintf("found form parameter %q", in.TokenParameter), "the name of a form parameter, such as access_token", "leave it out to send the token in Authorization")
	}
	out.Headers = c.headerValues(o, in.Headers, "the token is sent in Authorization, or in tokenParameter", []string{"Authorization"}, "spec", "userinfo", "headers")
	return out
}
