// Package dryrun asks the server about a request that nobody sent: it makes the check as Envoy would, has extauthz decide it,
// and carries the answer out as Envoy would, up to what the backend would get.
//
// Only what a request depends on beside the manifests is supposed: whose token it carries and which objects exist. A
// supposed token goes through the provider's checks of claims and its mapping, a supposed object through the client that
// asks backends. Nothing is dialled: the only transport there is serves the supposed objects, and an object that is not
// among them does not exist.
//
// What it leaves out: signatures, proofs of possession, revocation, and the age of what a real server has cached.
package dryrun
