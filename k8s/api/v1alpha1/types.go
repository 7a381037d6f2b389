package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Group and version of Usher's kinds, and the names of all kinds of this package; Secret and ConfigMap are Kubernetes' own, apiVersion v1.
const (
	Group                = "usher.dev"
	Version              = "v1alpha1"
	GroupVersion         = Group + "/" + Version
	KindIdentityProvider = "IdentityProvider"
	KindAuthPolicy       = "AuthPolicy"
	KindPolicyTest       = "PolicyTest"
	KindSecret           = "Secret"
	KindConfigMap        = "ConfigMap"
)

// SecretKeyRef names one key of a Secret.
type SecretKeyRef struct {
	// Name of the Secret, in the same namespace.
	// +kubebuilder:validation:Pattern=`^[0-9a-z]([0-9a-z.-]*[0-9a-z])?$`
	Name string `json:"name"`
	// Key within it. The field that holds the reference says its default.
	Key string `json:"key,omitempty"`
}

// Fields is an object whose members are free.
//
// +kubebuilder:object:generate=false
type Fields map[string]any

// DeepCopyInto copies f into out.
func (f Fields) DeepCopyInto(out *Fields) { *out = f.DeepCopy() }

// DeepCopy returns a copy that shares nothing with f.
func (f Fields) DeepCopy() Fields {
	if f == nil {
		return nil
	}
	return runtime.DeepCopyJSON(f)
}

// Status is what Usher says of an object, in a cluster.
type Status struct {
	// Conditions are Accepted (it is valid, and nothing stands against it), Programmed (an AuthPolicy is in force as it
	// stands) and Healthy (an IdentityProvider's tokens can be verified).
	//
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// The types of conditions.
const (
	ConditionAccepted   = "Accepted"
	ConditionProgrammed = "Programmed"
	ConditionHealthy    = "Healthy"
)

// Secret is Kubernetes' v1 Secret, as far as references need it.
//
// +kubebuilder:object:generate=false
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
