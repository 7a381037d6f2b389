//go:build tools

// Package helm pins the helm of the tests: it is built from this module.
package helm

import _ "helm.sh/helm/v4/cmd/helm"
