package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Mode of an AuthPolicy.
//
// +kubebuilder:validation:Enum=Enforce;Shadow;""
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
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="In Force",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Programmed")].reason`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Accepted")].message`
type AuthPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// Spec is the policy.
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

	// Items are the objects.
	Items []AuthPolicy `json:"items"`
}

// AuthPolicySpec is the policy.
//
// +kubebuilder:validation:XValidation:rule=`has(self.providers) && self.providers.size() > 0 || self.api.?preset.orValue("") == "" && (!has(self.api.routes) || self.api.routes.all(r, has(r.public) && r.public))`,message="expected the names of the IdentityProviders whose tokens are accepted",reason=FieldValueRequired,fieldPath=".providers"
// +kubebuilder:validation:XValidation:rule=`has(self.backend) || !has(self.rules) || !self.rules.exists(r, has(r.filter)) || self.api.?preset.orValue("") == "" && (!has(self.api.routes) || !self.api.routes.exists(r, has(r.object)))`,message="expected the backend's URL: the filters of rules are looked up there",reason=FieldValueRequired,fieldPath=".backend"
// +kubebuilder:validation:XValidation:rule=`!has(self.protectedResource) || self.?resourceMetadata.orValue("") == ""`,message="found both resourceMetadata and protectedResource, expected one of them; resourceMetadata is for a document that somebody else serves",reason=FieldValueForbidden,fieldPath=".protectedResource"
// +kubebuilder:validation:XValidation:rule=`self.?identityHeaders.orValue({}).size() == 0 || self.api.?langgraph.?webSocket.orValue("") != "Allow"`,message="found identityHeaders beside webSocket: Allow, expected one of them; what is said over a WebSocket is not seen, and could stand in for these headers",reason=FieldValueForbidden,fieldPath=".identityHeaders"
// +kubebuilder:validation:XValidation:rule=`!has(self.hosts) || self.?mode.orValue("") == "Shadow" || self.hosts.all(h, self.hosts.exists_one(other, other == h))`,message="found a host twice, expected each once",reason=FieldValueForbidden,fieldPath=".hosts"
type AuthPolicySpec struct {
	// Hosts it guards: a name, "*.suffix" (one or more labels before the suffix) or "*". A policy without hosts is
	// reached only by name, from Envoy's context_extensions.
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MaxLength=255
	// +kubebuilder:validation:items:Pattern=`^([*]|([*][.])?[0-9A-Za-z._-]+)$`
	Hosts []string `json:"hosts,omitempty"`
	// Providers are the names of the IdentityProviders whose tokens are accepted; NAMESPACE/NAME for one of another namespace
	// that allows it. Only a policy all of whose routes are public needs none.
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MaxLength=317
	// +kubebuilder:validation:items:Pattern=`^([0-9a-z-]+/)?[0-9a-z.-]+$`
	// +kubebuilder:validation:XValidation:rule=`self.all(p, self.exists_one(other, other == p))`,message="found a provider twice, expected each once"
	Providers []string `json:"providers,omitempty"`
	// Mode is Enforce, or Shadow: decide and record beside the host's Enforce policy, and change nothing. Default: Enforce.
	Mode Mode `json:"mode,omitempty"`
	// API says which routes there are.
	API API `json:"api"`
	// Backend is the service behind, where ownership is looked up and where the generated Envoy configuration sends
	// requests.
	Backend *Backend `json:"backend,omitempty"`
	// PublicURL is the scheme, host and, where Envoy cuts one off, path prefix that clients see, such as
	// https://agents.example.com. DPoP proofs are checked against it. Default: as the request came to Envoy.
	// +kubebuilder:validation:XValidation:rule=`self == "" || self.matches("^(?i:https?)://[^/?#@]+(/[^?#]*)?$") && !self.endsWith("/")`,message="expected an absolute https URL such as https://agents.example.com or https://example.com/agents, without a slash at its end"
	// +kubebuilder:validation:XValidation:rule=`!self.startsWith("http:") || self.contains("localhost") || self.contains("//127.") || self.contains("//[")`,message="found a public URL over plain http, expected https"
	PublicURL string `json:"publicURL,omitempty"`
	// ResourceMetadata is the URL of the RFC 9728 document that challenges name, where somebody else serves it.
	// +kubebuilder:validation:XValidation:rule=`self == "" || self.matches("^(?i:https)://[^/?#@]+([/?][^#]*)?$")`,message="expected an absolute https URL such as https://agents.example.com/.well-known/oauth-protected-resource"
	ResourceMetadata string `json:"resourceMetadata,omitempty"`
	// ProtectedResource makes Usher serve that document itself, and challenges name it.
	ProtectedResource *ProtectedResource `json:"protectedResource,omitempty"`
	// TokenFrom says where the token is. Default: in the Authorization header.
	TokenFrom *TokenFrom `json:"tokenFrom,omitempty"`
	// Anonymous is Allow for requests without any token: rules then see user.isAuthenticated false. A bad token is 401 all the
	// same. Default: Deny.
	// +kubebuilder:validation:Enum=Deny;Allow;""
	Anonymous string `json:"anonymous,omitempty"`
	// Revocation says what becomes of requests while it is not known what the providers' lists of revoked tokens hold.
	Revocation *RevocationPolicy `json:"revocation,omitempty"`
	// ClientCertificate says where the client's certificate is. Default: on the connection to this Envoy.
	ClientCertificate *ClientCertificate `json:"clientCertificate,omitempty"`
	// Assertion gives the backend a short-lived JWT that says who the user is.
	Assertion *Assertion `json:"assertion,omitempty"`
	// ForwardToken leaves the Authorization header for the backend, which gets identity headers else. Default: false.
	ForwardToken bool `json:"forwardToken,omitempty"`
	// Variables are constants for the rules' expressions: variables.NAME is a text, a number, a boolean, a list or an object.
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:Type=object
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:MaxProperties=1000
	Variables Fields `json:"variables,omitempty"`
	// Conditions are CEL expressions that give a bool, for the rules' expressions and for each other: conditions.NAME. Each is
	// evaluated when it is first needed, and then at most once for an operation.
	// +kubebuilder:validation:XValidation:rule=`self.all(name, self[name] != "")`,message="found an empty expression, expected CEL that gives a bool"
	// +kubebuilder:validation:MaxProperties=256
	Conditions map[string]string `json:"conditions,omitempty"`
	// Rules: the most specific one applies, and only that. An operation without a rule is denied.
	// +kubebuilder:validation:MaxItems=2000
	Rules []Rule `json:"rules,omitempty"`
	// IdentityHeaders are request headers for the backend: name and CEL expression. Client copies are removed always.
	// +kubebuilder:validation:XValidation:rule=`self.all(name, self[name] != "")`,message="found an empty expression, expected CEL that gives a string"
	// +kubebuilder:validation:XValidation:rule=`["Authorization", "authorization", "Cookie", "cookie", "Host", "host", "Forwarded", "forwarded", "X-Forwarded-For", "x-forwarded-for", "Content-Type", "content-type", "Content-Length", "content-length", "DPoP", "dpop", "X-Request-Id", "x-request-id"].all(name, !(name in self))`,message="found a header which steers the request itself, expected a name of its own, such as x-user-id",reason=FieldValueForbidden
	// +kubebuilder:validation:MaxProperties=64
	IdentityHeaders map[string]string `json:"identityHeaders,omitempty"`
	// CORS is for the generated Envoy configuration: browsers' preflights are answered by Envoy, before the check.
	CORS *CORS `json:"cors,omitempty"`
}

// Backend is the service behind the policy.
type Backend struct {
	// URL is http or https, without a path.
	// +kubebuilder:validation:XValidation:rule=`self.matches("^(?i:https?)://[^/?#@]+$")`,message="expected an absolute URL such as https://langgraph.agents.svc:8000: just scheme, host and port, without a slash at the end"
	URL string `json:"url"`
	// Headers are sent with each look-up, where the backend asks for credentials of its own, such as x-api-key. Requests
	// of clients never get them.
	// +kubebuilder:validation:XValidation:rule=`["Accept", "accept", "User-Agent", "user-agent", "Host", "host", "Content-Type", "content-type", "Content-Length", "content-length", "Connection", "connection"].all(name, !(name in self))`,message="found a header that Usher sets itself, expected another header",reason=FieldValueForbidden
	// +kubebuilder:validation:MaxProperties=64
	Headers map[string]HeaderValue `json:"headers,omitempty"`
	// CARef names a Secret with the PEM certificates that the backend is trusted by when objects are looked up, instead of
	// the usual roots. Its default key is "ca.crt".
	CARef *SecretKeyRef `json:"caRef,omitempty"`
	// CacheFor is how long what was looked up is good. Writes that pass through Usher are seen at once. Default: 5s.
	// +kubebuilder:validation:XValidation:rule=`duration(self) > duration("0s") && duration(self) <= duration("1m")`,message="expected a duration of more than 0s, at most 1m, such as 5s"
	CacheFor *metav1.Duration `json:"cacheFor,omitempty"`
}

// CORS is what browsers may do (Fetch standard).
//
// +kubebuilder:validation:XValidation:rule=`!has(self.allowHeaders) || !("*" in self.allowHeaders)`,message="found header \"*\", expected the names of headers",reason=FieldValueForbidden,fieldPath=".allowHeaders"
type CORS struct {
	// AllowOrigins are exact origins, such as https://chat.example.com.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:Pattern=`^https?://[0-9a-z._:[\]-]+$`
	AllowOrigins []string `json:"allowOrigins"`
	// AllowMethods are those that pages may use. Default: GET, POST, PUT, PATCH, DELETE.
	// +kubebuilder:validation:MaxItems=7
	// +kubebuilder:validation:items:Enum=GET;HEAD;POST;PUT;PATCH;DELETE;OPTIONS
	// +kubebuilder:validation:XValidation:rule=`self.all(m, self.exists_one(other, other == m))`,message="found a method twice, expected each once"
	AllowMethods []string `json:"allowMethods,omitempty"`
	// AllowHeaders are those that pages may send. Default: authorization, content-type, last-event-id and those that
	// LangGraph's SDK sends.
	// +kubebuilder:validation:items:Pattern=`^[^\s"(),/:;<=>?@[\\\]{}]+$`
	// +kubebuilder:validation:MaxItems=256
	AllowHeaders []string `json:"allowHeaders,omitempty"`
	// MaxAge that a browser may keep a preflight's answer. Default: 10m.
	// +kubebuilder:validation:XValidation:rule=`duration(self) >= duration("0s") && duration(self) <= duration("24h")`,message="expected a duration of 0s to 24h, such as 10m"
	MaxAge *metav1.Duration `json:"maxAge,omitempty"`
}

