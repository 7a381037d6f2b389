//go:build tools

// Package etcd pins the etcd of the tests: it is built from this module.
package etcd

import _ "go.etcd.io/etcd/server/v3"
