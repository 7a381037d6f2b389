//go:build tools

// Package prometheus pins the Prometheus operator whose definition of a ServiceMonitor the tests apply.
package prometheus

import _ "github.com/prometheus-operator/prometheus-operator/pkg/versionutil"