// ProtectedResource is what the RFC 9728 document says, beside the providers' issuers.
type ProtectedResource struct {
	// Resource is the identifier of what is protected, an https URL; the document is served at its well-known place.
	// +kubebuilder:validation:XValidation:rule=`self.matches("^(?i:https?)://[^/?#@]+(/[^?#]*)?$")`,message="expected an absolute https URL such as https://agents.example.com, without user information, query and fragment"
	// +kubebuilder:validation:XValidation:rule=`!self.startsWith("http:") || self.contains("localhost") || self.contains("//127.") || self.contains("//[")`,message="found a resource over plain http, expected https"
	Resource string `json:"resource"`
	// Scopes that there are.
	// +kubebuilder:validation:items:Pattern=`^[!#-[\]-~]+$`
	// +kubebuilder:validation:MaxItems=1000
	Scopes []string `json:"scopes,omitempty"`
	// Name for people.
	Name string `json:"name,omitempty"`
	// Documentation is a URL for developers.
	// +kubebuilder:validation:XValidation:rule=`self == "" || self.matches("^(?i:https)://[^/?#@]+([/?][^#]*)?$")`,message="expected an absolute https URL such as https://docs.example.com/api"
	Documentation string `json:"documentation,omitempty"`
}

// Assertion is a JWT of Usher's own for the backend, published keys at the admin server's /assertion/jwks.json.
type Assertion struct {
	// Header that carries it, such as usher-assertion.
	// +kubebuilder:validation:Pattern=`^[0-9A-Za-z-]+$`
	// +kubebuilder:validation:XValidation:rule=`!(self.lowerAscii() in ["authorization", "cookie", "host", "forwarded", "dpop", "content-type", "content-length", "connection", "x-forwarded-for", "x-request-id"])`,message="found a header which steers the request itself, expected a name of its own, such as usher-assertion"
	Header string `json:"header"`
	// Issuer is its `iss`.
	// +kubebuilder:validation:Pattern=`^[!-~]+$`
	Issuer string `json:"issuer"`
	// Audience is its `aud`.
	// +kubebuilder:validation:Pattern=`^[!-~]+$`
	Audience string `json:"audience"`
	// KeyRefs name the Secrets with its private keys, ES256 or EdDSA, as JWK or PEM: the first one signs, all are published.
	// Their default key is "privateKey".
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=10
	KeyRefs []SecretKeyRef `json:"keyRefs"`
	// Lifetime of an assertion. Default: 1m.
	// +kubebuilder:validation:XValidation:rule=`duration(self) >= duration("10s") && duration(self) <= duration("10m") && duration(self).getMilliseconds() == 1000 * duration(self).getSeconds()`,message="expected a duration of 10s to 10m in whole seconds, such as 1m"
	Lifetime *metav1.Duration `json:"lifetime,omitempty"`
	// Claims are more members: name and CEL expression over user.
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule=`self.all(name, self[name] != "")`,message="found an empty expression, expected CEL over user"
	// +kubebuilder:validation:XValidation:rule=`["", "iss", "sub", "aud", "exp", "nbf", "iat", "jti", "cnf"].all(name, !(name in self))`,message="found a claim which Usher sets itself or cannot promise (iss, sub, aud, exp, nbf, iat, jti, cnf), expected another name",reason=FieldValueForbidden
	Claims map[string]string `json:"claims,omitempty"`
}
