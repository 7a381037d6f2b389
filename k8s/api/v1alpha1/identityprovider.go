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
type IdentityProvider struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

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

	Items []IdentityProvider `json:"items"`
}

// IdentityProviderSpec says what a token of this provider must be. Just one of jwt, introspection and userinfo may be
// given; none is jwt with keys by OIDC discovery.
type IdentityProviderSpec struct {
	// Preset fills in what is peculiar to a known authorization server: auth0, cognito, entra, google, keycloak,
	// kubernetes, okta or supabase. What the manifest says itself wins. See docs/providers.
	Preset string `json:"preset,omitempty"`
	// Issuer is the exact `iss` of its tokens: an https URL without query or fragment (RFC 8414, section 2). With tenants
	// it has {tenantid} in the place of the tenant.
	Issuer string `json:"issuer"`
	// Tenants are the values of claim `tid` that are accepted, for an issuer with {tenantid} (Microsoft Entra ID).
	Tenants []string `json:"tenants,omitempty"`
	// Audiences are the values of `aud` of which a token must carry one.
	Audiences []string `json:"audiences"`
	// AudienceClaim is the claim that must hold one of the audiences. Default aud; client_id for Amazon Cognito, whose
	// access tokens have no aud.
	AudienceClaim string `json:"audienceClaim,omitempty"`
	// Clients are the OAuth clients whose tokens are accepted, by client_id (RFC 9068, section 2.2) or azp (OpenID Connect
	// Core, section 2), Okta's cid or Microsoft's appid. Default: any.
	Clients []string `json:"clients,omitempty"`
	// RequiredClaims must be there with just this value, or one of a list of values.
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:Type=object
	// +kubebuilder:pruning:PreserveUnknownFields
	RequiredClaims Fields `json:"requiredClaims,omitempty"`
	// MaxAge is how long ago a token may have been issued (`iat`), whatever its exp says. Default: any time.
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
	AllowedNamespaces []string `json:"allowedNamespaces,omitempty"`
	// AllowHTTP lets Usher ask the provider over plain http, for a provider on loopback. Default false.
	AllowHTTP bool `json:"allowHTTP,omitempty"`
	// CARef names a Secret with the PEM certificates that the provider's servers are trusted by, instead of the usual
	// roots. Its default key is "ca.crt".
	CARef *SecretKeyRef `json:"caRef,omitempty"`
	// ClockSkew is how far clocks may differ when exp, nbf and iat are checked. Default 30s.
	ClockSkew *metav1.Duration `json:"clockSkew,omitempty"`
}

// JWT says where the keys come from, and what a token's header must say. Without jwksURI, keys and sharedSecret, keys
// come by OIDC discovery.
type JWT struct {
	// JWKSURI is fetched for keys, instead of discovery.
	JWKSURI string `json:"jwksURI,omitempty"`
	// Keys is a JWK set, inline (RFC 7517, section 5).
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:Type=object
	// +kubebuilder:pruning:PreserveUnknownFields
	Keys *JWKSet `json:"keys,omitempty"`
	// SharedSecret is the HMAC secret of HS256, HS384 or HS512, for Supabase's legacy projects. Prefer sharedSecretRef.
	SharedSecret string `json:"sharedSecret,omitempty"`
	// SharedSecretRef names the Secret that holds it. Its default key is "sharedSecret".
	SharedSecretRef *SecretKeyRef `json:"sharedSecretRef,omitempty"`
	// Algorithms that are accepted. Default: RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA; with a shared
	// secret: HS256.
	Algorithms []string `json:"algorithms,omitempty"`
	// Typ lists the accepted values of the header's `typ`, such as at+jwt (RFC 9068). Default: any.
	Typ []string `json:"typ,omitempty"`
	// MaxStale is how long fetched keys stay good while the provider cannot be reached. Default 24h.
	MaxStale *metav1.Duration `json:"maxStale,omitempty"`
}

// JWKSet is a JWK set as RFC 7517 writes it: {keys: [...]}.
type JWKSet struct {
	// Keys are public keys, each a JSON object.
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:Type=array
	// +kubebuilder:pruning:PreserveUnknownFields
	Keys []Fields `json:"keys"`
}

