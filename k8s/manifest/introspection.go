package manifest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/usher-authz/usher/extauthz/signing"
	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/k8s/api/v1alpha1"
)

// maxCacheFor bounds cacheFor: so long a token stays good after the provider withdrew it.
const maxCacheFor = time.Hour

func (c *compiler) introspection(o *Object, spec *v1alpha1.IdentityProviderSpec) *token.Introspection {
	in := spec.Introspection
	out := &token.Introspection{Endpoint: in.Endpoint, ClientID: in.ClientID, Method: in.ClientAuthMethod}
	if in.Endpoint == "" {
		c.missing(o, "the URL of the introspection endpoint", "spec", "introspection", "endpoint")
	} else {
		// RFC 7662, section 4: it is asked over TLS only, as tokens and the client's secret go there.
		c.url(o.text("spec", "introspection", "endpoint"), urlRule{what: "an endpoint", local: spec.AllowHTTP, path: true, query: true, example: "https://auth.example.com/introspect"})
	}
	if in.ClientID == "" {
		c.missing(o, "Usher's client at the provider", "spec", "introspection", "clientID")
	}
	methods := []string{"client_secret_basic", "client_secret_post", "private_key_jwt"}
	if in.ClientAuthMethod != "" && !slices.Contains(methods, in.ClientAuthMethod) {
		c.add(o.at("spec", "introspection", "clientAuthMethod"), fmt.Sprintf("found method %q", in.ClientAuthMethod), oneOf(methods), didYouMean(in.ClientAuthMethod, methods))
	}
	out.CacheFor = c.cacheFor(o, in.CacheFor, "introspection")
	if in.ClientAuthMethod == "private_key_jwt" {
		c.clientKey(o, in, out)
		return out
	}
	for _, name := range []string{"privateKeyRef", "clientAssertionAudience"} {
		if _, given := o.find("spec", "introspection", name); given {
			c.add(o.at("spec", "introspection", name), "found "+name+" beside a method with a secret", "clientAuthMethod: private_key_jwt, or no "+name, "")
		}
	}
	if in.ClientSecretRef == nil || in.ClientSecretRef.Name == "" {
		c.missing(o, "the name of a Secret", "spec", "introspection", "clientSecretRef")
		return out
	}
	secret := c.secret(o, *in.ClientSecretRef, "clientSecret", "spec", "introspection", "clientSecretRef")
	out.ClientSecret = string(secret)
	// RFC 6749, appendix A.2: visible characters and spaces.
	if secret != nil && (len(secret) == 0 || strings.ContainsFunc(out.ClientSecret, func(r rune) bool { return r < ' ' || r > '~' })) {
		c.add(o.at("spec", "introspection", "clientSecretRef"), "found a secret that is empty or has characters that none has", "visible ASCII in one line", "a secret read from a file may end with a newline")
	}
	return out
}

// cacheFor checks how long an answer of the endpoint is good; 0 if the manifest does not say.
func (c *compiler) cacheFor(o *Object, d *metav1.Duration, field string) time.Duration {
	if d == nil {
		return 0
	}
	if (d.Duration <= 0 || d.Duration > maxCacheFor) && !(o.broken && d.Duration == 0) {
		c.add(o.at("spec", field, "cacheFor"), "found "+d.Duration.String(), "more than 0s, at most "+maxCacheFor.String(), "leave it out to take 30s")
	}
	return d.Duration
}

// clientKey resolves what private_key_jwt needs.
func (c *compiler) clientKey(o *Object, in *v1alpha1.Introspection, out *token.Introspection) {
	if _, given := o.find("spec", "introspection", "clientSecretRef"); given {
		c.add(o.at("spec", "introspection", "clientSecretRef"), "found clientSecretRef beside private_key_jwt", "privateKeyRef alone", "a client has one way to show who it is")
	}
	if _, given := o.find("spec", "introspection", "clientAssertionAudience"); given {
		if out.AssertionAudience = in.ClientAssertionAudience; !isVisible(in.ClientAssertionAudience) && !o.broken {
			c.add(o.at("spec", "introspection", "clientAssertionAudience"), fmt.Sprintf("found audience %q", in.ClientAssertionAudience), "what the provider calls itself, such as its issuer or the endpoint's URL", "leave it out to take the issuer")
		}
	}
	if in.PrivateKeyRef == nil || in.PrivateKeyRef.Name == "" {
		c.missing(o, "the name of a Secret with the client's private key", "spec", "introspection", "privateKeyRef")
		return
	}
	if out.PrivateKey = c.secret(o, *in.PrivateKeyRef, "privateKey", "spec", "introspection", "privateKeyRef"); out.PrivateKey == nil {
		return // said already
	}
	if _, err := signing.Parse(out.PrivateKey); err != nil {
		c.add(o.at("spec", "introspection", "privateKeyRef"), err.Error(), "", "in the Secret, not here")
	}
}
