package manifest

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/k8s/api/v1alpha1"
)

const (
	// defaultTokenLifetime is how long a logout is remembered.
	defaultTokenLifetime = 24 * time.Hour
	// maxTokenLifetime bounds it: the list would only grow.
	maxTokenLifetime = 90 * 24 * time.Hour
	// maxPrefix bounds a prefix of keys.
	maxPrefix = 200
)

// revocation checks where the list of revoked tokens is, and who fills it.
func (c *compiler) revocation(o *Object) *token.Revocation {
	spec := o.IdentityProvider.Spec.Revocation
	if spec == nil {
		return nil
	}
	out := &token.Revocation{URL: spec.Redis.URL, Username: spec.Redis.Username, Prefix: spec.Redis.Prefix}
	c.redis(o, &spec.Redis, out)
	if b := spec.BackChannelLogout; b != nil {
		c.logout(o, b, out)
	}
	return out
}

// revocationMayLag reports whether the policy goes on without its providers' lists.
func (c *compiler) revocationMayLag(o *Object) bool {
	spec := &o.AuthPolicy.Spec
	if !o.broken && !c.unread && !slices.ContainsFunc(spec.Providers, func(name string) bool {
		p := c.named(o, name)
		return p == nil || p.IdentityProvider.Spec.Revocation != nil
	}) {
		c.add(o.at("spec", "revocation"), "found what to do without a list of revoked tokens, and no provider that has one", "spec.revocation of an IdentityProvider that the policy names", "")
	}
	switch given := spec.Revocation.OnUnavailable; given {
	case "Allow":
		return true
	case "Deny":
	default:
		if _, there := o.find("spec", "revocation", "onUnavailable"); there && !o.broken {
			choices := []string{"Allow", "Deny"}
			c.add(o.at("spec", "revocation", "onUnavailable"), fmt.Sprintf("found %q", given), oneOf(choices), didYouMean(given, choices))
		}
	}
	return false
}

func (c *compiler) redis(o *Object, r *v1alpha1.Redis, out *token.Revocation) {
	at := o.at("spec", "revocation", "redis", "url")
	const want = "redis://HOST:PORT/DB, or rediss:// for TLS"
	u, err := url.Parse(r.URL)
	switch {
	case r.URL == "":
		c.missing(o, want, "spec", "revocation", "redis", "url")
	case err != nil || !isVisible(r.URL) || u.Opaque != "" || u.Scheme != "redis" && u.Scheme != "rediss":
		c.add(at, "found what is no URL of a Redis server", want, "")
	case u.User != nil:
		c.add(at, "found a URL with user information", want, "the password goes into a Secret, see passwordRef")
	case strings.ContainsAny(r.URL, "?#"):
		c.add(at, "found a URL with a query or a fragment", want, "")
	case u.Hostname() == "" || !isAuthority(u.Host):
		c.add(at, fmt.Sprintf("found host %q", u.Host), "a host name in lower case or an address, and a port below 65536", "")
	case u.Path != "" && u.Path != "/" && !isDatabase(u.Path[1:]):
		c.add(at, fmt.Sprintf("found path %q", u.Path), "the number of a database, such as /1", "")
	case u.Scheme == "redis" && r.CARef != nil:
		c.add(o.at("spec", "revocation", "redis", "caRef"), "found certificates, and a URL without TLS", "a rediss:// URL", "")
	}
	if len(r.Prefix) > maxPrefix || r.Prefix != "" && !isVisible(r.Prefix) {
		c.add(o.at("spec", "revocation", "redis", "prefix"), "found a prefix with other characters, or a long one", "visible characters, at most "+strconv.Itoa(maxPrefix), "")
	}
	if r.PasswordRef != nil {
		out.Password = string(c.secret(o, *r.PasswordRef, "password", "spec", "revocation", "redis", "passwordRef"))
	} else if r.Username != "" {
		c.missing(o, "the name of a Secret with the user's password", "spec", "revocation", "redis", "passwordRef")
	}
	if r.CARef != nil {
		out.CA = c.secret(o, *r.CARef, "ca.crt", "spec", "revocation", "redis", "caRef")
		if out.CA != nil && !x509.NewCertPool().AppendCertsFromPEM(out.CA) {
			c.add(o.at("spec", "revocation", "redis", "caRef"), "found no certificate", "certificates in PEM", "")
		}
	}
}

func isDatabase(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && strconv.FormatUint(n, 10) == text
}

func (c *compiler) logout(o *Object, b *v1alpha1.BackChannelLogout, out *token.Revocation) {
	spec := &o.IdentityProvider.Spec
	if spec.Introspection != nil || spec.Userinfo != nil {
		c.add(o.at("spec", "revocation", "backChannelLogout"), "found logout tokens beside access tokens that are no JWTs", "a provider with jwt", "without keys, no logout token can be verified; another IdentityProvider of the same issuer and prefix can take them")
	}
	out.LogoutClients = b.ClientIDs
	c.strings(o, b.ClientIDs, "client", "spec", "revocation", "backChannelLogout", "clientIDs")
	if len(b.ClientIDs) == 0 {
		c.missing(o, "the clients of which a logout token must name one", "spec", "revocation", "backChannelLogout", "clientIDs")
	}
	out.TokenLifetime = defaultTokenLifetime
	if t := b.TokenLifetime; t != nil {
		out.TokenLifetime = t.Duration
		if (t.Duration < time.Minute || t.Duration > maxTokenLifetime) && !o.broken {
			c.add(o.at("spec", "revocation", "backChannelLogout", "tokenLifetime"), "found "+t.Duration.String(), "1m to "+maxTokenLifetime.String(), "as long as the longest-lived access token")
		}
	}
}
