// Package e2e_test tests Usher with real parts: Envoy with the configuration that `usher envoy` writes, an OpenID
// provider with real logins, a LangGraph server that has no auth code, and LangGraph's official JavaScript SDK.
//
// Nothing here is skipped: without the parts, the tests fail and say `make tools`. No test depends on how long something
// takes; deadlines only end what hangs.
package e2e_test
