package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// JWT says where the keys come from, and what a token's header must say. Without jwksURI, keys and sharedSecret, keys
// come by OIDC discovery.
//
// +kubebuilder:validation:XValidation:rule=`[has(self.jwksURI), has(self.keys), has(self.sharedSecret), has(self.sharedSecretRef)].filter(given, given).size() <= 1`,message="found several of jwksURI, keys, sharedSecret and sharedSecretRef, expected one source of keys; without any, keys come by OIDC discovery",reason=FieldValueForbidden
// +kubebuilder:validation:XValidation:rule=`has(self.sharedSecret) || has(self.sharedSecretRef) || !has(self.algorithms) || !self.algorithms.exists(a, a.startsWith("HS"))`,message="found HMAC without a shared secret, expected RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512 or EdDSA; HMAC needs sharedSecretRef",reason=FieldValueForbidden,fieldPath=".algorithms"
// +kubebuilder:validation:XValidation:rule=`!has(self.sharedSecret) && !has(self.sharedSecretRef) || !has(self.algorithms) || self.algorithms.all(a, a.startsWith("HS"))`,message="found an algorithm of public keys with a shared secret, expected HS256, HS384 or HS512",reason=FieldValueForbidden,fieldPath=".algorithms"
// +kubebuilder:validation:XValidation:rule=`!has(self.maxStale) || !has(self.keys) && !has(self.sharedSecret) && !has(self.sharedSecretRef)`,message="found maxStale beside keys that are not fetched",reason=FieldValueForbidden,fieldPath=".maxStale"
type JWT struct {
	// JWKSURI is fetched for keys, instead of discovery.
	// +kubebuilder:validation:XValidation:rule=`self.matches("^(?i:https?)://[^/?#@]+([/?][^#]*)?$")`,message="expected an absolute https URL such as https://auth.example.com/keys, without user information and fragment"
	JWKSURI string `json:"jwksURI,omitempty"`
	// Keys is a JWK set, inline (RFC 7517, section 5): {keys: [...]}.
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:Type=object
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:pruning:PreserveUnknownFields
	Keys *JWKSet `json:"keys,omitempty"`
	// SharedSecret is the HMAC secret of HS256, HS384 or HS512, for Supabase's legacy projects. Prefer sharedSecretRef.
	SharedSecret string `json:"sharedSecret,omitempty"`
	// SharedSecretRef names the Secret that holds it. Its default key is "sharedSecret".
	SharedSecretRef *SecretKeyRef `json:"sharedSecretRef,omitempty"`
	// Algorithms that are accepted. Default: RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA; with a shared
	// secret: HS256.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=13
	// +kubebuilder:validation:items:Enum=RS256;RS384;RS512;PS256;PS384;PS512;ES256;ES384;ES512;EdDSA;HS256;HS384;HS512
	// +kubebuilder:validation:XValidation:rule=`self.all(a, self.exists_one(other, other == a))`,message="found an algorithm twice, expected each once"
	Algorithms []string `json:"algorithms,omitempty"`
	// Typ lists the accepted values of the header's `typ`, such as at+jwt (RFC 9068). Default: any.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:MaxItems=32
	Typ []string `json:"typ,omitempty"`
	// MaxStale is how long fetched keys stay good while the provider cannot be reached. Default: 24h.
	// +kubebuilder:validation:XValidation:rule=`duration(self) >= duration("30m") && duration(self) <= duration("168h")`,message="expected a duration of 30m to 168h, such as 24h"
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
//
// +kubebuilder:validation:XValidation:rule=`self.?clientAuthMethod.orValue("") != "private_key_jwt" || has(self.privateKeyRef)`,message="expected the name of a Secret with the client's private key",reason=FieldValueRequired,fieldPath=".privateKeyRef"
// +kubebuilder:validation:XValidation:rule=`self.?clientAuthMethod.orValue("") != "private_key_jwt" || !has(self.clientSecretRef)`,message="found clientSecretRef beside private_key_jwt, expected privateKeyRef alone",reason=FieldValueForbidden,fieldPath=".clientSecretRef"
// +kubebuilder:validation:XValidation:rule=`self.?clientAuthMethod.orValue("") == "private_key_jwt" || has(self.clientSecretRef)`,message="expected the name of a Secret",reason=FieldValueRequired,fieldPath=".clientSecretRef"
// +kubebuilder:validation:XValidation:rule=`self.?clientAuthMethod.orValue("") == "private_key_jwt" || !has(self.privateKeyRef)`,message="found privateKeyRef beside a method with a secret, expected clientAuthMethod: private_key_jwt, or no privateKeyRef",reason=FieldValueForbidden,fieldPath=".privateKeyRef"
// +kubebuilder:validation:XValidation:rule=`self.?clientAuthMethod.orValue("") == "private_key_jwt" || !has(self.clientAssertionAudience)`,message="found clientAssertionAudience beside a method with a secret, expected clientAuthMethod: private_key_jwt, or no clientAssertionAudience",reason=FieldValueForbidden,fieldPath=".clientAssertionAudience"
type Introspection struct {
	// Endpoint is its https URL.
	// +kubebuilder:validation:XValidation:rule=`self.matches("^(?i:https?)://[^/?#@]+([/?][^#]*)?$")`,message="expected an absolute https URL such as https://auth.example.com/introspect, without user information and fragment"
	Endpoint string `json:"endpoint"`
	// ClientID is Usher's client at the provider.
	// +kubebuilder:validation:MinLength=1
	ClientID string `json:"clientID"`
	// ClientAuthMethod is how Usher shows that it is this client, as OpenID Connect Core, section 9, names it. Default:
	// client_secret_basic.
	// +kubebuilder:validation:Enum=client_secret_basic;client_secret_post;private_key_jwt;""
	ClientAuthMethod string `json:"clientAuthMethod,omitempty"`
	// PrivateKeyRef names the Secret that holds the client's private key for private_key_jwt, as JWK or PEM: EC P-256 (ES256),
	// Ed25519 (EdDSA) or RSA (RS256, or PS256 where the JWK's alg says so). Its default key is "privateKey".
	PrivateKeyRef *SecretKeyRef `json:"privateKeyRef,omitempty"`
	// ClientAssertionAudience is the aud of the assertions of private_key_jwt, for a provider that does not take its issuer
	// there, such as Okta, which wants the endpoint's URL. Default: the issuer.
	// +kubebuilder:validation:Pattern=`^[!-~]+$`
	ClientAssertionAudience string `json:"clientAssertionAudience,omitempty"`
	// ClientSecretRef names the Secret that holds the client's secret for the other methods. Its default key is
	// "clientSecret".
	ClientSecretRef *SecretKeyRef `json:"clientSecretRef,omitempty"`
	// CacheFor is how long an active answer is good, never past exp. Default: 30s.
	// +kubebuilder:validation:XValidation:rule=`duration(self) > duration("0s") && duration(self) <= duration("1h")`,message="expected a duration of more than 0s, at most 1h, such as 30s"
	CacheFor *metav1.Duration `json:"cacheFor,omitempty"`
}

// Userinfo is an endpoint that answers with the claims of the user whose token it is shown.
type Userinfo struct {
	// Endpoint is its https URL.
	// +kubebuilder:validation:XValidation:rule=`self.matches("^(?i:https?)://[^/?#@]+([/?][^#]*)?$")`,message="expected an absolute https URL such as https://auth.example.com/userinfo, without user information and fragment"
	Endpoint string `json:"endpoint"`
	// Headers are sent beside the token, such as Supabase's apikey.
	// +kubebuilder:validation:XValidation:rule=`["Authorization", "authorization", "Host", "host", "Content-Type", "content-type", "Content-Length", "content-length", "Connection", "connection"].all(name, !(name in self))`,message="found a header that Usher sets itself, expected another header; the token is sent in Authorization, or in tokenParameter",reason=FieldValueForbidden
	Headers map[string]HeaderValue `json:"headers,omitempty"`
	// TokenParameter posts the token as this form parameter instead of an Authorization header, for Google's tokeninfo:
	// access_token.
	// +kubebuilder:validation:Pattern=`^[!-~]+$`
	TokenParameter string `json:"tokenParameter,omitempty"`
	// AnyAudience accepts an answer that does not say whom the token is for: then every application that users of the
	// provider log in to can act as them here. Such an answer refuses the token else. Default: false.
	AnyAudience bool `json:"anyAudience,omitempty"`
	// CacheFor is how long an answer is good. Default: 30s.
	// +kubebuilder:validation:XValidation:rule=`duration(self) > duration("0s") && duration(self) <= duration("1h")`,message="expected a duration of more than 0s, at most 1h, such as 30s"
	CacheFor *metav1.Duration `json:"cacheFor,omitempty"`
}

// HeaderValue is a text, or the key of a Secret.
//
// +kubebuilder:validation:XValidation:rule=`(self.?value.orValue("") != "") != has(self.secretRef)`,message="found not just one of value and secretRef, expected {value: TEXT} or {secretRef: {name: SECRET}}",reason=FieldValueForbidden
type HeaderValue struct {
	// Value is the text itself.
	Value string `json:"value,omitempty"`
	// SecretRef names the Secret that holds it. Its default key is the header's name.
	SecretRef *SecretKeyRef `json:"secretRef,omitempty"`
}

// ProofOfPossession says which proofs tokens need beyond those that they are bound to.
//
// +kubebuilder:validation:XValidation:rule=`!has(self.nonceKeyRef) || self.?nonces.orValue(false)`,message="found a key for nonces without nonces: true, expected both or none",reason=FieldValueForbidden,fieldPath=".nonceKeyRef"
type ProofOfPossession struct {
	// Required refuses bearer tokens: each must be bound to a DPoP key or to a certificate. Default: false.
	Required bool `json:"required,omitempty"`
	// Nonces asks for a nonce of Usher's own in each DPoP proof (RFC 9449, section 9). Default: false.
	Nonces bool `json:"nonces,omitempty"`
	// NonceKeyRef names the Secret with the key that nonces are made by, at least 32 bytes; all replicas need the same.
	// Its default key is "nonceKey". Default: each process makes a key of its own when it starts.
	NonceKeyRef *SecretKeyRef `json:"nonceKeyRef,omitempty"`
}
