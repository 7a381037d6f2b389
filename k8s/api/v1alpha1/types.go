package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Group and version of Usher's kinds, and the names of all kinds of this package; Secret is Kubernetes' own, apiVersion v1.
const (
	GroupVersion         = "usher.dev/v1alpha1"
	KindIdentityProvider = "IdentityProvider"
	KindAuthPolicy       = "AuthPolicy"
	KindPolicyTest       = "PolicyTest"
	KindSecret           = "Secret"
)

// SecretKeyRef names one key of a Secret. In a manifest it may be written as just the name.
type SecretKeyRef struct {
	// Name of the Secret.
	Name string `json:"name"`
	// Key within it. The field that holds the reference says its default.
	Key string `json:"key,omitempty"`
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
