package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// IdentityProvider is an authorization server, and how its tokens are validated.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=idp,categories=usher
// +kubebuilder:printcolumn:name="Issuer",type=string,JSONPath=`.spec.issuer`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Healthy",type=string,JSONPath=`.status.conditions[?(@.type=="Healthy")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Preset",type=string,priority=1,JSONPath=`.spec.preset`
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Accepted")].reason`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Accepted")].message`
// +kubebuilder:printcolumn:name="Health",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Healthy")].message`
type IdentityProvider struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// Spec says what a token of this provider must be.
	Spec IdentityProviderSpec `json:"spec"`
	// Status is written by Usher.
	Status *Status `json:"status,omitempty"`
}

// IdentityProviderList is a list of them.
//
// +kubebuilder:object:root=true
type IdentityProviderList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	// Items are the objects.
	Items []IdentityProvider `json:"items"`
}

// IdentityProviderSpec says what a token of this provider must be. Just one of jwt, introspection and userinfo may be
// given; none is jwt with keys by OIDC discovery.
//
// +kubebuilder:validation:XValidation:rule=`!has(self.userinfo) || !has(self.jwt) && !has(self.introspection)`,message="found userinfo beside another way to verify tokens, expected one of jwt, introspection and userinfo",reason=FieldValueForbidden,fieldPath=".userinfo"
// +kubebuilder:validation:XValidation:rule=`!has(self.introspection) || !has(self.jwt)`,message="found both jwt and introspection, expected one of them",reason=FieldValueForbidden,fieldPath=".introspection"
// +kubebuilder:validation:XValidation:rule=`has(self.issuer) || self.?preset.orValue("") == "google"`,message="expected the exact issuer of its tokens, such as https://auth.example.com/realms/agents",reason=FieldValueRequired,fieldPath=".issuer"
// +kubebuilder:validation:XValidation:rule=`has(self.audiences) || self.?preset.orValue("") == "supabase"`,message="expected the audiences of which a token must name one",reason=FieldValueRequired,fieldPath=".audiences"
// +kubebuilder:validation:XValidation:rule=`has(self.tenants) || !has(self.issuer) || !self.issuer.contains("{tenantid}")`,message="found an issuer with {tenantid} and no tenants, expected spec.tenants, the values of tid that are accepted",reason=FieldValueForbidden,fieldPath=".issuer"
// +kubebuilder:validation:XValidation:rule=`!has(self.tenants) || has(self.issuer) && self.issuer.contains("{tenantid}")`,message="found tenants, and an issuer without {tenantid}, expected an issuer such as https://login.microsoftonline.com/{tenantid}/v2.0",reason=FieldValueForbidden,fieldPath=".tenants"
// +kubebuilder:validation:XValidation:rule=`!has(self.tenants) || !has(self.introspection) && !has(self.userinfo)`,message="found tenants beside tokens that are no JWTs, expected jwt",reason=FieldValueForbidden,fieldPath=".tenants"
// +kubebuilder:validation:XValidation:rule=`!has(self.tenants) || has(self.preset) || has(self.introspection) || has(self.userinfo) || has(self.jwt) && (has(self.jwt.jwksURI) || has(self.jwt.keys))`,message="found an issuer with {tenantid} and no jwksURI, expected where the keys of all tenants are",reason=FieldValueForbidden,fieldPath=".issuer"
// +kubebuilder:validation:XValidation:rule=`!has(self.caRef) || !has(self.jwt) || !has(self.jwt.keys) && !has(self.jwt.sharedSecret) && !has(self.jwt.sharedSecretRef)`,message="found caRef beside keys that are not fetched",reason=FieldValueForbidden,fieldPath=".caRef"
// +kubebuilder:validation:XValidation:rule=`!has(self.revocation) || !has(self.revocation.backChannelLogout) || !has(self.introspection) && !has(self.userinfo)`,message="found logout tokens beside access tokens that are no JWTs, expected a provider with jwt",reason=FieldValueForbidden,fieldPath=".revocation.backChannelLogout"
// +kubebuilder:validation:XValidation:rule=`self.?allowHTTP.orValue(false) || !self.?issuer.orValue("").startsWith("http:")`,message="found an issuer over plain http, expected https; for a provider on loopback set spec.allowHTTP: true",reason=FieldValueForbidden,fieldPath=".issuer"
// +kubebuilder:validation:XValidation:rule=`self.?allowHTTP.orValue(false) || !self.?jwt.?jwksURI.orValue("").startsWith("http:")`,message="found a jwksURI over plain http, expected https; for a provider on loopback set spec.allowHTTP: true",reason=FieldValueForbidden,fieldPath=".jwt.jwksURI"
// +kubebuilder:validation:XValidation:rule=`self.?allowHTTP.orValue(false) || !self.?introspection.?endpoint.orValue("").startsWith("http:")`,message="found an endpoint over plain http, expected https; for a provider on loopback set spec.allowHTTP: true",reason=FieldValueForbidden,fieldPath=".introspection.endpoint"
// +kubebuilder:validation:XValidation:rule=`self.?allowHTTP.orValue(false) || !self.?userinfo.?endpoint.orValue("").startsWith("http:")`,message="found an endpoint over plain http, expected https; for a provider on loopback set spec.allowHTTP: true",reason=FieldValueForbidden,fieldPath=".userinfo.endpoint"
type IdentityProviderSpec struct {
	// Preset fills in what is peculiar to a known authorization server. What the manifest says itself wins. See
	// docs/providers.
	// +kubebuilder:validation:Enum=auth0;cognito;entra;google;keycloak;kubernetes;okta;supabase
	Preset string `json:"preset,omitempty"`
	// Issuer is the exact `iss` of its tokens: an https URL without query or fragment (RFC 8414, section 2). With tenants
	// it has {tenantid} in the place of the tenant. Preset google has it; it is required elsewhere.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:XValidation:rule=`self.matches("^(?i:https?)://[^/?#@]+(/[^?#]*)?$")`,message="expected an absolute https URL such as https://auth.example.com/realms/agents, without user information, query and fragment"
	Issuer string `json:"issuer,omitempty"`
	// Tenants are the values of claim `tid` that are accepted, for an issuer with {tenantid} (Microsoft Entra ID).
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:MaxItems=1000
	Tenants []string `json:"tenants,omitempty"`
	// Audiences are the values of `aud` of which a token must carry one. Preset supabase has them; they are required
	// elsewhere.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:items:Pattern=`^\S([\s\S]*\S)?$`
	// +kubebuilder:validation:MaxItems=256
	Audiences []string `json:"audiences,omitempty"`
	// AudienceClaim is the claim that must hold one of the audiences: client_id for Amazon Cognito, whose access tokens have no
	// aud. Default: aud.
	// +kubebuilder:validation:Enum=aud;client_id;azp;cid
	AudienceClaim string `json:"audienceClaim,omitempty"`
	// Clients are the OAuth clients whose tokens are accepted, by client_id (RFC 9068, section 2.2) or azp (OpenID Connect
	// Core, section 2), Okta's cid or Microsoft's appid. Default: any.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:MaxItems=1000
	Clients []string `json:"clients,omitempty"`
	// RequiredClaims must be there with just this value, or one of a list of values.
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:Type=object
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:pruning:PreserveUnknownFields
	RequiredClaims Fields `json:"requiredClaims,omitempty"`
	// MaxAge is how long ago a token may have been issued (`iat`), whatever its exp says. Default: any time.
	// +kubebuilder:validation:XValidation:rule=`duration(self) > duration("0s")`,message="expected a duration of more than 0s, such as 1h"
	MaxAge *metav1.Duration `json:"maxAge,omitempty"`
	// JWT validates tokens that are JSON Web Tokens.
	JWT *JWT `json:"jwt,omitempty"`
	// Introspection asks the provider about opaque tokens (RFC 7662).
	Introspection *Introspection `json:"introspection,omitempty"`
	// Userinfo shows opaque tokens to an endpoint that says whose they are (OpenID Connect Core, section 5.3).
	Userinfo *Userinfo `json:"userinfo,omitempty"`
	// Identity maps claims to the user that policies see.
	Identity IdentityMapping `json:"identity,omitempty"`
	// ProofOfPossession says which proofs tokens need. A token that is bound to a key or a certificate is never accepted
	// without its proof, whatever stands here.
	ProofOfPossession *ProofOfPossession `json:"proofOfPossession,omitempty"`
	// Revocation keeps a list of what was revoked before it expired.
	Revocation *Revocation `json:"revocation,omitempty"`
	// AllowedNamespaces are other namespaces whose AuthPolicies may use this provider, as NAMESPACE/NAME; "*" is all of them.
	// Default: none.
	// +kubebuilder:validation:MaxItems=1000
	AllowedNamespaces []string `json:"allowedNamespaces,omitempty"`
	// AllowHTTP lets Usher ask the provider over plain http, for a provider on loopback. Default: false.
	AllowHTTP bool `json:"allowHTTP,omitempty"`
	// CARef names a Secret with the PEM certificates that the provider's servers are trusted by, instead of the usual
	// roots. Its default key is "ca.crt".
	CARef *SecretKeyRef `json:"caRef,omitempty"`
	// ClockSkew is how far clocks may differ when exp, nbf and iat are checked. Default: 30s.
	// +kubebuilder:validation:XValidation:rule=`duration(self) >= duration("0s") && duration(self) <= duration("10m")`,message="expected a duration of 0s to 10m, such as 30s"
	ClockSkew *metav1.Duration `json:"clockSkew,omitempty"`
}

// IdentityMapping are CEL expressions over `claims`.
type IdentityMapping struct {
	// Identity is the user's name, a non-empty string. Default: claims.sub.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=8192
	Identity string `json:"identity,omitempty"`
	// DisplayName is a string. Default: the identity.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=8192
	DisplayName string `json:"displayName,omitempty"`
	// Permissions is a list of strings. Default: none.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=8192
	Permissions string `json:"permissions,omitempty"`
}
