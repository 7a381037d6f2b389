package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Mode of an AuthPolicy.
type Mode string

// The modes: Enforce decides, Shadow decides beside the host's Enforce policy and changes nothing.
const (
	Enforce Mode = "Enforce"
	Shadow  Mode = "Shadow"
)

// AuthPolicy says who may do what at the hosts it guards.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=ap,categories=usher
// +kubebuilder:printcolumn:name="Hosts",type=string,JSONPath=`.spec.hosts`
// +kubebuilder:printcolumn:name="Mode",type=string,JSONPath=`.spec.mode`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Programmed",type=string,JSONPath=`.status.conditions[?(@.type=="Programmed")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Accepted")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type AuthPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	Spec AuthPolicySpec `json:"spec"`
	// Status is written by Usher.
	Status *Status `json:"status,omitempty"`
}

// AuthPolicyList is a list of them.
//
// +kubebuilder:object:root=true
type AuthPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []AuthPolicy `json:"items"`
}

// AuthPolicySpec is the policy.
type AuthPolicySpec struct {
	// Hosts it guards: a name, "*.suffix" (one or more labels before the suffix) or "*". A policy without hosts is
	// reached only by name, from Envoy's context_extensions.
	Hosts []string `json:"hosts,omitempty"`
	// Providers are the names of the IdentityProviders whose tokens are accepted; NAMESPACE/NAME for one of another namespace
	// that allows it.
	Providers []string `json:"providers"`
	// Mode is Enforce (the default) or Shadow.
	Mode Mode `json:"mode,omitempty"`
	// API says which routes there are.
	API API `json:"api"`
	// Backend is the service behind, where ownership is looked up and where the generated Envoy configuration sends
	// requests.
	Backend *Backend `json:"backend,omitempty"`
	// PublicURL is the scheme, host and, where Envoy cuts one off, path prefix that clients see, such as
	// https://agents.example.com. DPoP proofs are checked against it. Default: as the request came to Envoy.
	PublicURL string `json:"publicURL,omitempty"`
	// ResourceMetadata is the URL of the RFC 9728 document that challenges name, where somebody else serves it.
	ResourceMetadata string `json:"resourceMetadata,omitempty"`
	// ProtectedResource makes Usher serve that document itself, and challenges name it.
	ProtectedResource *ProtectedResource `json:"protectedResource,omitempty"`
	// TokenFrom says where the token is, if not in the Authorization header.
	TokenFrom *TokenFrom `json:"tokenFrom,omitempty"`
	// Anonymous is Deny (the default), or Allow for requests without any token: rules then see user.isAuthenticated false.
	// A bad token is 401 all the same.
	Anonymous string `json:"anonymous,omitempty"`
	// Revocation says what becomes of requests while it is not known what the providers' lists of revoked tokens hold.
	Revocation *RevocationPolicy `json:"revocation,omitempty"`
	// ClientCertificate says where the client's certificate is, if not on the connection to this Envoy.
	ClientCertificate *ClientCertificate `json:"clientCertificate,omitempty"`
	// Assertion gives the backend a short-lived JWT that says who the user is.
	Assertion *Assertion `json:"assertion,omitempty"`
	// ForwardToken leaves the Authorization header for the backend. Default false: the backend gets identity headers.
	ForwardToken bool `json:"forwardToken,omitempty"`
	// Variables are constants for the rules' expressions: variables.NAME is a text, a number, a boolean, a list or an object.
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:Type=object
	// +kubebuilder:pruning:PreserveUnknownFields
	Variables Fields `json:"variables,omitempty"`
	// Conditions are CEL expressions that give a bool, for the rules' expressions and for each other: conditions.NAME. Each is
	// evaluated when it is first needed, and then at most once for an operation.
	Conditions map[string]string `json:"conditions,omitempty"`
	// Rules: the most specific one applies, and only that. An operation without a rule is denied.
	Rules []Rule `json:"rules,omitempty"`
	// IdentityHeaders are request headers for the backend: name and CEL expression. Client copies are removed always.
	IdentityHeaders map[string]string `json:"identityHeaders,omitempty"`
	// CORS is for the generated Envoy configuration: browsers' preflights are answered by Envoy, before the check.
	CORS *CORS `json:"cors,omitempty"`
}

