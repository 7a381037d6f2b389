package manifest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/k8s/api/v1alpha1"
	"github.com/usher-authz/usher/policy"
)

// tenantMark stands for the tenant in an issuer, as Microsoft's discovery document writes it.
const tenantMark = "{tenantid}"

// untenanted is the issuer of some tenant, for checking it as a URL.
func untenanted(t policy.Text) policy.Text {
	t.Text = strings.ReplaceAll(t.Text, tenantMark, "tenant")
	return t
}

// issuers are the values of iss that a provider's tokens may have.
func issuers(spec *v1alpha1.IdentityProviderSpec) []string {
	if !strings.Contains(spec.Issuer, tenantMark) {
		return []string{spec.Issuer}
	}
	var out []string
	for _, tenant := range spec.Tenants {
		out = append(out, strings.ReplaceAll(spec.Issuer, tenantMark, tenant))
	}
	return out
}

// claims checks what a token's claims must be beside issuer and audience.
func (c *compiler) claims(o *Object, config *token.Config) {
	spec := &o.IdentityProvider.Spec
	config.Tenants, config.AudienceClaim, config.Clients = spec.Tenants, spec.AudienceClaim, spec.Clients
	c.strings(o, spec.Tenants, "tenant", "spec", "tenants")
	c.strings(o, spec.Clients, "client", "spec", "clients")
	for _, list := range []string{"tenants", "clients"} {
		if t, given := o.find("spec", list); given && t.IsList && len(t.Items) == 0 {
			c.add(o.at("spec", list), "found an empty list", "at least one item", "leave the field out to accept any")
		}
	}
	switch marked := strings.Contains(spec.Issuer, tenantMark); {
	case marked && len(spec.Tenants) == 0:
		c.add(o.at("spec", "issuer"), "found an issuer with "+tenantMark+" and no tenants", "spec.tenants, the values of tid that are accepted", "without them every organisation of the provider could log in")
	case !marked && len(spec.Tenants) > 0 && !o.broken:
		c.add(o.at("spec", "tenants"), "found tenants, and an issuer without "+tenantMark, "an issuer such as https://login.microsoftonline.com/"+tenantMark+"/v2.0", "for one tenant, write its id into the issuer")
	case marked && (spec.Introspection != nil || spec.Userinfo != nil):
		c.add(o.at("spec", "tenants"), "found tenants beside tokens that are no JWTs", "jwt", "")
	case marked && (spec.JWT == nil || spec.JWT.JWKSURI == "" && spec.JWT.Keys == nil):
		c.add(o.at("spec", "issuer"), "found an issuer with "+tenantMark+" and no jwksURI", "where the keys of all tenants are", "for Microsoft Entra ID: https://login.microsoftonline.com/common/discovery/v2.0/keys")
	}
	if _, given := o.find("spec", "audienceClaim"); given && !slices.Contains([]string{"aud", "client_id", "azp", "cid"}, spec.AudienceClaim) && !o.broken {
		c.add(o.at("spec", "audienceClaim"), fmt.Sprintf("found claim %q", spec.AudienceClaim), "aud, client_id, azp or cid", "a claim that the user can set says nothing about whom the token is for")
	}
	if a := spec.MaxAge; a != nil {
		config.MaxAge = a.Duration
		if a.Duration <= 0 && !o.broken {
			c.add(o.at("spec", "maxAge"), "found "+a.Duration.String(), "more than 0s", "leave it out to accept tokens until they expire")
		}
	}
	config.RequiredClaims = c.requiredClaims(o)
}

// requiredClaims reads names with a value, or with a list of values.
func (c *compiler) requiredClaims(o *Object) map[string][]any {
	t, given := o.find("spec", "requiredClaims")
	if !given || !t.IsObject {
		return nil
	}
	if len(t.Members) == 0 {
		c.add(o.at("spec", "requiredClaims"), "found no claims", "names and values, such as {email_verified: true}", "")
	}
	out := map[string][]any{}
	for _, m := range t.Members {
		if m.Name.Text == "" {
			c.add(m.Name.Pos, "found a claim without a name", "the name of a claim", "")
		}
		items := []policy.Tree{m.Value}
		if m.Value.IsList {
			items = m.Value.Items
		}
		if len(items) == 0 {
			c.add(m.Value.Pos, "found an empty list", "at least one value", "")
		}
		for _, item := range items {
			switch item.Scalar.(type) {
			case string, bool, int64, float64:
				out[m.Name.Text] = append(out[m.Name.Text], item.Scalar)
			case unread:
			default:
				c.add(item.Pos, "found what is no text, number or boolean", "the value that the claim must have, or a list of such values", "what is more than that can be said by a rule, over user.claims")
			}
		}
	}
	return out
}
