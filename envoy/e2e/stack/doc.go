// Package stack runs the real parts of the demo and of the end-to-end tests on one machine: an OpenID provider, a
// LangGraph server without auth code, and gates, each an Usher with the Envoy before it.
//
// Everything listens on free loopback ports, works in one temporary directory, and writes its output to log files there.
// Close ends what was started, and nothing else. A part that cannot start is an error with the end of its log.
//
// The parts must have been installed by `make tools`. Nothing here mints a token: Login goes through the provider's
// authorization code flow with PKCE, form by form, as a browser would.
package stack
