//go:build tools

// Package egctl pins Envoy Gateway's egctl of the tests: it is built from this module.
package egctl

import _ "github.com/envoyproxy/gateway/cmd/egctl"