// API is a preset, or routes: a list of them, those of an OpenAPI document, or both.
type API struct {
	// Preset is a known API: langgraph.
	Preset string `json:"preset,omitempty"`
	// LangGraph says how the server of preset langgraph is set up, and what of it the policy opens.
	LangGraph *LangGraph `json:"langgraph,omitempty"`
	// Public adds public routes to a preset's.
	Public []PublicRoute `json:"public,omitempty"`
	// Routes of any other API. A request that no route matches is answered 404.
	Routes []Route `json:"routes,omitempty"`
	// OpenAPI is a document whose operations are routes, beside those in routes.
	OpenAPI *OpenAPI `json:"openapi,omitempty"`
}

// PublicRoute needs no token and carries no identity.
type PublicRoute struct {
	Method string `json:"method"`
	Path   string `json:"path"`
}

// Route is a method and a path template, and what a request for it is about.
type Route struct {
	// Method, in capitals. A GET route answers HEAD too.
	Method string `json:"method,omitempty"`
	// Methods are several, in place of method.
	Methods []string `json:"methods,omitempty"`
	// Path is a template: {name} is one segment, {name=**} at the end is the rest.
	Path string `json:"path"`
	// Public routes need no token.
	Public bool `json:"public,omitempty"`
	// On is "resource:action", for a route that is not public.
	On string `json:"on,omitempty"`
	// Object is the existing object that a request is about: filters are compared with its metadata.
	Object *RouteObject `json:"object,omitempty"`
	// StampAt is where in the JSON body a rule's stamp goes: "labels", "order.labels", "orders[].labels" (each element),
	// "." (the body itself), or a JSON Pointer.
	StampAt string `json:"stampAt,omitempty"`
	// Narrow is how a list is narrowed to what the rule allows.
	Narrow *Narrow `json:"narrow,omitempty"`
}

// RouteObject says where an object is looked up, and what of the answer is its metadata.
type RouteObject struct {
	// Get is the object's path at the backend, a template such as "/orders/{id}" with parameters of the route's path.
	Get string `json:"get"`
	// ID is a CEL expression over value that gives {id}: a string, an integer, or a list of them, each of which is looked up.
	// Default: {id} of the route's path.
	ID string `json:"id,omitempty"`
	// Metadata is a CEL expression over body, the answer as JSON: the object that filters are compared with. Default:
	// body.metadata.
	Metadata string `json:"metadata,omitempty"`
	// AnswerID is a CEL expression over body: what must equal the id. Default: nothing is compared.
	AnswerID string `json:"answerID,omitempty"`
}

// Narrow says what narrows a list.
type Narrow struct {
	// Query parameters and the CEL expressions of their values. They take the place of the client's own, however spelt.
	// One whose expression gives optional.none() is left to the client.
	Query map[string]string `json:"query"`
}

// Backend is the service behind the policy.
type Backend struct {
	// URL is http or https, without a path.
	URL string `json:"url"`
	// Headers are sent with each look-up, where the backend asks for credentials of its own, such as x-api-key. Requests
	// of clients never get them.
	Headers map[string]HeaderValue `json:"headers,omitempty"`
	// CARef names a Secret with the PEM certificates that the backend is trusted by when objects are looked up, instead of
	// the usual roots. Its default key is "ca.crt".
	CARef *SecretKeyRef `json:"caRef,omitempty"`
	// CacheFor is how long what was looked up is good, at most 1m. Writes that pass through Usher are seen at once. Default
	// 5s.
	CacheFor *metav1.Duration `json:"cacheFor,omitempty"`
}

