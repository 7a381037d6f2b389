// Package extauthz answers Envoy's ext_authz checks (envoy.service.auth.v3): it decodes a CheckRequest, has the policy
// decide, and encodes the answer.
//
// A request goes one way:
//
//	decode -> match -> route -> verify -> map -> decide -> look up -> encode
//
// It does I/O in two of these steps only: verify, on a cache miss, and look up. Every denial is an OK RPC with a
// DeniedResponse and an explicit status, so that Envoy's failure_mode_allow can never turn one into a pass. An error that
// is no *policy.Refusal, and a panic, is our own fault: 503, never 401 or 403. Tokens, claims and bodies never enter a
// log or an answer.
package extauthz
