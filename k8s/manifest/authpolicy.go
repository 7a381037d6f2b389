package manifest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/usher-authz/usher/k8s/api/v1alpha1"
	"github.com/usher-authz/usher/policy"
)

// policy checks an AuthPolicy as far as the policy package does not, and converts it; false if there is nothing that the
// policy package could say about it.
func (c *compiler) policy(o *Object) (policy.Source, bool) {
	spec := &o.AuthPolicy.Spec
	s := policy.Source{Name: c.name(o), Tenant: c.tenant(o), Pos: o.at("metadata", "name"), ForwardToken: spec.ForwardToken, ResourceURL: spec.ResourceMetadata}
	switch spec.Mode {
	case "", v1alpha1.Enforce:
	case v1alpha1.Shadow:
		s.Shadow = true
	default:
		modes := []string{string(v1alpha1.Enforce), string(v1alpha1.Shadow)}
		c.add(o.at("spec", "mode"), fmt.Sprintf("found mode %q", spec.Mode), oneOf(modes), didYouMean(string(spec.Mode), modes))
	}
	for i := range spec.Hosts {
		if h := o.text("spec", "hosts", i); c.host(h) && (s.Shadow || c.claim(h, o)) {
			s.Hosts = append(s.Hosts, h)
		}
	}
	before := len(c.problems)
	s.API = c.api(o)
	if ref := o.ConfigMapRefs(); c.reviewing && len(ref) > 0 && c.byName[key{v1alpha1.KindConfigMap, o.Namespace, ref[0]}] == nil {
		return s, false // which routes there are is not known before the document is read
	}
	noRoutes := spec.API.OpenAPI != nil && len(s.API.Routes) == 0 && (len(c.problems) > before || c.unread) // and why was said
	s.Providers, s.Warnings = c.providers(o, s.API), c.namesakes(o)
	if spec.ResourceMetadata != "" {
		// RFC 9728, section 3.
		c.url(o.text("spec", "resourceMetadata"), urlRule{what: "a metadata URL", path: true, query: true, example: "https://agents.example.com/.well-known/oauth-protected-resource"})
	}
	if spec.PublicURL != "" {
		s.PublicURL = c.publicURL(o)
	}
	if spec.ClientCertificate != nil {
		s.ForwardedCertificate = c.clientCertificate(o)
	}
	if spec.ProtectedResource != nil {
		s.ResourceURL, s.Document = c.protectedResource(o)
	}
	s.Anonymous = c.anonymous(o)
	if spec.Revocation != nil {
		s.RevocationMayLag = c.revocationMayLag(o)
	}
	if spec.TokenFrom != nil {
		s.TokenFrom = c.tokenFrom(o)
	}
	if options, given := o.find("spec", "api", "langgraph"); given && s.API.Options == nil && !o.broken {
		c.add(options.Pos, "found options of preset langgraph without that preset", "preset: langgraph", "")
	}
	s.Variables, s.Conditions = c.variables(o)
	s.Rules = c.rules(o, s.API)
	s.IdentityHeaders = c.identityHeaders(o)
	s.Assertion = c.assertion(o)
	if spec.CORS != nil {
		c.cors(o)
	}
	// A field that could not be read may be the reason why there are no routes.
	return s, !(o.broken || noRoutes) || s.API.Preset.Text != "" || len(s.API.Routes) > 0
}

// host checks the name of a host.
func (c *compiler) host(t policy.Text) bool {
	const want = `a host name, "*.suffix" or "*"`
	if t.Text == "*" {
		return true
	}
	name := strings.TrimPrefix(strings.ToLower(t.Text), "*.")
	if isHost(name) && isVisible(t.Text) { // the Kelvin sign is a k in lower case
		return true
	}
	hint := ""
	switch {
	case strings.Contains(t.Text, "://"):
		hint = "leave out the scheme"
	case strings.Contains(t.Text, "/"):
		hint = "leave out the path"
	case strings.Contains(t.Text, ":"):
		hint = "leave out the port: a policy guards every port"
	case strings.Contains(t.Text, "*"):
		hint = "a wildcard stands for the first labels, as in *.example.com"
	}
	if t.Text == "" {
		c.add(t.Pos, "found an empty host", want, "")
	} else {
		c.add(t.Pos, fmt.Sprintf("found host %q", t.Text), want, hint)
	}
	return false
}

