package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// OpenAPI names an OpenAPI document, version 3.0 or 3.1, JSON or YAML, whose operations are routes: just one of file and
// configMapRef.
//
// +kubebuilder:validation:XValidation:rule=`self.?file.orValue("") == "" || !has(self.configMapRef)`,message="found both file and configMapRef, expected one of them",reason=FieldValueForbidden
// +kubebuilder:validation:XValidation:rule=`self.?file.orValue("") != "" || has(self.configMapRef)`,message="found neither file nor configMapRef, expected one of them",reason=FieldValueRequired
type OpenAPI struct {
	// File is the name, without a directory, of a file that is loaded with the manifests. Nothing else is read for it.
	File string `json:"file,omitempty"`
	// ConfigMapRef names a ConfigMap that holds the document.
	ConfigMapRef *ConfigMapKeyRef `json:"configMapRef,omitempty"`
	// BasePath is what every path begins with, such as /v1. Default: what the document's servers say.
	// +kubebuilder:validation:Pattern=`^(/[^{}*?#%;\\]*)?$`
	BasePath string `json:"basePath,omitempty"`
}

// ConfigMapKeyRef names one key of a ConfigMap.
type ConfigMapKeyRef struct {
	// Name of the ConfigMap, in the same namespace.
	// +kubebuilder:validation:Pattern=`^[0-9a-z]([0-9a-z.-]*[0-9a-z])?$`
	Name string `json:"name"`
	// Key within its data. Default: openapi.yaml.
	Key string `json:"key,omitempty"`
}

// ConfigMap is Kubernetes' v1 ConfigMap, as far as references need it.
//
// +kubebuilder:object:generate=false
type ConfigMap struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// Data is plain text.
	Data map[string]string `json:"data,omitempty"`
	// BinaryData is not looked at.
	BinaryData map[string][]byte `json:"binaryData,omitempty"`
	// Immutable is not looked at.
	Immutable bool `json:"immutable,omitempty"`
}
