// Package envoy writes the Envoy side of Usher: the complete, safe configuration of the proxy that asks Usher about each
// request, for the policies of a manifest.
//
// Envoy's defaults are those of a router, not of a gate: paths as they come, a client's own x-forwarded-for, a passed
// request where the check fails in one of several ways. [Bootstrap] sets each of them, and says in a comment beside it
// what it is for, so that the result can be read, compared and kept. Nothing in it depends on the time or on the machine.
//
// Part of it is edit.lua, the filter that carries out Usher's edits of a body. ext_authz cannot change a body, so Usher's
// answer carries the whole edited one as dynamic metadata, and parks the request: it rewrites :path to one that no backend
// serves and that the generated configuration refuses to forward. Only the filter restores it, as its last statement.
// Missing, misplaced or failing, it leaves a request that ends at Envoy and never one that reaches the backend unedited.
//
// The package does no I/O and knows no other of Usher's than the manifests' types.
package envoy