// Introspection is an RFC 7662 endpoint and how Usher authenticates there.
type Introspection struct {
	// Endpoint is its https URL.
	Endpoint string `json:"endpoint"`
	// ClientID is Usher's client at the provider.
	ClientID string `json:"clientID"`
	// ClientAuthMethod is client_secret_basic (the default), client_secret_post or private_key_jwt, as OpenID Connect Core,
	// section 9, names them.
	ClientAuthMethod string `json:"clientAuthMethod,omitempty"`
	// PrivateKeyRef names the Secret that holds the client's private key for private_key_jwt, as JWK or PEM: EC P-256 (ES256),
	// Ed25519 (EdDSA) or RSA (RS256, or PS256 where the JWK's alg says so). Its default key is "privateKey".
	PrivateKeyRef *SecretKeyRef `json:"privateKeyRef,omitempty"`
	// ClientAssertionAudience is the aud of the assertions of private_key_jwt, for a provider that does not take its issuer
	// there, such as Okta, which wants the endpoint's URL. Default: the issuer.
	ClientAssertionAudience string `json:"clientAssertionAudience,omitempty"`
	// ClientSecretRef names the Secret that holds the client's secret for the other methods. Its default key is
	// "clientSecret".
	ClientSecretRef *SecretKeyRef `json:"clientSecretRef,omitempty"`
	// CacheFor is how long an active answer is good, never past exp. Default 30s.
	CacheFor *metav1.Duration `json:"cacheFor,omitempty"`
}

// Userinfo is an endpoint that answers with the claims of the user whose token it is shown.
type Userinfo struct {
	// Endpoint is its https URL.
	Endpoint string `json:"endpoint"`
	// Headers are sent beside the token, such as Supabase's apikey.
	Headers map[string]HeaderValue `json:"headers,omitempty"`
	// TokenParameter posts the token as this form parameter instead of an Authorization header, for Google's tokeninfo:
	// access_token.
	TokenParameter string `json:"tokenParameter,omitempty"`
	// AnyAudience accepts an answer that does not say whom the token is for: then every application that users of the
	// provider log in to can act as them here. Default false: such an answer refuses the token.
	AnyAudience bool `json:"anyAudience,omitempty"`
	// CacheFor is how long an answer is good. Default 30s.
	CacheFor *metav1.Duration `json:"cacheFor,omitempty"`
}

// HeaderValue is a text, or the key of a Secret.
type HeaderValue struct {
	// Value is the text itself.
	Value string `json:"value,omitempty"`
	// SecretRef names the Secret that holds it. Its default key is the header's name.
	SecretRef *SecretKeyRef `json:"secretRef,omitempty"`
}

// ProofOfPossession says which proofs tokens need beyond those that they are bound to.
type ProofOfPossession struct {
	// Required refuses bearer tokens: each must be bound to a DPoP key or to a certificate.
	Required bool `json:"required,omitempty"`
	// Nonces asks for a nonce of Usher's own in each DPoP proof (RFC 9449, section 9).
	Nonces bool `json:"nonces,omitempty"`
	// NonceKeyRef names the Secret with the key that nonces are made by, at least 32 bytes; all replicas need the same.
	// Its default key is "nonceKey". Without it, each process makes its own when it starts.
	NonceKeyRef *SecretKeyRef `json:"nonceKeyRef,omitempty"`
}

// Revocation is a list of tokens, sessions and users that are not accepted any more.
type Revocation struct {
	// Redis holds the list; every replica subscribes to it.
	Redis Redis `json:"redis"`
	// BackChannelLogout takes the provider's logout tokens at the admin server (OpenID Connect Back-Channel Logout 1.0).
	BackChannelLogout *BackChannelLogout `json:"backChannelLogout,omitempty"`
}

// Redis is a server that speaks Redis' protocol.
type Redis struct {
	// URL is redis://HOST:PORT/DB or rediss:// for TLS, without a password.
	URL string `json:"url"`
	// Username, where the server has users.
	Username string `json:"username,omitempty"`
	// PasswordRef names the Secret that holds the password. Its default key is "password".
	PasswordRef *SecretKeyRef `json:"passwordRef,omitempty"`
	// CARef names a Secret with the PEM certificates that the server is trusted by. Its default key is "ca.crt".
	CARef *SecretKeyRef `json:"caRef,omitempty"`
	// Prefix of every key and channel. Default usher:revoked:
	Prefix string `json:"prefix,omitempty"`
}

// BackChannelLogout says whose logout tokens are taken.
type BackChannelLogout struct {
	// ClientIDs are the values of a logout token's `aud` of which it must carry one: the clients that users log in by.
	ClientIDs []string `json:"clientIDs"`
	// TokenLifetime is how long a logout is remembered: as long as the longest-lived access token. Default 24h.
	TokenLifetime *metav1.Duration `json:"tokenLifetime,omitempty"`
}

// IdentityMapping are CEL expressions over `claims`.
type IdentityMapping struct {
	// Identity is the user's name, a non-empty string. Default: claims.sub
	Identity string `json:"identity,omitempty"`
	// DisplayName is a string. Default: the identity
	DisplayName string `json:"displayName,omitempty"`
	// Permissions is a list of strings. Default: none
	Permissions string `json:"permissions,omitempty"`
}
