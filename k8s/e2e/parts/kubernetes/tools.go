//go:build tools

// Package kubernetes pins the Kubernetes programs of the tests: they are built from this module.
package kubernetes

import (
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kubectl"
)
