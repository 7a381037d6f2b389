package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Group and version of Usher's kinds, and the names of all kinds of this package; Secret is Kubernetes' own, apiVersion v1.
const (
	GroupVersion         = "usher.dev/v1alpha1"
	KindIdentityProvider = "IdentityProvider"
	KindAuthPolicy       = "AuthPolicy"
	KindSecret           = "Secret"
)

// IdentityProvider is an authorization server, and how its tokens are validated.
type IdentityProvider struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	Spec IdentityProviderSpec `json:"spec"`
}

// IdentityProviderSpec says what a token of this provider must be. Just one of jwt and introspection may be given; none
// is jwt with keys by OIDC discovery.
type IdentityProviderSpec struct {
	// Issuer is the exact `iss` of its tokens: an https URL without query or fragment (RFC 8414, section 2).
	Issuer string `json:"issuer"`
	// Audiences are the values of `aud` of which a token must carry one.
	Audiences []string `json:"audiences"`
	// JWT validates tokens that are JSON Web Tokens.
	JWT *JWT `json:"jwt,omitempty"`
	// Introspection asks the provider about opaque tokens (RFC 7662).
	Introspection *Introspection `json:"introspection,omitempty"`
	// Identity maps claims to the user that policies see.
	Identity IdentityMapping `json:"identity,omitempty"`
	// AllowHTTP lets Usher fetch keys over plain http, for a provider on loopback. Default false.
	AllowHTTP bool `json:"allowHTTP,omitempty"`
	// ClockSkew is how far clocks may differ when exp, nbf and iat are checked. Default 30s.
	ClockSkew *metav1.Duration `json:"clockSkew,omitempty"`
}

// JWT says where the keys come from, and what a token's header must say. Without jwksURI, keys and sharedSecret, keys
// come by OIDC discovery.
type JWT struct {
	// JWKSURI is fetched for keys, instead of discovery.
	JWKSURI string `json:"jwksURI,omitempty"`
	// Keys is a JWK set, inline (RFC 7517, section 5).
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
}

// JWKSet is a JWK set as RFC 7517 writes it: {keys: [...]}.
type JWKSet struct {
	// Keys are public keys, each a JSON object.
	Keys []map[string]any `json:"keys"`
}

// Introspection is an RFC 7662 endpoint and how Usher authenticates there (client_secret_basic).
type Introspection struct {
	// Endpoint is its https URL.
	Endpoint string `json:"endpoint"`
	// ClientID is Usher's client at the provider.
	ClientID string `json:"clientID"`
	// ClientSecretRef names the Secret that holds the client's secret. Its default key is "clientSecret".
	ClientSecretRef SecretKeyRef `json:"clientSecretRef"`
}

// SecretKeyRef names one key of a Secret. In a manifest it may be written as just the name.
type SecretKeyRef struct {
	// Name of the Secret.
	Name string `json:"name"`
	// Key within it. The field that holds the reference says its default.
	Key string `json:"key,omitempty"`
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

// Mode of an AuthPolicy.
type Mode string

// The modes: Enforce decides, Shadow decides beside the host's Enforce policy and changes nothing.
const (
	Enforce Mode = "Enforce"
	Shadow  Mode = "Shadow"
)

// AuthPolicy says who may do what at the hosts it guards.
type AuthPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	Spec AuthPolicySpec `json:"spec"`
}

// AuthPolicySpec is the policy.
type AuthPolicySpec struct {
	// Hosts it guards: a name, "*.suffix" (one or more labels before the suffix) or "*". A policy without hosts is
	// reached only by name, from Envoy's context_extensions.
	Hosts []string `json:"hosts,omitempty"`
	// Providers are the names of the IdentityProviders whose tokens are accepted.
	Providers []string `json:"providers"`
	// Mode is Enforce (the default) or Shadow.
	Mode Mode `json:"mode,omitempty"`
	// API says which routes there are.
	API API `json:"api"`
	// Backend is the service behind, where ownership is looked up and where the generated Envoy configuration sends
	// requests.
	Backend *Backend `json:"backend,omitempty"`
	// ResourceMetadata is the URL of the RFC 9728 document that challenges name.
	ResourceMetadata string `json:"resourceMetadata,omitempty"`
	// ForwardToken leaves the Authorization header for the backend. Default false: the backend gets identity headers.
	ForwardToken bool `json:"forwardToken,omitempty"`
	// Rules: the most specific one applies, and only that. An operation without a rule is denied.
	Rules []Rule `json:"rules,omitempty"`
	// IdentityHeaders are request headers for the backend: name and CEL expression. Client copies are removed always.
	IdentityHeaders map[string]string `json:"identityHeaders,omitempty"`
	// CORS is for the generated Envoy configuration: browsers' preflights are answered by Envoy, before the check.
	CORS *CORS `json:"cors,omitempty"`
}

// API is a preset or a list of routes, not both.
type API struct {
	// Preset is a known API: langgraph.
	Preset string `json:"preset,omitempty"`
	// Public adds public routes to a preset's.
	Public []PublicRoute `json:"public,omitempty"`
	// Routes of any other API. A request that no route matches is answered 404.
	Routes []Route `json:"routes,omitempty"`
}

// PublicRoute needs no token and carries no identity.
type PublicRoute struct {
	Method string `json:"method"`
	Path   string `json:"path"`
}

// Route is a method and a path template, and what a request for it is about.
type Route struct {
	// Method, in capitals. A GET route answers HEAD too.
	Method string `json:"method"`
	// Path is a template: {name} is one segment, {name=**} at the end is the rest.
	Path string `json:"path"`
	// Public routes need no token.
	Public bool `json:"public,omitempty"`
	// On is "resource:action", for a route that is not public.
	On string `json:"on,omitempty"`
}

// Backend is an http or https URL without a path.
type Backend struct {
	URL string `json:"url"`
}

// Rule decides the operations that `on` selects.
type Rule struct {
	// On is "*", "resource", "resource:action" or "*:action".
	On string `json:"on"`
	// Allow is a CEL expression, true where it is not given.
	Allow string `json:"allow,omitempty"`
	// Filter selects the objects that the operation may touch, by their metadata: members are CEL expressions, or
	// $eq, $contains, $or and $and.
	Filter map[string]any `json:"filter,omitempty"`
	// Stamp is written into the metadata of what is created or updated: members are CEL expressions.
	Stamp map[string]any `json:"stamp,omitempty"`
}

// CORS is what browsers may do (Fetch standard).
type CORS struct {
	// AllowOrigins are exact origins, such as https://chat.example.com.
	AllowOrigins []string `json:"allowOrigins"`
	// AllowMethods. Default GET, POST, PUT, PATCH, DELETE.
	AllowMethods []string `json:"allowMethods,omitempty"`
	// AllowHeaders. Default: authorization, content-type, last-event-id and those that LangGraph's SDK sends.
	AllowHeaders []string `json:"allowHeaders,omitempty"`
	// MaxAge that a browser may keep a preflight's answer. Default 10m.
	MaxAge *metav1.Duration `json:"maxAge,omitempty"`
}

// Secret is Kubernetes' v1 Secret, as far as references need it.
type Secret struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// Data is base64, as in a cluster.
	Data map[string][]byte `json:"data,omitempty"`
	// StringData is plain text and wins over Data.
	StringData map[string]string `json:"stringData,omitempty"`
	// Type is not looked at.
	Type string `json:"type,omitempty"`
	// Immutable is not looked at.
	Immutable bool `json:"immutable,omitempty"`
}