// Rule decides the operations that `on` selects.
type Rule struct {
	// On is "*", "resource", "resource:action" or "*:action".
	On string `json:"on"`
	// Allow is a CEL expression, true where it is not given.
	Allow string `json:"allow,omitempty"`
	// Require are the scopes that the user's permissions must hold, all of them; without one the answer is 403
	// insufficient_scope (RFC 6750, section 3.1).
	Require []string `json:"require,omitempty"`
	// StepUp asks for a login that was strong or recent enough (RFC 9470).
	StepUp *StepUp `json:"stepUp,omitempty"`
	// Filter selects the objects that the operation may touch, by their metadata: members are CEL expressions, or
	// $eq, $contains, $or and $and.
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:Type=object
	// +kubebuilder:pruning:PreserveUnknownFields
	Filter Fields `json:"filter,omitempty"`
	// Unfiltered is a CEL expression: where it is true the filter is not applied, which the decision record says. The stamp
	// is then written only to what the request creates, so that an object that exists keeps its owner.
	Unfiltered string `json:"unfiltered,omitempty"`
	// Message is what the client reads where the rule denies (403). An object that is not the caller's is 404 all the same.
	Message string `json:"message,omitempty"`
	// Stamp is written into the metadata of what is created or updated: members are CEL expressions.
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:Type=object
	// +kubebuilder:pruning:PreserveUnknownFields
	Stamp Fields `json:"stamp,omitempty"`
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

// StepUp is what a token's login must have been. What it lacks is answered 401 insufficient_user_authentication.
type StepUp struct {
	// ACRValues are the values of `acr` of which the token must carry one.
	ACRValues []string `json:"acrValues,omitempty"`
	// MaxAge is how long ago the user may have logged in (`auth_time`).
	MaxAge *metav1.Duration `json:"maxAge,omitempty"`
}

// ProtectedResource is what the RFC 9728 document says, beside the providers' issuers.
type ProtectedResource struct {
	// Resource is the identifier of what is protected, an https URL; the document is served at its well-known place.
	Resource string `json:"resource"`
	// Scopes that there are.
	Scopes []string `json:"scopes,omitempty"`
	// Name for people.
	Name string `json:"name,omitempty"`
	// Documentation is a URL for developers.
	Documentation string `json:"documentation,omitempty"`
}

// TokenFrom is just one of its fields.
type TokenFrom struct {
	// Header has the bare token, without a scheme.
	Header string `json:"header,omitempty"`
	// Cookie has it.
	Cookie *TokenCookie `json:"cookie,omitempty"`
}

// TokenCookie is a cookie with a token. A browser sends it along whoever asks, so requests that may change something must
// say that they come from one of the origins.
type TokenCookie struct {
	// Name of the cookie.
	Name string `json:"name"`
	// AllowOrigins are the exact origins of the pages that may use it, such as https://chat.example.com.
	AllowOrigins []string `json:"allowOrigins"`
}

// RevocationPolicy says how much the policy depends on the lists of revoked tokens that its providers have.
type RevocationPolicy struct {
	// OnUnavailable says what happens to tokens while their provider's list cannot be read: Deny (the default) answers 503,
	// Allow goes on with what is known of it.
	OnUnavailable string `json:"onUnavailable,omitempty"`
}

// ClientCertificate says who speaks for the client's certificate.
type ClientCertificate struct {
	// ForwardedHeader is x-forwarded-client-cert, where a trusted proxy before this Envoy ends the client's TLS. The proxy must
	// write the header anew, and this Envoy hand on just that one element. Whoever else reaches this Envoy can name any
	// certificate: let it ask for the proxy's own. The certificate of the connection does not count then.
	ForwardedHeader string `json:"forwardedHeader"`
}

// Assertion is a JWT of Usher's own for the backend, published keys at the admin server's /assertion/jwks.json.
type Assertion struct {
	// Header that carries it.
	Header string `json:"header"`
	// Issuer is its `iss`.
	Issuer string `json:"issuer"`
	// Audience is its `aud`.
	Audience string `json:"audience"`
	// KeyRefs name the Secrets with its private keys, ES256 or EdDSA, as JWK or PEM: the first one signs, all are published.
	// Their default key is "privateKey".
	KeyRefs []SecretKeyRef `json:"keyRefs"`
	// Lifetime of an assertion. Default 1m.
	Lifetime *metav1.Duration `json:"lifetime,omitempty"`
	// Claims are more members: name and CEL expression.
	Claims map[string]string `json:"claims,omitempty"`
}
