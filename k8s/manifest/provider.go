package manifest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/k8s/api/v1alpha1"
	"github.com/usher-authz/usher/policy"
)

// maxSkew bounds clockSkew: past it, `exp` would say little.
const maxSkew = 10 * time.Minute

// provider checks an IdentityProvider and resolves its secrets. What it returns counts only if there is no problem.
func (c *compiler) provider(o *Object) token.Config {
	spec := &o.IdentityProvider.Spec
	config := token.Config{
		Name: c.name(o), Issuer: spec.Issuer, Audiences: spec.Audiences, AllowHTTP: spec.AllowHTTP, Tenant: c.tenant(o), NoLocal: c.noLocal(o),
	}
	if spec.Issuer == "" {
		c.missing(o, "the exact issuer of its tokens, such as https://auth.example.com/realms/agents", "spec", "issuer")
	} else {
		// RFC 8414, section 2: https, without query or fragment.
		c.url(untenanted(o.text("spec", "issuer")), urlRule{what: "an issuer", local: spec.AllowHTTP, path: true, example: "https://auth.example.com/realms/agents"})
	}
	c.strings(o, spec.Audiences, "audience", "spec", "audiences")
	for i, a := range spec.Audiences {
		if strings.TrimSpace(a) != a {
			c.add(o.at("spec", "audiences", i), "found an audience with white space at an end", "just what stands in the tokens", "audiences are compared byte by byte")
		}
	}
	if len(spec.Audiences) == 0 {
		c.missing(o, "the audiences of which a token must name one", "spec", "audiences")
	}
	if s := spec.ClockSkew; s != nil {
		config.ClockSkew = &s.Duration
		if s.Duration < 0 || s.Duration > maxSkew {
			c.add(o.at("spec", "clockSkew"), "found "+s.Duration.String(), "0s to "+maxSkew.String(), "leave it out to take 30s")
		}
	}
	c.claims(o, &config)
	if spec.ProofOfPossession != nil {
		config.Proof = c.possession(o)
	}
	if spec.CARef != nil {
		config.CA = c.authority(o, *spec.CARef, "spec", "caRef")
	}
	switch {
	case spec.Userinfo != nil && (spec.JWT != nil || spec.Introspection != nil):
		c.add(o.at("spec", "userinfo"), "found userinfo beside another way to verify tokens", "one of jwt, introspection and userinfo", "a provider for JWTs and one for opaque tokens can stand in one policy")
	case spec.Userinfo != nil:
		config.Userinfo = c.userinfo(o, spec)
	case spec.JWT != nil && spec.Introspection != nil:
		c.add(o.at("spec", "introspection"), "found both jwt and introspection", "one of them", "a provider for JWTs and one for opaque tokens can stand in one policy")
	case spec.Introspection != nil:
		config.Introspection = c.introspection(o, spec)
	case spec.JWT != nil:
		c.jwt(o, spec.JWT, &config)
	}
	config.Revocation = c.revocation(o)
	config.Identity = c.mapping(o)
	config.Fingerprint = fingerprint(&config, spec)
	return config
}

// strings checks a list whose items are compared exactly: none empty, none twice.
func (c *compiler) strings(o *Object, list []string, what string, path ...any) {
	seen := map[string]bool{}
	for i, s := range list {
		at := o.at(append(slices.Clone(path), i)...)
		switch {
		case s == "":
			if !o.broken {
				c.add(at, "found an empty "+what, "a text", "")
			}
		case seen[s]:
			c.add(at, fmt.Sprintf("found %s %q twice", what, s), "each once", "")
		}
		seen[s] = true
	}
}

func (c *compiler) mapping(o *Object) *policy.Mapping {
	text := func(name string) policy.Text {
		t := o.text("spec", "identity", name)
		if _, given := o.find("spec", "identity", name); given && strings.TrimSpace(t.Text) == "" && !o.broken {
			c.add(t.Pos, "found an empty expression", "CEL over claims", "leave the field out to take its default")
			t.Text = ""
		}
		return t
	}
	m, err := policy.NewMapping(policy.MappingSource{Identity: text("identity"), DisplayName: text("displayName"), Permissions: text("permissions")})
	c.join(err, o.at("spec", "identity"))
	return m
}

// secret resolves a reference within the object's namespace. The problems name the reference, never what it holds.
func (c *compiler) secret(o *Object, ref v1alpha1.SecretKeyRef, defaultKey string, path ...any) []byte {
	at := o.at(path...)
	if ref.Key == "" {
		ref.Key = defaultKey
	}
	s := c.lookUp(key{v1alpha1.KindSecret, o.Namespace, ref.Name})
	if own := o.secrets[ref.Name]; own != nil {
		s = &Object{Secret: own}
	}
	if s == nil {
		switch {
		case c.reviewing:
			c.unresolved(at, fmt.Sprintf("found Secret %q, which was not read yet", ref.Name), "a Secret with key "+ref.Key, "the object's status will tell")
		case !c.unread:
			hint := didYouMean(ref.Name, c.names(v1alpha1.KindSecret, o.Namespace))
			if hint == "" {
				hint = "a Secret in the same namespace serves it"
			}
			c.unresolved(at, fmt.Sprintf("found no Secret %q", ref.Name), "a Secret with key "+ref.Key, hint)
		}
		return nil
	}
	if v, ok := s.Secret.StringData[ref.Key]; ok {
		return []byte(v)
	}
	if v, ok := s.Secret.Data[ref.Key]; ok {
		return v
	}
	if !s.broken {
		c.unresolved(at, fmt.Sprintf("found no key %q in Secret %q", ref.Key, ref.Name), "a Secret with key "+ref.Key, "") // which ones it has is for those who may read it
	}
	return nil
}

// fingerprint identifies the resolved specification: what verifies tokens, and what is made of them. Secrets count, and
// cannot be found from it.
func fingerprint(c *token.Config, spec *v1alpha1.IdentityProviderSpec) string {
	var texts [][]byte // secrets as they are: JSON makes one of all texts that are not UTF-8
	if c.Introspection != nil {
		texts = append(texts, []byte(c.Introspection.ClientSecret))
	}
	if c.Revocation != nil {
		texts = append(texts, []byte(c.Revocation.Password))
	}
	text, err := json.Marshal(struct {
		Config *token.Config
		Spec   *v1alpha1.IdentityProviderSpec
		Texts  [][]byte
	}{c, spec, texts})
	if err != nil {
		return "" // equal to no other: see token.Config
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