// providers resolves the names within the policy's namespace. Two of one issuer are refused, as which of them verifies a
// token would be chance; but one may take its JWTs and the other its opaque tokens.
func (c *compiler) providers(o *Object, api policy.APISource) []string {
	spec := &o.AuthPolicy.Spec
	var out []string
	issuers := map[[2]string]policy.Position{}
	seen := map[string]bool{}
	for i, name := range spec.Providers {
		at := o.at("spec", "providers", i)
		if name == "" && o.broken {
			continue
		}
		if seen[name] {
			c.add(at, fmt.Sprintf("found provider %q twice", name), "each once", "")
			continue
		}
		seen[name] = true
		p := c.named(o, name)
		if p == nil {
			c.unknownProvider(o, name, at)
			continue
		}
		if slices.Contains(out, c.name(p)) {
			c.add(at, fmt.Sprintf("found provider %q twice", name), "each once", "")
			continue
		}
		out = append(out, c.name(p))
		issuer, kind := p.IdentityProvider.Spec.Issuer, "jwt"
		if p.IdentityProvider.Spec.Introspection != nil || p.IdentityProvider.Spec.Userinfo != nil {
			kind = "opaque"
		}
		if first, ok := issuers[[2]string{issuer, kind}]; ok && issuer != "" {
			c.add(at, fmt.Sprintf("found a second provider with issuer %q", issuer), "each issuer once in a policy", "the first one is at "+first.String())
			continue
		}
		issuers[[2]string{issuer, kind}] = at
	}
	if len(spec.Providers) == 0 && !allPublic(api) && (spec.API.OpenAPI == nil || len(api.Routes) > 0) {
		c.missing(o, "the names of the IdentityProviders whose tokens are accepted", "spec", "providers")
	}
	return out
}

// namesakes warns of providers whose users can have one identity: a subject is unique within its issuer only (OpenID Connect
// Core 1.0, section 2), and who is alice at one of them would get what is alice's of another. A mapping that adds a text of
// its own to the claim tells them apart.
func (c *compiler) namesakes(o *Object) policy.Problems {
	var first *v1alpha1.IdentityProviderSpec
	for i, name := range o.AuthPolicy.Spec.Providers {
		p := c.named(o, name)
		if p == nil || strings.ContainsAny(p.IdentityProvider.Spec.Identity.Identity, `"'`) {
			continue
		}
		switch spec := &p.IdentityProvider.Spec; {
		case first == nil:
			first = spec
		case spec.Issuer != first.Issuer:
			return policy.Problems{{
				Pos: o.at("spec", "providers", i), Found: fmt.Sprintf("users of provider %q can have the same identity as those of another provider of the policy", name),
				Want: "identities that differ from provider to provider", Hint: fmt.Sprintf("add a text to the mapping of one of them, such as identity: '%q + claims.sub'; what it owned before then belongs to nobody", name+":"),
			}}
		}
	}
	return nil
}

// named finds the provider of a policy: one of its own namespace, or NAMESPACE/NAME of another that allows it. Whoever may
// not use one learns nothing of it.
func (c *compiler) named(o *Object, name string) *Object {
	namespace, short := o.Namespace, name
	if other, rest, ok := strings.Cut(name, "/"); ok {
		namespace, short = other, rest
	}
	p := c.lookUp(key{v1alpha1.KindIdentityProvider, namespace, short})
	if p == nil || namespace == o.Namespace {
		return p
	}
	if !p.allows(o.Namespace) {
		return nil
	}
	// What was withdrawn is withdrawn, in a version with a mistake elsewhere too. It needs no note in memos: what is remembered
	// of an earlier reading is asked for before anything stands in for a provider.
	if now := c.given[c.key(p)]; now != nil && now.legible() && !now.allows(o.Namespace) {
		return nil
	}
	return p
}

