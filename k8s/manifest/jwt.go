package manifest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/k8s/api/v1alpha1"
	"github.com/usher-authz/usher/policy"
)

// hmacSize is the shortest secret of each HMAC algorithm: as long as its hash (RFC 7518, section 3.2).
func hmacSize(algorithm string) int {
	return map[string]int{"HS256": 32, "HS384": 48, "HS512": 64}[algorithm]
}

// How long fetched keys may be good while the provider cannot be reached.
const minStale, maxStale = 30 * time.Minute, 7 * 24 * time.Hour

func asymmetric() []string {
	return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
}

// jwt checks where the keys come from and what a token's header must say.
func (c *compiler) jwt(o *Object, jwt *v1alpha1.JWT, config *token.Config) {
	var sources []string
	for _, name := range []string{"jwksURI", "keys", "sharedSecret", "sharedSecretRef"} {
		if _, ok := o.find("spec", "jwt", name); ok {
			sources = append(sources, name)
		}
	}
	if len(sources) > 1 {
		c.add(o.at("spec", "jwt", sources[1]), "found "+sources[0]+" and "+sources[1], "one source of keys", "without any, keys come by OIDC discovery")
	}
	symmetric := slices.ContainsFunc(sources, func(s string) bool { return s == "sharedSecret" || s == "sharedSecretRef" })
	config.Algorithms, config.Typ = jwt.Algorithms, jwt.Typ
	c.types(o, jwt.Typ)
	c.algorithms(o, jwt, symmetric)
	if m := jwt.MaxStale; m != nil {
		config.MaxStale = m.Duration
		if (m.Duration < minStale || m.Duration > maxStale) && !o.broken {
			c.add(o.at("spec", "jwt", "maxStale"), "found "+m.Duration.String(), minStale.String()+" to "+maxStale.String(), "keys are fetched every few minutes; leave it out to take 24h")
		}
		if len(sources) > 0 && sources[0] != "jwksURI" {
			c.add(o.at("spec", "jwt", "maxStale"), "found maxStale beside keys that are not fetched", "", "leave it out")
		}
	}
	if _, given := o.find("spec", "caRef"); given && len(sources) > 0 && sources[0] != "jwksURI" {
		c.add(o.at("spec", "caRef"), "found caRef beside keys that are not fetched", "", "leave it out")
	}
	for _, source := range sources {
		at := o.at("spec", "jwt", source)
		switch source {
		case "jwksURI":
			config.JWKSURI = jwt.JWKSURI
			c.url(o.text("spec", "jwt", "jwksURI"), urlRule{what: "a jwksURI", local: config.AllowHTTP, path: true, query: true, example: "https://auth.example.com/keys"})
		case "keys":
			config.JWKS = c.jwks(o, jwt.Keys)
		case "sharedSecret":
			config.SharedSecret = []byte(jwt.SharedSecret)
			c.strength(o, config.SharedSecret, jwt.Algorithms, at)
		case "sharedSecretRef":
			config.SharedSecret = c.secret(o, *jwt.SharedSecretRef, "sharedSecret", "spec", "jwt", "sharedSecretRef")
			if config.SharedSecret != nil {
				c.strength(o, config.SharedSecret, jwt.Algorithms, at)
			}
		}
	}
}

// notAccess are types of JWT that are no access token, whoever signed them (RFC 8725, section 3.11).
func notAccess() []string {
	return []string{"dpop+jwt", "logout+jwt", "secevent+jwt", "oauth-authz-req+jwt", "token-introspection+jwt", "kb+jwt"}
}

// types checks the accepted values of a header's typ, which are compared without regard to case.
func (c *compiler) types(o *Object, types []string) {
	c.list(o, "spec", "jwt", "typ")
	folded := make([]string, len(types))
	for i, typ := range types {
		folded[i] = strings.TrimPrefix(strings.ToLower(typ), "application/")
		if slices.Contains(notAccess(), folded[i]) {
			c.add(o.at("spec", "jwt", "typ", i), fmt.Sprintf("found typ %q", typ), "the type of access tokens, such as at+jwt", "who has such a JWT does not have an access token by that")
		}
	}
	c.strings(o, folded, "typ", "spec", "jwt", "typ")
}

// algorithms refuses unknown ones, `none`, and the mixing of symmetric and asymmetric ones (RFC 8725, section 2.1).
func (c *compiler) algorithms(o *Object, jwt *v1alpha1.JWT, symmetric bool) {
	if _, given := o.find("spec", "jwt", "algorithms"); given && len(jwt.Algorithms) == 0 && !o.broken {
		c.add(o.at("spec", "jwt", "algorithms"), "found an empty list", "at least one algorithm", "leave the field out to take its default")
	}
	known := append(asymmetric(), "HS256", "HS384", "HS512")
	c.strings(o, jwt.Algorithms, "algorithm", "spec", "jwt", "algorithms")
	for i, a := range jwt.Algorithms {
		at := o.at("spec", "jwt", "algorithms", i)
		switch {
		case a == "":
		case !slices.Contains(known, a):
			hint := didYouMean(a, known)
			if a == "none" {
				hint = "a token without a signature proves nothing"
			}
			c.add(at, fmt.Sprintf("found unknown algorithm %q", a), oneOf(known), hint)
		case hmacSize(a) > 0 && !symmetric:
			c.add(at, fmt.Sprintf("found %s without a shared secret", a), oneOf(asymmetric()), "HMAC needs jwt.sharedSecretRef")
		case hmacSize(a) == 0 && symmetric:
			c.add(at, fmt.Sprintf("found %s with a shared secret", a), "HS256, HS384 or HS512", "a provider has either a shared secret or public keys")
		}
	}
}

