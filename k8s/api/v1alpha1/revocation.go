package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Revocation is a list of tokens, sessions and users that are not accepted any more.
type Revocation struct {
	// Redis holds the list; every replica subscribes to it.
	Redis Redis `json:"redis"`
	// BackChannelLogout takes the provider's logout tokens at the admin server (OpenID Connect Back-Channel Logout 1.0).
	BackChannelLogout *BackChannelLogout `json:"backChannelLogout,omitempty"`
}

// Redis is a server that speaks Redis' protocol.
//
// +kubebuilder:validation:XValidation:rule=`self.url.matches("^(?i:rediss?)://[^/?#@]+(/[0-9]*)?$")`,message="expected redis://HOST:PORT/DB, or rediss:// for TLS; the password goes into a Secret, see passwordRef",reason=FieldValueForbidden,fieldPath=".url"
// +kubebuilder:validation:XValidation:rule=`!has(self.caRef) || !self.url.startsWith("redis:")`,message="found certificates, and a URL without TLS, expected a rediss:// URL",reason=FieldValueForbidden,fieldPath=".caRef"
// +kubebuilder:validation:XValidation:rule=`self.?username.orValue("") == "" || has(self.passwordRef)`,message="expected the name of a Secret with the user's password",reason=FieldValueRequired,fieldPath=".passwordRef"
type Redis struct {
	// URL is redis://HOST:PORT/DB or rediss:// for TLS, without a password.
	URL string `json:"url"`
	// Username, where the server has users.
	Username string `json:"username,omitempty"`
	// PasswordRef names the Secret that holds the password. Its default key is "password".
	PasswordRef *SecretKeyRef `json:"passwordRef,omitempty"`
	// CARef names a Secret with the PEM certificates that the server is trusted by. Its default key is "ca.crt".
	CARef *SecretKeyRef `json:"caRef,omitempty"`
	// Prefix of every key and channel. Default: usher:revoked:
	// +kubebuilder:validation:MaxLength=200
	// +kubebuilder:validation:Pattern=`^[!-~]*$`
	Prefix string `json:"prefix,omitempty"`
}

// BackChannelLogout says whose logout tokens are taken.
type BackChannelLogout struct {
	// ClientIDs are the values of a logout token's `aud` of which it must carry one: the clients that users log in by.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:items:MinLength=1
	ClientIDs []string `json:"clientIDs"`
	// TokenLifetime is how long a logout is remembered: as long as the longest-lived access token. Default: 24h.
	// +kubebuilder:validation:XValidation:rule=`duration(self) >= duration("1m") && duration(self) <= duration("2160h")`,message="expected a duration of 1m to 2160h, as long as the longest-lived access token"
	TokenLifetime *metav1.Duration `json:"tokenLifetime,omitempty"`
}

// RevocationPolicy says how much the policy depends on the lists of revoked tokens that its providers have.
type RevocationPolicy struct {
	// OnUnavailable says what happens to tokens while their provider's list cannot be read: Deny answers 503, Allow goes on
	// with what is known of it. Default: Deny.
	// +kubebuilder:validation:Enum=Deny;Allow
	OnUnavailable string `json:"onUnavailable,omitempty"`
}