// allows reports whether policies of the namespace may use the provider.
func (o *Object) allows(namespace string) bool {
	return slices.ContainsFunc(o.IdentityProvider.Spec.AllowedNamespaces, func(n string) bool { return n == "*" || n == namespace })
}

// legible reports whether anything of the spec could be read.
func (o *Object) legible() bool {
	spec, ok := o.find("spec")
	return ok && len(spec.Members) > 0
}

func (c *compiler) unknownProvider(o *Object, name string, at policy.Position) {
	if c.unread {
		return // it may be the object that could not be read
	}
	if strings.Contains(name, "/") {
		c.unresolved(at, fmt.Sprintf("found provider %q", name), "a provider that exists and allows this namespace", "its spec.allowedNamespaces must have "+fmt.Sprintf("%q", o.Namespace))
		return
	}
	known := c.names(v1alpha1.KindIdentityProvider, o.Namespace)
	hint := didYouMean(name, known)
	if hint == "" && len(known) == 0 {
		hint = "an IdentityProvider in the same namespace"
	}
	c.unresolved(at, fmt.Sprintf("found unknown provider %q", name), oneOf(known), hint)
}

func allPublic(api policy.APISource) bool {
	return api.Preset.Text == "" && len(api.Routes) > 0 && !slices.ContainsFunc(api.Routes, func(r policy.RouteSource) bool { return !r.Public })
}

// rules converts the rules; the policy package checks what they say.
func (c *compiler) rules(o *Object, api policy.APISource) []policy.RuleSource {
	var out []policy.RuleSource
	spec := &o.AuthPolicy.Spec
	backend := spec.Backend != nil || len(c.presets[spec.API.Preset].Events) == 0 && !slices.ContainsFunc(api.Routes, func(r policy.RouteSource) bool { return r.Object != nil })
	for i, rule := range spec.Rules {
		r := policy.RuleSource{Pos: o.at("spec", "rules", i), On: o.text("spec", "rules", i, "on")}
		if rule.On == "" {
			c.missing(o, "what the rule is for, such as threads or threads:create", "spec", "rules", i, "on")
			continue
		}
		if _, given := o.find("spec", "rules", i, "allow"); given {
			allow := o.text("spec", "rules", i, "allow")
			if strings.TrimSpace(allow.Text) == "" {
				if !o.broken {
					c.add(allow.Pos, "found an empty expression", "CEL that gives a bool", "leave allow out to allow what the filter selects")
				}
			} else {
				r.Allow = &allow
			}
		}
		r.Require, r.Login = c.require(o, i), c.login(o, i)
		r.Unfiltered, r.Message = c.unfiltered(o, i), c.message(o, i)
		r.Filter, r.Stamp = c.tree(o, "filter", i), c.tree(o, "stamp", i)
		if r.Filter != nil && !backend {
			backend = true // once is enough
			c.missing(o, "the backend's URL: the filter of "+rule.On+" is looked up there", "spec", "backend")
		}
		out = append(out, r)
	}
	return out
}

// tree returns a rule's filter or stamp; nil if there is none.
func (c *compiler) tree(o *Object, name string, i int) *policy.Tree {
	t, ok := o.find("spec", "rules", i, name)
	if !ok || !t.IsObject {
		return nil
	}
	if len(t.Members) == 0 {
		what := map[string]string{"filter": "it would select everything", "stamp": "it would write nothing"}[name]
		if !o.broken {
			c.add(o.at("spec", "rules", i, name), "found an empty "+name, "names and expressions, such as {owner: user.identity}", what+"; leave it out")
		}
		return nil
	}
	return &t
}
