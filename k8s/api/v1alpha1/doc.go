// Package v1alpha1 holds the manifests' types, API group usher.dev/v1alpha1: the same for files and for a cluster.
//
// +kubebuilder:object:generate=true
// +groupName=usher.dev
package v1alpha1

//go:generate go run -C ../gen .