// strength refuses a secret shorter than the hash (RFC 7518, section 3.2).
func (c *compiler) strength(o *Object, secret []byte, algorithms []string, at policy.Position) {
	if len(algorithms) == 0 {
		algorithms = []string{"HS256"}
	}
	for _, a := range algorithms {
		if n := hmacSize(a); len(secret) < n && !o.broken {
			c.add(at, fmt.Sprintf("found a secret of %d bytes", len(secret)), fmt.Sprintf("at least %d for %s", n, a), "RFC 7518, section 3.2")
			return
		}
	}
	issuer, err := url.Parse(o.IdentityProvider.Spec.Issuer)
	if slices.Contains(publishedSecrets, string(secret)) && (err != nil || !isLoopback(issuer.Hostname())) {
		c.add(at, "found a secret that documentation publishes as an example", "a random one", "whoever reads it can sign tokens for anybody; only a provider on loopback may have it")
	}
}

// publishedSecrets are long enough, and known to everybody: those that Supabase's command line and its example for self-hosting
// set (https://supabase.com/docs/guides/self-hosting/docker), and those that the debugger of https://jwt.io signs with.
var publishedSecrets = []string{
	"super-secret-jwt-token-with-at-least-32-characters-long",
	"your-super-secret-jwt-token-with-at-least-32-characters-long",
	"a-string-secret-at-least-256-bits-long",
	"a-valid-string-secret-that-is-at-least-384-bits-long",
	"a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long",
}

// jwks checks inline keys: public ones that a token can be verified with (RFC 7517, RFC 7518 section 6, RFC 8037).
func (c *compiler) jwks(o *Object, set *v1alpha1.JWKSet) []byte {
	if set == nil {
		return nil
	}
	if len(set.Keys) == 0 {
		c.missing(o, "at least one JWK", "spec", "jwt", "keys", "keys")
	}
	kids := map[any]bool{}
	for i, jwk := range set.Keys {
		at := func(name string) policy.Position { return o.at("spec", "jwt", "keys", "keys", i, name) }
		c.jwk(jwk, at)
		if kid, ok := jwk["kid"]; ok {
			if _, ok := kid.(string); !ok {
				c.add(at("kid"), "found a kid that is no string", "a string", "")
				continue
			}
			if kids[kid] {
				c.add(at("kid"), fmt.Sprintf("found kid %q twice", kid), "each key id once", "")
			}
			kids[kid] = true
		}
	}
	text, err := json.Marshal(set)
	if err != nil {
		c.add(o.at("spec", "jwt", "keys"), "found keys that are no JSON", "a JWK set", "")
	}
	return text
}

func (c *compiler) jwk(jwk map[string]any, at func(string) policy.Position) {
	for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
		if _, ok := jwk[private]; ok {
			c.add(at(private), fmt.Sprintf("found a key with member %q, which is private", private), "a public key", "whoever reads it can sign tokens: withdraw it; a shared secret goes into a Secret, see jwt.sharedSecretRef")
			return
		}
	}
	need := map[string][]string{"RSA": {"n", "e"}, "EC": {"crv", "x", "y"}, "OKP": {"crv", "x"}}
	kty, _ := jwk["kty"].(string)
	members, ok := need[kty]
	if !ok {
		c.add(at("kty"), fmt.Sprintf("found a key of type %q", kty), "RSA, EC or OKP", "")
		return
	}
	for _, name := range members {
		s, _ := jwk[name].(string)
		b, err := base64.RawURLEncoding.Strict().DecodeString(s)
		switch {
		case s == "":
			c.add(at(name), fmt.Sprintf("found no member %q of the key", name), "a public JWK", "")
		case name == "crv":
			c.curve(kty, s, at(name))
		case err != nil:
			c.add(at(name), "found what is not base64url", "base64url without padding", "RFC 7515, section 2")
		case name == "n" && len(b) < 256:
			c.add(at(name), fmt.Sprintf("found an RSA key of %d bits", 8*len(b)), "at least 2048", "RFC 7518, section 3.3")
		}
	}
	if use, ok := jwk["use"]; ok && use != "sig" {
		c.add(at("use"), "found a key that is not for signatures", "use: sig", "")
	}
}

func (c *compiler) curve(kty, crv string, at policy.Position) {
	known := []string{"P-256", "P-384", "P-521"}
	if kty == "OKP" {
		known = []string{"Ed25519"}
	}
	if !slices.Contains(known, crv) {
		c.add(at, fmt.Sprintf("found curve %q", crv), oneOf(known), "")
	}
}
